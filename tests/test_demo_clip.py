"""The script that makes the demo clip: each noise is what its name says, and runs repeat."""

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import soundfile

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "make_demo_clip.py"
RATE = 16_000


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_demo_clip", SCRIPT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def band_power_db(waveform, low_hz: float, high_hz: float) -> float:
    power = np.abs(np.fft.rfft(waveform)) ** 2
    frequency_hz = np.fft.rfftfreq(len(waveform), 1 / RATE)
    inside = (frequency_hz >= low_hz) & (frequency_hz < high_hz)
    return float(10 * np.log10(power[inside].mean()))


@pytest.mark.parametrize("slope_db", [0.0, 3.0, 6.0])
def test_coloured_noise_falls_by_its_slope_per_octave(script, rng, slope_db):
    noise = script.coloured_noise(rng, 20 * RATE, slope_db)
    fall_db = band_power_db(noise, 500, 1000) - band_power_db(noise, 2000, 4000)
    assert fall_db == pytest.approx(2 * slope_db, abs=0.3)  # two octaves; 20 s of noise
    assert np.mean(noise**2) == pytest.approx(1.0)


def test_murmur_lies_in_the_band_of_speech(script, rng):
    noise = script.murmur(rng, 5 * RATE)
    assert band_power_db(noise, 200, 3000) > band_power_db(noise, 4500, 8000) + 30
    assert np.mean(noise**2) == pytest.approx(1.0)


def test_hum_holds_only_multiples_of_50_hz(script):
    power = np.abs(np.fft.rfft(script.hum(RATE))) ** 2  # one second: 1 Hz bins
    loud = np.flatnonzero(power > 1e-6 * power.max())
    assert set(loud) == {50, 100, 150, 200, 300, 400}


def test_clatter_is_strokes_with_rests(script, rng):
    noise = script.clatter(rng, 5 * RATE, count=4)
    assert noise.shape == (5 * RATE,)
    assert np.max(np.abs(noise)) == pytest.approx(1.0)
    assert np.mean(np.abs(noise) < 1e-3) > 0.6


def test_slow_gain_is_positive_and_slow(script, rng):
    gain = script.slow_gain(rng, 5 * RATE, rate_hz=1.0, depth_db=3.0)
    assert gain.min() > 0
    assert np.max(np.abs(np.diff(20 * np.log10(gain)))) < 20 / RATE  # a few dB in a second


def test_a_clip_repeats_and_has_its_snr(script, speech_like, tmp_path, monkeypatch):
    monkeypatch.setattr(script, "speak", lambda text: speech_like(2.0).astype(np.float64))
    for name in ("first", "second"):
        script.make_clip(tmp_path / name)
    for name in ("demo_clean.flac", "demo_noisy.flac"):
        first, second = (tmp_path / run / name for run in ("first", "second"))
        assert first.read_bytes() == second.read_bytes()
    clean, _ = soundfile.read(tmp_path / "first" / "demo_clean.flac")
    noisy, _ = soundfile.read(tmp_path / "first" / "demo_noisy.flac")
    snr_db = 10 * np.log10(np.sum(clean**2) / np.sum((noisy - clean) ** 2))
    assert snr_db == pytest.approx(script.SNR_DB, abs=0.01)
    assert np.max(np.abs(noisy)) == pytest.approx(script.PEAK, abs=1e-4)


def test_without_espeak_the_remedy_is_named(script, monkeypatch):
    monkeypatch.setattr(script.shutil, "which", lambda name: None)
    with pytest.raises(SystemExit, match="apt-get install espeak-ng"):
        script.speak("hello")


def test_the_picture_is_drawn(script, speech_like, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib", reason="needs matplotlib (dev extra)")
    monkeypatch.setattr("quieten.Denoiser", lambda: lambda noisy, rate: 0.1 * noisy, raising=False)
    waveform = speech_like(1.0)
    soundfile.write(tmp_path / "demo_noisy.flac", waveform, RATE, subtype="PCM_16")
    target = tmp_path / "images" / "demo.png"
    script.draw_picture(tmp_path, target)
    assert target.read_bytes().startswith(b"\x89PNG")
