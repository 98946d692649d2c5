"""The health of an installation: versions, readable formats, a self-test, speed."""

import platform
import tempfile
import time
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import numpy.typing as npt

from quieten import __version__
from quieten.audio import probe, read_audio, readable_formats, write_audio
from quieten.batch import denoise_file
from quieten.denoise import Denoiser
from quieten.plan import FAILURES, Job, Settings, explain
from quieten.runtime import available

PACKAGES = ("numpy", "onnxruntime", "soundfile", "soxr", "typer", "rich", "pydantic", "av", "torch")
_NO_MODELS = "no models are installed: install quieten again, or pass --model FILE.onnx"
SPEED_S = 5.0  # seconds of sound that a model is timed on


@dataclass(frozen=True)
class Report:
    """What `examine` found; `problem` is empty where the self-test passed."""

    versions: dict[str, str]
    formats: dict[str, list[str]]  # decoder (or what is needed) -> suffixes
    real_time_factors: dict[str, float]  # model -> seconds of work per second of sound, one core
    problem: str

    @property
    def healthy(self) -> bool:
        """Whether the self-test passed."""
        return not self.problem


def examine() -> Report:
    """Looks at everything; what is broken becomes a part of the report, not an error."""
    models = sorted(available())
    problems = [self_test(model) for model in models] or [_NO_MODELS]
    factors = {
        model: real_time_factor(model)
        for model, problem in zip(models, problems, strict=False)
        if not problem
    }
    return Report(_versions(), _formats(), factors, "; ".join(filter(None, problems)))


def _versions() -> dict[str, str]:
    found = {"quieten": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def _formats() -> dict[str, list[str]]:
    by_decoder: dict[str, list[str]] = {}
    for suffix, decoder in sorted(readable_formats().items()):
        by_decoder.setdefault(decoder, []).append(suffix)
    return by_decoder


def _test_sound(sample_rate: int, duration_s: float) -> npt.NDArray[np.float32]:
    """Noise with a tone on the left only, (2, T)."""
    length = round(duration_s * sample_rate)
    noise = np.random.default_rng(0).normal(0, 0.05, (2, length))
    noise[0] += 0.2 * np.sin(2 * np.pi * 440 * np.arange(length) / sample_rate)
    return noise.astype(np.float32)


def self_test(model: str) -> str:
    """Denoises one second of stereo at 48 kHz from file to file; what is wrong, or ''."""
    try:
        with tempfile.TemporaryDirectory(prefix="quieten-") as folder:
            return _judge_files(model, Path(folder))
    except FAILURES as error:
        return explain(error)


def _judge_files(model: str, folder: Path) -> str:
    noisy, denoised, same = (folder / f"{name}.wav" for name in ("noisy", "denoised", "same"))
    write_audio(noisy, _test_sound(48_000, 1.0), 48_000, subtype="PCM_24")
    denoise_file(Job(noisy, denoised, settings=Settings(model)))
    denoise_file(Job(noisy, same, settings=Settings(model, attenuation_limit_db=0.0)))
    before, after = read_audio(noisy)[0], read_audio(denoised)[0]
    if after.shape != before.shape or probe(denoised).subtype != "PCM_24":
        return "the denoised file has another shape than its input: please report this"
    if not np.isfinite(after).all() or np.array_equal(before, after):
        return f"the model {model} does nothing sensible: reinstall quieten"
    if not np.array_equal(before, read_audio(same)[0]):
        return "an attenuation limit of 0 dB changes the sound: please report this"
    return ""


def real_time_factor(model: str) -> float:
    """Seconds of work per second of mono sound at 16 kHz, on one core, after a warm-up."""
    denoiser = Denoiser(model)
    sound = _test_sound(16_000, SPEED_S)[0]
    denoiser(sound[:16_000], 16_000)
    began = time.perf_counter()
    denoiser(sound, 16_000)
    return (time.perf_counter() - began) / SPEED_S
