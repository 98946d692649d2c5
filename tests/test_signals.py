"""Signals of any length: the windows, their average, and words about what does not fit."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import tiny_model
import tiny_signal_model
from quieten import runtime, signals
from quieten.baselines import load_any
from quieten.errors import AudioError, ConfigError, ModelError
from quieten.signals import (
    SignalDenoiser,
    SignalModel,
    denoise_signal,
    is_signal_model,
    load_signal_model,
)

WINDOW = 64


@pytest.fixture
def projection(tmp_path: Path) -> SignalModel:
    """A model that keeps slow waves, window by window."""
    return load_signal_model(tiny_signal_model.projection(tmp_path))


def averaged_by_definition(
    model: SignalModel, waveform: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The overlapping windows of a signal (T,), T >= W, one after the other."""
    weights = np.sin(np.pi * (np.arange(WINDOW) + 0.5) / WINDOW) ** 2
    total, weight = np.zeros(len(waveform)), np.zeros(len(waveform))
    last = len(waveform) - WINDOW
    for start in sorted({*range(0, last + 1, WINDOW // 4), last}):
        window = waveform[None, start : start + WINDOW].astype(np.float32)
        total[start : start + WINDOW] += weights * model.run(window)[0]
        weight[start : start + WINDOW] += weights
    return total / weight


def test_info_is_what_the_file_says(tmp_path: Path) -> None:
    path = tiny_signal_model.gain(tmp_path, name="ours", sample_rate="0.5", parameters="37")
    info = load_signal_model(path).info
    assert (info.name, info.family, info.version, info.licence) == ("ours", "tiny", "1", "MIT")
    assert (info.sample_rate, info.window, info.phase) == (0.5, 64, "any")
    assert (info.parameters, info.scores, info.path) == (37, {"snr_db": 9.5}, path)
    assert info.size_bytes == path.stat().st_size
    assert info.latency_ms == 128_000


def test_run_gives_windows_for_windows(tmp_path: Path, rng: np.random.Generator) -> None:
    model = load_signal_model(tiny_signal_model.gain(tmp_path, 0.5))
    noisy = rng.standard_normal((3, WINDOW)).astype(np.float32)
    np.testing.assert_array_equal(model.run(noisy), 0.5 * noisy)
    with pytest.raises(AudioError, match=r"pass \(batch, 64\), float32"):
        model.run(noisy[:, 1:])


@pytest.mark.parametrize("phase", ["any", "zero"])
@pytest.mark.parametrize("length", [0, 1, 2, 63, 64, 65, 80, 127, 128, 129, 1000])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_identity_gives_the_signal_at_any_length(
    tmp_path: Path, rng: np.random.Generator, phase: str, length: int, dtype: type
) -> None:
    model = load_signal_model(tiny_signal_model.gain(tmp_path, phase=phase))
    noisy = rng.standard_normal((2, length)).astype(dtype)
    denoised = denoise_signal(model, noisy)
    assert denoised.shape == noisy.shape
    assert denoised.dtype == dtype
    np.testing.assert_allclose(denoised, noisy, atol=1e-6)


@pytest.mark.parametrize("length", [64, 65, 79, 80, 81, 200, 1001])
def test_overlapping_windows_are_averaged_with_hann_weights(
    projection: SignalModel, rng: np.random.Generator, length: int
) -> None:
    noisy = rng.standard_normal(length)
    denoised = denoise_signal(projection, noisy)
    np.testing.assert_allclose(denoised, averaged_by_definition(projection, noisy), atol=1e-5)


def test_windows_of_zero_phase_stand_side_by_side(tmp_path: Path) -> None:
    model = load_signal_model(tiny_signal_model.ramp(tmp_path, phase="zero"))
    denoised = denoise_signal(model, np.ones((1, 150)))
    np.testing.assert_array_equal(denoised[0], np.arange(150) % WINDOW)


def test_the_last_window_of_zero_phase_is_filled_with_zeros(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    model = load_signal_model(tiny_signal_model.projection(tmp_path, phase="zero"))
    noisy = rng.standard_normal(100).astype(np.float32)
    expected = model.run(np.pad(noisy[WINDOW:], (0, 28))[None])[0, :36]
    np.testing.assert_allclose(denoise_signal(model, noisy)[WINDOW:], expected, atol=1e-6)


def test_a_short_signal_is_reflected(projection: SignalModel, rng: np.random.Generator) -> None:
    noisy = rng.standard_normal(40).astype(np.float32)
    expected = projection.run(np.pad(noisy, (0, 24), mode="reflect")[None])[0, :40]
    np.testing.assert_allclose(denoise_signal(projection, noisy), expected, atol=1e-6)


@pytest.mark.parametrize("phase", ["any", "zero"])
@pytest.mark.parametrize("size", [1, 7, 64, 300, 999])
def test_blocks_give_what_the_whole_signal_gives(
    tmp_path: Path, rng: np.random.Generator, phase: str, size: int
) -> None:
    model = load_signal_model(tiny_signal_model.projection(tmp_path, phase=phase))
    noisy = rng.standard_normal((2, 999))
    stream = SignalDenoiser(model).stream(256, 2)
    for _ in range(2):  # after a flush it starts afresh
        parts = [stream.feed(noisy[:, i : i + size]) for i in range(0, 999, size)]
        denoised = np.concatenate([*parts, stream.flush()], axis=1)
        np.testing.assert_allclose(denoised, denoise_signal(model, noisy), atol=1e-6)
    assert stream.flush().shape == (2, 0)


def test_the_result_does_not_depend_on_the_batch(
    projection: SignalModel, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    noisy = rng.standard_normal((3, 2000))
    whole = denoise_signal(projection, noisy)
    monkeypatch.setattr(signals, "MAX_WINDOWS", 5)
    np.testing.assert_allclose(denoise_signal(projection, noisy), whole, atol=1e-6)
    for channel in range(3):
        alone = denoise_signal(projection, noisy[channel])
        np.testing.assert_allclose(alone, whole[channel], atol=1e-6)


def test_overlap_removes_more_noise_than_side_by_side(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    clean = np.sin(2 * np.pi * 5.3 * np.arange(4096) / 256)
    noisy = clean + 0.5 * rng.standard_normal(4096)
    errors = []
    for phase in ("any", "zero"):
        path = tiny_signal_model.projection(tmp_path, phase=phase, name=phase)
        errors.append(float(np.std(denoise_signal(load_signal_model(path), noisy) - clean)))
    assert errors[0] < 0.95 * errors[1] < 0.5


def test_attenuation_limit_keeps_a_share_of_the_noise(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    model = load_signal_model(tiny_signal_model.gain(tmp_path, 0.0))
    noisy = rng.standard_normal((1, 300)).astype(np.float32)
    limited = SignalDenoiser(model, attenuation_limit_db=20.0)(noisy, 256)
    np.testing.assert_allclose(limited, 0.1 * noisy, atol=1e-6)
    np.testing.assert_array_equal(SignalDenoiser(model, attenuation_limit_db=0.0)(noisy), noisy)
    with pytest.raises(ConfigError, match="use 0"):
        SignalDenoiser(model, attenuation_limit_db=-1.0)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_sample_that_is_no_number_is_named(projection: SignalModel, bad: float) -> None:
    noisy = np.zeros((2, 300))
    noisy[1, 256] = bad
    with pytest.raises(AudioError, match="sample 257 of channel 2 is NaN or infinite"):
        denoise_signal(projection, noisy)
    stream = SignalDenoiser(projection).stream(n_channels=2)
    stream.feed(noisy[:, :200])
    with pytest.raises(AudioError, match="sample 257 of channel 2"):
        stream.feed(noisy[:, 200:])


def test_shapes_types_and_rates_that_do_not_fit(projection: SignalModel) -> None:
    with pytest.raises(AudioError, match="float32 or float64"):
        denoise_signal(projection, np.zeros(100, np.int16))  # type: ignore[arg-type]
    with pytest.raises(AudioError, match=r"feed \(2, T\)"):
        SignalDenoiser(projection).stream(256, 2).feed(np.zeros((3, 10)))
    with pytest.raises(AudioError, match=r"has 250 Hz.* is for 256 Hz: resample it"):
        SignalDenoiser(projection)(np.zeros(100), 250)
    assert SignalDenoiser(projection)(np.zeros(100), 256.001).shape == (100,)


def test_a_model_that_gives_nan_is_an_error(tmp_path: Path) -> None:
    model = load_signal_model(tiny_signal_model.gain(tmp_path, float("nan")))
    with pytest.raises(ModelError, match="no numbers"):
        denoise_signal(model, np.ones(100))


def test_the_two_kinds_of_models_are_told_apart(tmp_path: Path) -> None:
    waveform, mask = tiny_signal_model.gain(tmp_path), tiny_model.constant(tmp_path)
    assert is_signal_model(waveform)
    assert not is_signal_model(mask)
    assert not is_signal_model(tmp_path / "missing.onnx")
    for load in (runtime.load, load_any):
        with pytest.raises(ModelError, match="is a waveform model, for 1-D signals"):
            load(waveform)
    with pytest.raises(ModelError, match="is a model of spectra for sound, not of waveforms"):
        load_signal_model(mask)


def test_names_are_the_files_of_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "WEIGHTS", tmp_path)
    with pytest.raises(ModelError, match="none is installed"):
        load_signal_model("signals")
    path = tiny_signal_model.gain(tmp_path, name="signals")
    tiny_model.constant(tmp_path, name="speech")
    assert runtime.available_waveform() == {"signals": path}
    assert list(runtime.available()) == ["speech"]
    assert is_signal_model("signals")
    assert not is_signal_model("speech")
    assert load_signal_model("signals").info.path == path
    for load, name, words in (
        (load_any, "signals", "is a waveform model"),
        (load_signal_model, "speech", "of spectra for sound"),
        (load_signal_model, "sinus", "unknown waveform model 'sinus'; known: signals"),
        (load_signal_model, "no/such.onnx", "no such model file"),
    ):
        with pytest.raises(ModelError, match=words):
            load(name)


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ({"phase": ""}, "broken metadata"),
        ({"phase": "some"}, "broken metadata .* phase some"),
        ({"window": ""}, "broken metadata"),
        ({"sample_rate": "-1"}, "a rate of -1"),
        ({"scores": "["}, "broken metadata"),
        ({"quieten_format": ""}, "lacks the metadata of quieten"),
        ({"kind": ""}, "of spectra for sound"),
    ],
)
def test_broken_metadata_are_named(tmp_path: Path, metadata: dict[str, str], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        load_signal_model(tiny_signal_model.gain(tmp_path, **metadata))


def test_inputs_must_fit_the_metadata(tmp_path: Path) -> None:
    nodes = [tiny_signal_model.helper.make_node("Identity", ["sound"], ["denoised"])]
    path = tiny_signal_model.write(tmp_path, nodes, {}, {}, input_name="sound")
    with pytest.raises(ModelError, match="inputs and outputs do not fit"):
        load_signal_model(path)
