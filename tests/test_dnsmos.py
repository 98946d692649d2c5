"""DNSMOS: figures of the published code, its windows, and what it refuses.

The figures were taken from `speechmos` 0.0.1.1 itself; that package is looked for, never imported.
"""

import sys
from importlib.util import find_spec

import numpy as np
import pytest

from quieten import dnsmos as module
from quieten.dnsmos import Dnsmos, dnsmos
from quieten.errors import AudioError, MissingExtra

RATE = 16_000
WINDOW = 144_160
needs_network = pytest.mark.skipif(
    find_spec("speechmos") is None, reason='needs pip install "quieten[eval]"'
)


class FakeNetwork:
    """Gives the same raw scores for every window and keeps the windows."""

    raw = (3.0, 2.0, 2.5)

    def __init__(self):
        self.windows = []

    def run(self, names, inputs):
        assert names is None
        window = inputs["input_1"]
        assert window.dtype == np.float32 and window.shape == (1, WINDOW)
        self.windows.append(window[0])
        return [np.array([self.raw], np.float32)]


@pytest.fixture
def network(monkeypatch):
    fake = FakeNetwork()
    monkeypatch.setattr(module, "_network", lambda: "fake.onnx")
    monkeypatch.setattr(module, "_session", lambda path: fake)
    module._score.cache_clear()
    yield fake
    module._score.cache_clear()


@needs_network
@pytest.mark.parametrize(
    ("noise_level", "expected"),
    [
        (0.01, Dnsmos(sig=3.276057, bak=2.109541, ovrl=2.032597)),
        (0.05, Dnsmos(sig=1.190048, bak=1.130219, ovrl=1.074529)),
    ],
)
def test_figures_are_those_of_the_published_code(speech_like, rng, noise_level, expected):
    """Twelve seconds are three windows. 1e-3: onnxruntime's kernels differ between processors."""
    speech = speech_like(12.0)
    noisy = speech + noise_level * rng.standard_normal(speech.size)
    assert dnsmos(noisy, RATE) == pytest.approx(expected, abs=1e-3)
    assert "speechmos" not in sys.modules


@needs_network
def test_an_independent_computation_agrees(rng):
    ort = pytest.importorskip("onnxruntime")
    noise = (0.05 * rng.standard_normal(10 * RATE)).astype(np.float32)
    session = ort.InferenceSession(str(module._network()), providers=["CPUExecutionProvider"])
    sig, bak, ovrl = session.run(None, {"input_1": noise[None, :WINDOW]})[0][0]
    scores = dnsmos(noise, RATE)
    assert scores.sig == pytest.approx(-0.08397278 * sig**2 + 1.22083953 * sig + 0.0052439)
    assert scores.bak == pytest.approx(-0.13166888 * bak**2 + 1.60915514 * bak - 0.39604546)
    assert scores.ovrl == pytest.approx(-0.06766283 * ovrl**2 + 1.11546468 * ovrl + 0.04602535)


def test_calibration_is_a_polynomial_of_each_score(network):
    scores = dnsmos(np.ones(RATE), RATE)
    assert scores.sig == pytest.approx(-0.08397278 * 9 + 1.22083953 * 3 + 0.0052439)
    assert scores.bak == pytest.approx(-0.13166888 * 4 + 1.60915514 * 2 - 0.39604546)
    assert scores.ovrl == pytest.approx(-0.06766283 * 6.25 + 1.11546468 * 2.5 + 0.04602535)


@pytest.mark.parametrize(
    ("length", "count"),
    [
        (WINDOW, 1),
        (10 * RATE, 1),
        (11 * RATE - 1, 1),
        (11 * RATE, 2),
        (12 * RATE, 3),
        (16 * RATE, 7),
        (17 * RATE, 7),  # from here the published code skips windows that rounding cuts short
        (30 * RATE, 7),
        (34 * RATE, 8),
    ],
)
def test_a_window_every_second_as_published(network, length, count):
    sound = np.arange(length, dtype=np.float32)
    dnsmos(sound, RATE)
    assert len(network.windows) == count
    for second, window in enumerate(network.windows[:7]):
        np.testing.assert_array_equal(window, sound[second * RATE :][:WINDOW])


@pytest.mark.parametrize("length", [1, RATE, 3 * RATE + 1, WINDOW - 1])
def test_short_sound_is_doubled_until_it_fills_a_window(network, length):
    sound = np.arange(length, dtype=np.float32)
    dnsmos(sound, RATE)
    for second, window in enumerate(network.windows):
        index = (np.arange(WINDOW) + second * RATE) % length
        np.testing.assert_array_equal(window, sound[index])
    doubled = length * 2 ** int(np.ceil(np.log2(WINDOW / length)))
    assert len(network.windows) == min(int(doubled // RATE - 9.01) + 1, 7)


def test_one_run_gives_three_scores_and_changed_sound_is_rated_anew(network):
    sound = np.ones(10 * RATE, np.float32)
    first = dnsmos(sound, RATE)
    assert dnsmos(sound.astype(np.float64), RATE) is first and len(network.windows) == 1
    sound[5] = 0.5  # in place: the same array, another sound
    dnsmos(sound, RATE)
    assert len(network.windows) == 2 and network.windows[1][5] == 0.5


@pytest.mark.parametrize(
    ("waveform", "sample_rate", "message"),
    [
        (np.ones(48_000), 48_000, "wants 16000 Hz, not 48000: resample"),
        (np.ones(8000), 8000, "not 8000"),
        (np.ones((1, RATE)), RATE, "one channel"),
        (np.ones(0), RATE, "with sound"),
        (np.full(RATE, np.nan), RATE, "NaN"),
        (np.full(RATE, -np.inf), RATE, "infinity"),
    ],
)
def test_what_cannot_be_rated_is_refused(waveform, sample_rate, message):
    with pytest.raises(AudioError, match=message):
        dnsmos(waveform, sample_rate)


def test_missing_package_names_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "speechmos", None)
    with pytest.raises(MissingExtra, match=r"quieten\[eval\]"):
        dnsmos(np.ones(RATE), RATE)


def test_a_package_without_the_network_counts_as_missing(monkeypatch, tmp_path):
    (tmp_path / "speechmos").mkdir()
    (tmp_path / "speechmos" / "__init__.py").write_text("raise SystemExit('imported')")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(MissingExtra, match="DNSMOS"):
        dnsmos(np.ones(RATE), RATE)
