"""Tiny folders of voices and noises made by code, and the settings of a run over them."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray

torch.set_num_threads(1)  # the networks are tiny: more threads only wait for each other

RATE = 16_000
Waveform = NDArray[np.float32]


def make_voice(seed: int, seconds: float, sample_rate: int = RATE) -> Waveform:
    """Harmonics under syllables, with a hiss at each onset: what the tests take for speech."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * sample_rate)) / sample_rate
    pitch_hz = rng.uniform(90, 220)
    harmonics = np.arange(1, int(5000 / pitch_hz))
    voice = np.sin(2 * np.pi * pitch_hz * time[:, None] * harmonics) @ (1 / harmonics)
    syllables = np.sin(2 * np.pi * 3.1 * time + rng.uniform(0, 6)).clip(0)
    hiss = 0.1 * rng.standard_normal(time.size) * np.cos(2 * np.pi * 3.1 * time).clip(0)
    waveform = voice * syllables + hiss
    return np.asarray(0.4 * waveform / np.abs(waveform).max(), dtype=np.float32)


def make_hiss(seed: int, seconds: float) -> Waveform:
    rng = np.random.default_rng(seed)
    return np.asarray(0.1 * rng.standard_normal(round(seconds * RATE)), dtype=np.float32)


def write_all(folder: Path, sounds: dict[str, Waveform]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, waveform in sounds.items():
        soundfile.write(folder / name, waveform, RATE, subtype="PCM_16")
    return folder


@pytest.fixture(scope="session")
def voice() -> Callable[..., Waveform]:
    """A function (seed, seconds, sample_rate=16_000) -> float32 (T,)."""
    return make_voice


@pytest.fixture(scope="session")
def write_sounds() -> Callable[[Path, dict[str, Waveform]], Path]:
    """A function (folder, {name: waveform}) -> folder that writes 16 kHz files."""
    return write_all


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders clean (three speakers), noise, rir, valid_clean, valid_noise and a cache."""
    root = tmp_path_factory.mktemp("data")
    room = np.zeros(4000, dtype=np.float32)
    room[40], room[900] = 0.8, 0.3
    speakers = {"anna": 100, "ben": 200, "cleo": 300}
    sounds = {
        "clean": {
            f"{who}_{i}.wav": make_voice(seed + i, 1.3)
            for who, seed in speakers.items()
            for i in (1, 2)
        },
        "noise": {f"{kind}_{i}.wav": make_hiss(i, 2.0) for i, kind in enumerate(("fan", "street"))},
        "rir": {"hall.wav": room},
        "valid_clean": {f"dora_{i}.wav": make_voice(500 + i, 1.6) for i in range(2)},
        "valid_noise": {"rain_1.wav": make_hiss(9, 2.0)},
    }
    made = {name: write_all(root / name, files) for name, files in sounds.items()}
    return made | {"cache": root / "cache"}


@pytest.fixture(scope="session")
def overrides(folders: dict[str, Path]) -> list[str]:
    """Changes that make the packaged configuration of `realtime` a run of two seconds."""

    def names(key: str) -> str:
        return json.dumps([str(folders[key])])

    return [
        f"data.clean={names('clean')}",
        f"data.noise={names('noise')}",
        f"data.rir={names('rir')}",
        f"data.cache={json.dumps(str(folders['cache']))}",
        f"validation.clean={names('valid_clean')}",
        f"validation.noise={names('valid_noise')}",
        "data.segment_s=0.512",
        "data.batch_size=2",
        "model.channels=[4, 4, 4]",
        "model.full_band=8",
        "model.sub_band_layers=1",
        "optimizer.warmup_steps=2",
        "validation.items=2",
        "validation.seconds=1.5",
        "validation.every_steps=2",
        "checkpoint_every_steps=2",
        "log_every_steps=1",
        "precision=float32",
        "threads=1",
        "steps=4",
    ]


@pytest.fixture
def tiny(overrides: list[str]):
    """A function (*more overrides) -> TrainConfig of a tiny run."""
    from quieten.training.config import load_config

    return lambda *more: load_config("realtime", [*overrides, *more])


@pytest.fixture(autouse=True)
def torch_as_found() -> Iterator[None]:
    """Training sets threads and the flushing of denormals: other tests do not see it."""
    import torch

    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    torch.set_flush_denormal(False)


@pytest.fixture(scope="session")
def telephone_overrides(overrides: list[str]) -> list[str]:
    """Changes that make the packaged configuration of `vqvae_unet` a run of a few seconds."""
    kept = [o for o in overrides if not o.startswith(("model.", "validation.noise"))]
    return [
        *kept,
        "model.channels=[8, 8, 8, 8]",
        "model.head=4",
        "model.hidden=8",
        "model.full_band=8",
        "model.sub_band_layers=1",
        "model.codebook_size=16",
        "model.codebook_dim=8",
        "model.codebook_groups=2",
        "model.quantize_from_step=1",
        "model.window_frames=24",
        "model.margin_frames=4",
    ]


@pytest.fixture
def telephone(telephone_overrides: list[str]):
    """A function (*more overrides) -> TrainConfig of a tiny run of `vqvae_unet`."""
    from quieten.training.config import load_config

    return lambda *more: load_config("vqvae_unet", [*telephone_overrides, *more])
