"""Restoring: what is added comes where it belongs, at any rate, in any blocks, for any channel."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import tiny_model
import tiny_signal_model
from quieten import cli, runtime
from quieten.audio import probe, read_audio, write_audio
from quieten.errors import AudioError, ConfigError
from quieten.restore import TASKS, Restorer
from quieten.runtime import load, rectify
from quieten.stft import stft

RATE = 16_000  # of the tiny model


@pytest.fixture
def restorer(tmp_path):
    """A function (gain, added, share, **settings) -> Restorer with a tiny model."""

    def make(gain=1.0, added=0.0, share=0.0, **settings):
        model = load(tiny_model.restorer(tmp_path, gain, added, share))
        return Restorer(model=model, **settings)

    return make


@pytest.fixture
def music(rng):
    """Two seconds of two channels that differ, (C, T)."""
    time = np.arange(2 * RATE) / RATE
    tones = [np.sin(2 * np.pi * f * time) * np.exp(-time) for f in (440, 660)]
    return (0.1 * np.stack(tones) + 0.001 * rng.standard_normal((2, time.size))).astype(np.float32)


def test_rectified_frames_are_those_of_the_rectified_sound(music):
    spectra, rectified = (
        stft(sound, 512, 256).swapaxes(-1, -2) for sound in (music, np.abs(music))
    )
    view = np.ascontiguousarray(spectra).view(np.float32).reshape(*spectra.shape, 2)
    made = rectify(view, 512).view(np.complex64)[..., 0]
    np.testing.assert_allclose(made, rectified, atol=1e-5)


def test_what_is_added_lies_on_top(restorer, music):
    np.testing.assert_allclose(restorer()(music, RATE), music, atol=1e-6)
    both = restorer(0.5, 0.25)(music, RATE)
    np.testing.assert_allclose(both, 0.5 * music + 0.25 * np.abs(music), atol=1e-6)


def test_nothing_is_changed_at_strength_0(restorer, music):
    np.testing.assert_array_equal(restorer(0.5, 0.25, strength_db=0.0)(music, RATE), music)
    half = restorer(0.0, 0.5, strength_db=20 * np.log10(2))(music, RATE)
    np.testing.assert_allclose(half, 0.5 * music + 0.25 * np.abs(music), atol=1e-6)


@pytest.mark.parametrize("rate", [8000, 16_000, 22_050, 44_100, 48_000])
def test_at_any_rate_as_many_samples_come_out(restorer, music, rate):
    restored = restorer(0.9, 0.1)(music, rate)
    assert restored.shape == music.shape and restored.dtype == music.dtype


def test_what_is_added_has_its_level_at_any_rate(restorer):
    """A sine stays as it is, and its second harmonic is that of the rectified one, below 8 kHz."""
    for rate in (16_000, 32_000, 48_000):
        time = np.arange(2 * rate) / rate
        sine = (0.1 * np.sin(2 * np.pi * 500 * time)).astype(np.float32)
        levels = np.abs(np.fft.rfft(restorer(1.0, 1.0)(sine, rate)[rate // 2 : -rate // 2])) / rate
        assert 2 * levels[500] == pytest.approx(0.1, rel=0.01)  # a bin a hertz
        assert 2 * levels[1000] == pytest.approx(0.1 * 4 / (3 * np.pi), rel=0.02)


@pytest.mark.parametrize("window_batch", [1, 2, 3, 16])
@pytest.mark.parametrize("rates", [(RATE, RATE), (11_025, 44_100), (48_000, 32_000)])
def test_neither_blocks_nor_batches_change_a_sample(restorer, music, rates, window_batch, rng):
    rate, out_rate = rates
    whole = restorer(0.8, 0.3, 0.2, rate=out_rate)(music, rate)
    stream = restorer(0.8, 0.3, 0.2, rate=out_rate, window_batch=window_batch).stream(rate, 2)
    parts, start = [], 0
    while start < music.shape[1]:
        length = int(rng.integers(1, 9000))
        parts.append(stream.feed(music[:, start : start + length]))
        start += length
    parts.append(stream.flush())
    # ONNX Runtime may add up in another order where several windows are in one call
    rounding = 0 if window_batch == 1 else 1e-7
    np.testing.assert_allclose(np.concatenate(parts, axis=1), whole, rtol=0, atol=rounding)
    again = np.concatenate([stream.feed(music), stream.flush()], axis=1)
    np.testing.assert_allclose(again, whole, rtol=0, atol=rounding)  # a flush leaves nothing behind


def test_channels_are_restored_alone(restorer, music):
    both = restorer(0.8, 0.3, 0.2)(music, RATE)
    for channel, alone in zip(both, music, strict=True):
        np.testing.assert_array_equal(channel, restorer(0.8, 0.3, 0.2)(alone, RATE))


def test_rates_of_the_result(restorer, music):
    assert restorer(rate=44_100)(music, RATE).shape == (2, 88_200)
    assert restorer()(music, 5000).shape == (2, -(-music.shape[1] * 8000 // 5000))
    upward = restorer(task="super-resolution")
    assert [upward.output_rate(rate) for rate in (5000, RATE, 44_100)] == [RATE, RATE, 44_100]
    assert restorer().output_rate(5000) == 8000


def test_resampling_keeps_the_place(restorer):
    time = np.arange(RATE) / RATE
    sine = (0.1 * np.sin(2 * np.pi * 440 * time)).astype(np.float32)
    upward = restorer(rate=48_000)(sine, RATE)
    expected = 0.1 * np.sin(2 * np.pi * 440 * np.arange(48_000) / 48_000)
    np.testing.assert_allclose(upward[3000:-3000], expected[3000:-3000], atol=1e-4)


def test_odd_samples_stay_finite(restorer, music):
    music[0, 1000], music[1, 2000] = np.nan, np.inf
    for rate in (None, 44_100):
        assert np.isfinite(restorer(0.9, 0.1, rate=rate)(music, RATE)).all()


def test_models_of_waveforms_restore_as_well(tmp_path, music):
    path = tiny_signal_model.gain(tmp_path, 0.5, sample_rate="8000")
    restored = Restorer(model=path, rate=RATE)(music, RATE)
    assert restored.shape == music.shape
    low = Restorer(model=path, rate=8000)(music[:, ::2], 8000)
    np.testing.assert_allclose(low, 0.5 * music[:, ::2], atol=1e-6)
    music[0, 5] = np.nan
    assert np.isfinite(Restorer(model=path)(music, RATE)).all()


@pytest.mark.parametrize("setting", [{"strength_db": 0.0}, {"window_batch": 2}])
def test_what_a_model_of_waveforms_cannot_do_is_said(tmp_path, setting):
    path = tiny_signal_model.gain(tmp_path, 0.5, sample_rate="8000")
    with pytest.raises(ConfigError, match="leave both out"):
        Restorer(model=path, **setting)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"task": "repair"}, "choose among super-resolution, denoise, dereverb, all"),
        ({"rate": 1000}, "choose one from 8000"),
        ({"strength_db": -1.0}, "use 0"),
        ({"window_batch": 0}, "use 1 or more"),
    ],
)
def test_wrong_settings_say_what_fits(restorer, settings, words):
    with pytest.raises(ConfigError, match=words):
        restorer(**settings)


def test_wrong_blocks_say_what_fits(restorer, music):
    with pytest.raises(AudioError, match="1000 to"):
        restorer()(music, 500)
    stream = restorer().stream(RATE, 2)
    with pytest.raises(AudioError, match=r"feed \(2, T\)"):
        stream.feed(music[0])
    with pytest.raises(AudioError, match=r"feed \(2, T\)"):
        stream.feed(music[:1])


@pytest.fixture
def quieten(tmp_path, monkeypatch):
    """A function that runs `quieten restore ARGS`; the tiny model stands for all tasks."""
    weights = tmp_path / "weights"
    weights.mkdir()
    for name in TASKS.values():
        tiny_model.restorer(weights, 0.5, 0.25, name=name)
    monkeypatch.setattr(runtime, "WEIGHTS", weights)
    monkeypatch.chdir(tmp_path)

    def run(*args):
        return CliRunner().invoke(cli.app, ["restore", *args], prog_name="quieten")

    return run


@pytest.fixture
def song(tmp_path, music):
    path = tmp_path / "song.flac"
    write_audio(path, music, RATE, tags={"title": "Étude"})
    return path


@pytest.mark.parametrize("task", TASKS)
def test_a_file_is_restored(quieten, song, task, music):
    result = quieten("song.flac", "--task", task)
    assert result.exit_code == 0 and "song.quieten.flac" in result.output
    restored, rate = read_audio(song.with_name("song.quieten.flac"))
    assert rate == RATE and probe("song.quieten.flac").tags["title"] == "Étude"
    np.testing.assert_allclose(restored, 0.5 * music + 0.25 * np.abs(music), atol=1e-4)


def test_another_rate(quieten, song):
    result = quieten("song.flac", "-o", "out.wav", "--rate", "44100", "--json")
    (file,) = json.loads(result.output)["files"]
    assert (file["sample_rate"], file["frames"], file["channels"]) == (44_100, 88_200, 2)
    assert file["duration_s"] == 2.0 and probe("out.wav").sample_rate == 44_100


def test_the_residual_is_what_was_taken_and_given(quieten, song, music):
    assert quieten("song.flac", "-o", "a.wav", "--residual", "b.wav").exit_code == 0
    total = read_audio("a.wav")[0] + read_audio("b.wav")[0]
    np.testing.assert_allclose(total, music, atol=1e-4)
    result = quieten("song.flac", "-o", "c.wav", "--residual", "d.wav", "--rate", "44100")
    assert result.exit_code == 1 and "leaves no residual" in result.output
    assert not Path("c.wav").exists()


def test_mistakes_end_in_one_line(quieten, song):
    for args, words in (
        (["none.wav"], "none.wav"),
        (["song.flac", "--rate", "100"], "choose one from 8000"),
        (["song.flac", "--model", "none.onnx"], "no such model file"),
        (["song.flac", "--collaborative"], "--collaborative needs --model"),
    ):
        result = quieten(*args)
        assert result.exit_code == 1 and words in result.output
        assert len(result.output.strip().splitlines()) == 1
