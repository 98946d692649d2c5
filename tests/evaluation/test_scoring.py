"""Pairs of sounds: the metrics' own figures, channels, rates, delays, and reasons for gaps."""

from collections.abc import Callable

import numpy as np
import pytest
import soxr
from numpy.typing import NDArray

from quieten.errors import AudioError, MissingExtra
from quieten.evaluation import scoring
from quieten.evaluation.scoring import fit, score_sounds
from quieten.metrics import METRICS, NO_REFERENCE

Waveform = NDArray[np.float32]
SpeechLike = Callable[..., Waveform]
CHEAP = ("snr_db", "si_sdr_db", "lsd", "nsr", "delay_ms", "clipped_samples", "loudness_lufs")


@pytest.fixture
def pair(speech_like: SpeechLike, rng: np.random.Generator) -> tuple[Waveform, Waveform]:
    """(denoised, clean), (1, T) each."""
    clean = speech_like(2.0)[None]
    return clean + rng.normal(0, 0.01, clean.shape).astype(np.float32), clean


def test_values_are_those_of_the_metrics(pair: tuple[Waveform, Waveform]) -> None:
    values, missing = score_sounds(*pair, 16_000, CHEAP)
    denoised, clean = pair
    assert values == {name: METRICS[name](denoised[0], clean[0], 16_000) for name in CHEAP}
    assert tuple(values) == CHEAP
    assert missing == {}


def test_channels_are_averaged(pair: tuple[Waveform, Waveform]) -> None:
    denoised = np.concatenate([pair[0], 0.5 * pair[0] + 0.5 * pair[1]])
    clean = np.concatenate([pair[1], pair[1]])
    values, _ = score_sounds(denoised, clean, 16_000, CHEAP)
    for name in CHEAP:
        each = [METRICS[name](denoised[i], clean[i], 16_000) for i in range(2)]
        assert values[name] == pytest.approx(sum(each) / 2, abs=1e-12)


def test_one_channel_without_a_value_makes_the_metric_missing(
    pair: tuple[Waveform, Waveform],
) -> None:
    denoised = np.concatenate([pair[0], pair[0]])
    clean = np.concatenate([pair[1], np.zeros_like(pair[1])])
    values, missing = score_sounds(denoised, clean, 16_000, ["snr_db", "clipped_samples"])
    assert set(values) == {"clipped_samples"}
    assert "silent" in missing["snr_db"]


def test_a_perfect_result_has_no_finite_ratio(pair: tuple[Waveform, Waveform]) -> None:
    values, missing = score_sounds(pair[1], pair[1], 16_000, ["snr_db", "nsr", "nsr_db", "lsd"])
    assert values == {"nsr": 0.0, "lsd": 0.0}
    assert missing.keys() == {"snr_db", "nsr_db"}
    assert missing["snr_db"].startswith("infinite")


def test_without_a_clean_sound_the_rest_is_still_scored(pair: tuple[Waveform, Waveform]) -> None:
    values, missing = score_sounds(pair[0], None, 16_000, CHEAP)
    assert set(values) == NO_REFERENCE & set(CHEAP)
    assert values["loudness_lufs"] == METRICS["loudness_lufs"](pair[0][0], pair[1][0], 16_000)
    assert set(missing) == set(CHEAP) - NO_REFERENCE
    assert all("no clean file" in reason for reason in missing.values())


@pytest.mark.parametrize(("rate", "heard"), [(48_000, 16_000), (16_000, 16_000), (8000, 8000)])
def test_perceptual_metrics_hear_at_most_16_khz(
    speech_like: SpeechLike, monkeypatch: pytest.MonkeyPatch, rate: int, heard: int
) -> None:
    calls: dict[str, tuple[Waveform, Waveform, int]] = {}

    def spy(name: str) -> Callable[[Waveform, Waveform, int], float]:
        return lambda *given: float(bool(calls.setdefault(name, given)))

    names = ("pesq_nb", "pesq_wb", "dnsmos_ovrl", "stoi", "snr_db")
    monkeypatch.setattr(scoring, "METRICS", {name: spy(name) for name in names})
    clean = speech_like(1.0, rate)[None]
    denoised = 0.5 * clean
    score_sounds(denoised, clean, rate, names)
    for name in ("pesq_nb", "pesq_wb", "dnsmos_ovrl"):
        assert calls[name][2] == heard
        expected = soxr.resample(denoised[0], rate, heard, "HQ") if rate > heard else denoised[0]
        np.testing.assert_array_equal(calls[name][0], expected)
        assert len(calls[name][1]) == heard
    for name in ("stoi", "snr_db"):
        assert calls[name][2] == rate
        np.testing.assert_array_equal(calls[name][1], clean[0])


def test_wide_band_pesq_is_missing_at_8_khz_for_its_own_reason(speech_like: SpeechLike) -> None:
    pytest.importorskip("pesq")
    clean = speech_like(2.0, 8000)[None]
    values, missing = score_sounds(0.5 * clean, clean, 8000, ["pesq_wb", "pesq_nb"])
    assert set(values) == {"pesq_nb"}
    assert "16000 Hz" in missing["pesq_wb"]


def test_a_metric_that_is_not_installed_is_missing(
    pair: tuple[Waveform, Waveform], monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(denoised: Waveform, clean: Waveform, sample_rate: int) -> float:
        raise MissingExtra("pesq", "PESQ")

    monkeypatch.setitem(scoring.METRICS, "pesq_wb", absent)
    values, missing = score_sounds(*pair, 16_000, ["pesq_wb", "lsd"])
    assert set(values) == {"lsd"}
    assert missing == {"pesq_wb": 'PESQ needs: pip install "quieten[pesq]"'}


@pytest.mark.parametrize("lag", [80, -80, 0])
def test_aligning_takes_a_delay_out_and_still_reports_it(
    pair: tuple[Waveform, Waveform], lag: int
) -> None:
    denoised, clean = pair
    shifted = np.roll(denoised, lag, axis=1)
    plain, _ = score_sounds(shifted, clean, 16_000, ["si_sdr_db", "delay_ms"])
    values, _ = score_sounds(shifted, clean, 16_000, ["si_sdr_db", "delay_ms"], align=True)
    assert values["delay_ms"] == plain["delay_ms"] == pytest.approx(lag / 16)
    kept = slice(0, -lag or None) if lag >= 0 else slice(-lag, None)
    expected = METRICS["si_sdr_db"](denoised[0, kept], clean[0, kept], 16_000)
    assert values["si_sdr_db"] == pytest.approx(expected, abs=1e-6)
    assert lag == 0 or plain["si_sdr_db"] < expected - 10


def test_shapes_that_differ_are_refused(pair: tuple[Waveform, Waveform]) -> None:
    with pytest.raises(AudioError, match="cannot compare shapes"):
        score_sounds(pair[0][:, 1:], pair[1], 16_000, CHEAP)


def test_fit_keeps_what_fits() -> None:
    sound = np.ones((2, 1000), np.float32)
    fitted, note = fit(sound, 16_000, np.zeros((2, 1000), np.float32), 16_000)
    assert fitted is sound
    assert note == ""


@pytest.mark.parametrize(
    ("length", "note"), [(1600 + 5, "cut by 5 samples"), (1600 - 7, "padded by 7 samples")]
)
def test_fit_cuts_or_pads_a_little(length: int, note: str) -> None:
    sound = np.arange(1, length + 1, dtype=np.float32)[None]
    fitted, said = fit(sound, 16_000, np.zeros((1, 1600), np.float32), 16_000)
    assert said == note
    shared = min(length, 1600)
    np.testing.assert_array_equal(fitted[:, :shared], sound[:, :shared])
    assert not fitted[:, shared:].any()
    assert fitted.shape == (1, 1600)


@pytest.mark.parametrize(
    ("shape", "rate", "reason"),
    [
        ((1, 16_000 + 1601), 16_000, r"0\.10 s longer"),
        ((1, 16_000 - 3200), 16_000, r"0\.20 s shorter"),
        ((2, 16_000), 16_000, "2 channels instead of 1"),
        ((1, 48_000), 48_000, "48000 Hz instead of 16000"),
    ],
)
def test_fit_refuses_what_is_no_result(shape: tuple[int, int], rate: int, reason: str) -> None:
    with pytest.raises(AudioError, match=reason):
        fit(np.zeros(shape, np.float32), rate, np.zeros((1, 16_000), np.float32), 16_000)
