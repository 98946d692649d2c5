"""Fixtures that all tests share: a seeded generator, sounds made by code, no network.

Nothing here needs torch; tests below tests/training and tests marked `torch` are skipped where
it is missing.
"""

import socket
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
HAS_TORCH = find_spec("torch") is not None
LOCAL_HOSTS = {"localhost", "127.0.0.1", "::1", "0.0.0.0", "::", "", None}

Waveform = NDArray[np.float32]

# Same examples every time; a loaded machine is no failure.
settings.register_profile("quieten", deadline=None, derandomize=True, database=None)
settings.load_profile("quieten")

collect_ignore_glob = [] if HAS_TORCH else ["training/*"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks what lies below tests/training as `torch`; skips `torch` tests without torch."""
    missing = pytest.mark.skip(reason='needs torch: pip install "quieten[train]"')
    for item in items:
        if ROOT / "tests" / "training" in item.path.parents:
            item.add_marker(pytest.mark.torch)
        if not HAS_TORCH and item.get_closest_marker("torch"):
            item.add_marker(missing)


def is_local(address: object) -> bool:
    """Whether a socket address stays on this machine (Unix sockets have a path, not a pair)."""
    if not isinstance(address, tuple):
        return True
    return address[0] in LOCAL_HOSTS or str(address[0]).startswith("127.")


@pytest.fixture(autouse=True, scope="session")
def no_network() -> Iterator[None]:
    """Connections that would leave this machine fail; localhost (torch's gloo) may be used."""
    connect, connect_ex = socket.socket.connect, socket.socket.connect_ex
    getaddrinfo = socket.getaddrinfo

    def refuse(address: object) -> None:
        if not is_local(address):
            raise RuntimeError(f"a test wanted the network: {address!r}")

    def guarded_connect(self: socket.socket, address: object) -> None:
        refuse(address)
        connect(self, address)

    def guarded_connect_ex(self: socket.socket, address: object) -> int:
        refuse(address)
        return connect_ex(self, address)

    def guarded_getaddrinfo(host: object, *args: object, **kwargs: object) -> object:
        if isinstance(host, str) and host != socket.gethostname():
            refuse((host, 0))
        return getaddrinfo(host, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", guarded_connect)
        patch.setattr(socket.socket, "connect_ex", guarded_connect_ex)
        patch.setattr(socket, "getaddrinfo", guarded_getaddrinfo)
        yield


@pytest.fixture
def rng() -> np.random.Generator:
    """A generator with a fixed seed, fresh for every test."""
    return np.random.default_rng(20261120)


def formant_gain(frequency_hz: NDArray[np.float64], vowel: int) -> NDArray[np.float64]:
    """Amplitude of a vocal tract with three formants at these frequencies."""
    formants_hz = ((730, 1090, 2440), (270, 2290, 3010), (300, 870, 2240), (530, 1840, 2480))
    gain = np.zeros_like(frequency_hz)
    for number, centre_hz in enumerate(formants_hz[vowel % len(formants_hz)]):
        width_hz = 60 + 40 * number
        gain += 1 / (1 + ((frequency_hz - centre_hz) / width_hz) ** 2) / (1 + number)
    return gain


def make_syllable(rng: np.random.Generator, length: int, sample_rate: int) -> NDArray[np.float64]:
    """A hiss and then a vowel with a falling pitch: about 0.25 s of something like speech."""
    hiss_length = length // 4
    seconds = np.arange(length - hiss_length) / sample_rate
    pitch_hz = rng.uniform(95, 220) * (1 - 0.25 * seconds)
    phase = 2 * np.pi * np.cumsum(pitch_hz) / sample_rate
    harmonics = np.arange(1, int(min(sample_rate / 2, 5000) / pitch_hz.max()))
    gains = formant_gain(harmonics * pitch_hz.mean(), int(rng.integers(4))) + 0.02 / harmonics
    vowel = np.sin(phase[:, None] * harmonics) @ gains
    vowel *= np.hanning(len(vowel)) / np.max(np.abs(vowel))
    hiss = np.diff(rng.standard_normal(hiss_length + 1)) * np.hanning(hiss_length)
    return np.concatenate([0.08 * hiss, vowel])


@pytest.fixture
def speech_like() -> Callable[..., Waveform]:
    """A function (duration_s=2.0, sample_rate=16_000, seed=0) -> float32 (T,), peak 0.5.

    Harmonic pulses through formants, hisses and pauses: what the tests take for speech.
    """

    def make(duration_s: float = 2.0, sample_rate: int = 16_000, seed: int = 0) -> Waveform:
        rng = np.random.default_rng(seed)
        length = round(duration_s * sample_rate)
        waveform = np.zeros(length + sample_rate)
        start = round(0.1 * sample_rate)
        while start < length:
            syllable = make_syllable(rng, round(rng.uniform(0.18, 0.3) * sample_rate), sample_rate)
            waveform[start : start + len(syllable)] += rng.uniform(0.4, 1.0) * syllable
            start += len(syllable) + round(rng.choice([0.02, 0.05, 0.3]) * sample_rate)
        waveform = waveform[:length]
        return np.asarray(0.5 * waveform / max(np.max(np.abs(waveform)), 1e-9), dtype=np.float32)

    return make


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real recordings beside the checkout; skips where there is none."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no real recordings beside the checkout (../shared/data)")
    return folder
