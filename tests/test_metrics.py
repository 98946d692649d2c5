"""Closed forms, the figures of pystoi and pesq, the invariances and the refusals of each metric."""

import sys
import warnings
from importlib.util import find_spec

import numpy as np
import pytest

from quieten.audio import read_audio
from quieten.dnsmos import dnsmos
from quieten.errors import AudioError, MissingExtra
from quieten.metrics import (
    LOWER_IS_BETTER,
    METRICS,
    NEUTRAL,
    NO_REFERENCE,
    clipped_samples,
    delay,
    delay_ms,
    estoi,
    lsd,
    nsr,
    nsr_db,
    pesq_nb,
    pesq_wb,
    segmental_snr_db,
    si_sdr_db,
    snr_db,
    stoi,
)

RATE = 16_000
PACKAGES = {"stoi": "pystoi", "estoi": "pystoi", "pesq_nb": "pesq", "pesq_wb": "pesq"}
PACKAGES |= dict.fromkeys(("dnsmos_sig", "dnsmos_bak", "dnsmos_ovrl"), "speechmos")


def metric_of(name):
    """The metric, where its package is installed. Skips elsewhere; imports nothing."""
    if name in PACKAGES and find_spec(PACKAGES[name]) is None:
        pytest.skip(f"needs {PACKAGES[name]}")
    return METRICS[name]


@pytest.fixture
def orthogonal(rng):
    """Zero-mean clean and noise with clean @ noise = 0 and energies 100 and 1."""
    clean = rng.standard_normal(8000)
    clean -= clean.mean()
    noise = rng.standard_normal(8000)
    noise -= noise.mean()
    noise -= clean * (noise @ clean) / (clean @ clean)
    return 10 * clean / np.linalg.norm(clean), noise / np.linalg.norm(noise)


@pytest.fixture
def noisy_speech(speech_like, rng):
    """(noisy, clean), three seconds."""
    clean = speech_like(3.0)
    return clean + 0.05 * rng.standard_normal(clean.size).astype(np.float32), clean


def test_names_are_those_that_tables_and_models_store():
    assert list(METRICS) == [
        *("snr_db", "nsr", "nsr_db", "si_sdr_db", "segmental_snr_db", "lsd"),
        *("stoi", "estoi", "pesq_nb", "pesq_wb", "dnsmos_sig", "dnsmos_bak", "dnsmos_ovrl"),
        *("delay_ms", "clipped_samples", "loudness_lufs"),
    ]
    assert METRICS.keys() >= NO_REFERENCE | LOWER_IS_BETTER | NEUTRAL
    assert not LOWER_IS_BETTER & NEUTRAL


# ratios of energy


def test_orthogonal_noise_has_closed_forms(orthogonal):
    clean, noise = orthogonal
    assert snr_db(clean + noise, clean) == pytest.approx(20.0, abs=1e-9)
    assert si_sdr_db(clean + noise, clean) == pytest.approx(20.0, abs=1e-9)
    assert si_sdr_db(clean + 10 * noise, clean) == pytest.approx(0.0, abs=1e-9)
    assert nsr(clean + noise, clean) == pytest.approx(0.01, abs=1e-12)
    assert nsr(clean + 20 * noise, clean) == pytest.approx(4.0, abs=1e-9)
    assert nsr_db(clean + noise, clean) == pytest.approx(-20.0, abs=1e-9)


def test_si_sdr_ignores_level_sign_and_offset_and_snr_does_not(orthogonal):
    clean, noise = orthogonal
    noisy = clean + noise
    for changed in (0.01 * noisy, -3 * noisy, noisy + 0.5):
        assert si_sdr_db(changed, clean) == pytest.approx(20.0, abs=1e-9)
    assert snr_db(0.5 * clean, clean) == pytest.approx(20 * np.log10(2))
    assert snr_db(-clean, clean) == pytest.approx(-20 * np.log10(2))
    assert nsr(-clean, clean) == pytest.approx(4.0)


def test_nothing_wrong_is_infinitely_good(orthogonal):
    clean, _ = orthogonal
    assert snr_db(clean, clean) == float("inf")
    assert nsr(clean, clean) == 0.0 and nsr_db(clean, clean) == float("-inf")
    assert si_sdr_db(clean, clean) > 200  # rounding of the projection
    assert lsd(clean, clean) == 0.0
    assert segmental_snr_db(clean, clean, RATE) == 35.0


def test_silence_as_a_result_is_bad_but_a_number(orthogonal):
    clean, _ = orthogonal
    assert snr_db(np.zeros_like(clean), clean) == pytest.approx(0.0)
    assert segmental_snr_db(np.zeros_like(clean), clean, RATE) == pytest.approx(0.0)
    assert si_sdr_db(np.zeros_like(clean) + 1e-9 * clean[::-1], clean) < 0


def test_float32_and_float64_agree(noisy_speech):
    noisy, clean = noisy_speech
    for metric in (snr_db, si_sdr_db, nsr, segmental_snr_db, lsd, delay_ms):
        double = metric(noisy.astype(np.float64), clean.astype(np.float64), RATE)
        assert metric(noisy, clean, RATE) == pytest.approx(double, abs=1e-9)


def test_a_constant_is_silence_to_si_sdr():
    with pytest.raises(AudioError, match="silent"):
        si_sdr_db(np.arange(8.0), np.ones(8))


# segmental SNR


@pytest.mark.parametrize(("error", "expected_db"), [(0.1, 20), (0.001, 35), (10, -10)])
@pytest.mark.parametrize("sample_rate", [8000, 22_050, 48_000])
def test_segmental_snr_is_the_limited_ratio(rng, error, expected_db, sample_rate):
    clean = rng.standard_normal(sample_rate)
    measured = segmental_snr_db(clean * (1 + error), clean, sample_rate)
    assert measured == pytest.approx(expected_db, abs=1e-6)


def test_segmental_snr_is_the_mean_in_db_over_half_overlapping_frames():
    clean = np.ones(10_240)
    clean[::2] = -1.0
    gain = np.where(np.arange(10_240) < 5120, 0.1, 1.0)
    frames = [20.0] * 19 + [-10 * np.log10((0.01 + 1.0) / 2)] + [0.0] * 19
    assert segmental_snr_db(clean * (1 + gain), clean, RATE) == pytest.approx(np.mean(frames))


def test_segmental_snr_leaves_pauses_out(rng):
    speech, pause = rng.standard_normal(RATE), 0.005 * rng.standard_normal(RATE)  # 46 dB apart
    clean, denoised = np.append(speech, pause), np.append(1.1 * speech, 100 * pause)
    # of 62 frames, one has half of each; with the pause, the mean would be near 5 dB
    assert segmental_snr_db(denoised, clean, RATE) == pytest.approx(20.0, abs=0.5)
    louder = np.append(speech, 4 * pause)  # 34 dB below: no pause any more
    assert segmental_snr_db(denoised, louder, RATE) < 7


# log-spectral distance


@pytest.mark.parametrize(("gain_db", "expected"), [(10, 1.0), (-20, 2.0), (6.5, 0.65)])
def test_lsd_of_a_gain_is_a_tenth_of_its_db(rng, gain_db, expected):
    clean = rng.standard_normal(8000)
    assert lsd(10 ** (gain_db / 20) * clean, clean) == pytest.approx(expected, abs=1e-9)


def test_lsd_is_a_root_mean_square_over_bins_and_a_mean_over_frames():
    """Frame 0 holds the same click in both; frame 1 holds another one in `denoised`."""
    clean, denoised = np.zeros(1024 + 256), np.zeros(1024 + 256)
    clean[512] = denoised[512] = denoised[1200] = 1.0
    first, second = (0.5 - 0.5 * np.cos(2 * np.pi * (n - 256) / 1024) for n in (512, 1200))
    turn = np.exp(-2j * np.pi * np.arange(513) * (1200 - 512) / 1024)
    logs = np.log10(np.abs(first + second * turn) ** 2 / first**2)
    expected = (0.0 + np.sqrt(np.mean(logs**2))) / 2
    assert lsd(denoised, clean) == pytest.approx(expected, abs=1e-9)


def test_lsd_of_a_long_sound_counts_each_frame_once(rng):
    clean = rng.standard_normal(1024 + 256 * 2099)  # 2100 frames: two blocks and a part
    gain = np.where(np.arange(clean.size) < 256 * 525, 10.0, 1.0)  # reaches frames 0 to 524
    assert lsd(gain * clean, clean) == pytest.approx(2.0 * 525 / 2100, abs=2e-3)


def test_lsd_counts_no_power_below_its_floor(rng):
    click = np.zeros(1024)
    click[512] = 1.0  # |S|^2 = 1 everywhere: eight powers of ten above the floor
    assert lsd(np.zeros(1024), click) == pytest.approx(8.0, abs=1e-9)
    hiss = 1e-7 * rng.standard_normal(4096)
    assert lsd(0 * hiss, hiss) == 0.0


# intelligibility and PESQ: those of the packages


@pytest.mark.parametrize(("metric", "extended"), [(stoi, False), (estoi, True)])
@pytest.mark.parametrize("sample_rate", [8000, 16_000, 48_000])
def test_stoi_is_that_of_the_reference(speech_like, rng, metric, extended, sample_rate):
    reference = pytest.importorskip("pystoi", reason='needs pip install "quieten[eval]"')
    clean = speech_like(2.0, sample_rate)
    noisy = clean + 0.05 * rng.standard_normal(clean.size)
    expected = reference.stoi(clean, noisy, sample_rate, extended=extended)
    assert metric(noisy, clean, sample_rate) == pytest.approx(expected, abs=1e-6)
    assert metric(clean, clean, sample_rate) == pytest.approx(1.0, abs=1e-6)
    assert expected < 0.99


def test_estoi_repeats_itself_and_leaves_the_global_generator_alone(speech_like):
    """Bands of digital silence are all dither, which pystoi draws from that generator."""
    pytest.importorskip("pystoi", reason='needs pip install "quieten[eval]"')
    clean = speech_like(2.0)
    holes = clean * (np.arange(clean.size) % 8000 < 4000)
    state = np.random.get_state()[1].copy()
    first = estoi(holes, clean, RATE)
    np.testing.assert_array_equal(np.random.get_state()[1], state)
    np.random.standard_normal(7)
    assert estoi(holes, clean, RATE) == first


def test_stoi_wants_speech(speech_like):
    pytest.importorskip("pystoi", reason='needs pip install "quieten[eval]"')
    mostly_silent = np.pad(speech_like(2.0)[3000:6000], (0, 3 * RATE))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for metric in (stoi, estoi):
            with pytest.raises(AudioError, match=r"less than 0\.4 s of speech"):
                metric(mostly_silent, mostly_silent, RATE)
            with pytest.raises(AudioError, match="too short: 6000 samples"):
                metric(mostly_silent[:6000], mostly_silent[:6000], RATE)


@pytest.mark.parametrize(
    ("metric", "band", "sample_rate"),
    [(pesq_nb, "nb", 8000), (pesq_nb, "nb", 16_000), (pesq_wb, "wb", 16_000)],
)
def test_pesq_is_that_of_the_reference(speech_like, rng, metric, band, sample_rate):
    reference = pytest.importorskip("pesq", reason='needs pip install "quieten[pesq]"')
    clean = speech_like(3.0, sample_rate)
    noisy = clean + 0.02 * rng.standard_normal(clean.size)
    expected = reference.pesq(sample_rate, clean, noisy, band)
    assert metric(noisy, clean, sample_rate) == pytest.approx(expected, abs=1e-6)
    assert 1.0 <= expected < 4.0


@pytest.mark.parametrize(("metric", "top"), [(pesq_nb, 4.549), (pesq_wb, 4.644)])
def test_pesq_of_identical_sounds_is_the_top_of_its_scale(noisy_speech, metric, top):
    """What P.862.1 and P.862.2 map a raw score of 4.5 to."""
    pytest.importorskip("pesq", reason='needs pip install "quieten[pesq]"')
    assert metric(noisy_speech[1], noisy_speech[1], RATE) == pytest.approx(top, abs=1e-3)


def test_pesq_wants_speech_at_its_rate(noisy_speech):
    pytest.importorskip("pesq", reason='needs pip install "quieten[pesq]"')
    noisy, clean = noisy_speech
    with pytest.raises(AudioError, match="wide-band PESQ wants 16000 Hz, not 8000"):
        pesq_wb(noisy, clean, 8000)
    with pytest.raises(AudioError, match="narrow-band PESQ wants 8000 or 16000 Hz, not 48000"):
        pesq_nb(noisy, clean, 48_000)
    with pytest.raises(AudioError, match=r"found nothing to score \(Buffer needs"):
        pesq_wb(noisy[8000:8100], clean[8000:8100], RATE)
    with pytest.raises(AudioError, match="cannot score silence"):
        pesq_wb(0 * noisy, clean, RATE)


def test_pesq_refuses_what_would_end_the_process(rng):
    """76 bursts in 61 s: its C code has room for 50 and writes on."""
    pytest.importorskip("pesq", reason='needs pip install "quieten[pesq]"')
    bursts = rng.standard_normal(61 * 8000) * (np.arange(61 * 8000) % 6400 < 3200)
    with pytest.raises(AudioError, match="up to 60 s: cut"):
        pesq_nb(bursts, bursts, 8000)


@pytest.mark.parametrize("item", ["001", "004"])
def test_real_recordings_score_as_the_packages_say(shared_data, item):
    reference = pytest.importorskip("pesq", reason='needs pip install "quieten[pesq]"')
    intelligibility = pytest.importorskip("pystoi")
    noisy, clean = (
        read_audio(shared_data / "testset16k" / folder / f"{item}.flac")[0][0]
        for folder in ("noisy", "clean")
    )
    for name, expected in {
        "pesq_wb": reference.pesq(RATE, clean, noisy, "wb"),
        "pesq_nb": reference.pesq(RATE, clean, noisy, "nb"),
        "stoi": intelligibility.stoi(clean, noisy, RATE),
        "estoi": intelligibility.stoi(clean, noisy, RATE, extended=True),
    }.items():
        assert METRICS[name](noisy, clean, RATE) == pytest.approx(expected, abs=1e-3)
    assert delay(noisy, clean, RATE) == 0


# delay and clipping


@pytest.mark.parametrize("lag", [0, 1, 37, -1, -800, 7999, 8000, -8000])
@pytest.mark.parametrize("gain", [0.3, -1.0])
def test_delay_is_found_in_noise_and_upside_down(speech_like, rng, lag, gain):
    clean = speech_like(3.0)
    shifted = np.roll(np.pad(clean, 8000), lag)[8000:-8000]
    denoised = gain * shifted + 0.03 * rng.standard_normal(clean.size)
    assert delay(denoised, clean, RATE) == lag  # positive: it comes later
    assert delay_ms(denoised, clean, RATE) == pytest.approx(lag / 16)


def test_delay_does_not_mind_an_offset_and_looks_half_a_second_far(rng):
    clean = rng.standard_normal(4000)
    late = np.roll(np.pad(clean, (0, 4000)), 600)
    early = np.pad(clean, (0, 4000))
    assert delay(late + 5, early - 3, 1200) == 600
    assert abs(delay(late, early, 1000)) <= 500


def test_delay_of_a_sound_shorter_than_the_reach():
    clean = np.array([0.0, 1.0, 0.0, 0.0])
    assert delay(np.roll(clean, 2), clean, RATE) == 2
    with pytest.raises(AudioError, match="no delay"):
        delay(np.full(4, 0.7), clean, RATE)


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        ([0.5, 1.0, 1.0, 1.0, 0.5], 3),
        ([1.0, 1.0, 0.5, 1.0], 0),  # peaks of one or two samples are no damage
        ([-1.0] * 5, 5),
        ([1.0, 1.0, -1.0, -1.0], 0),  # of two signs: a high tone
        ([32767 / 32768] * 3 + [0.0] + [-1.5] * 4, 7),
        ([32766 / 32768] * 9, 0),
        ([], 0),
    ],
)
def test_clipped_are_rows_at_full_scale(samples, expected):
    assert clipped_samples(np.array(samples), np.zeros(0)) == expected


def test_clipping_a_loud_sine_counts_its_flat_tops():
    seconds = np.arange(RATE) / RATE
    tone = 2 * np.sin(2 * np.pi * 100 * seconds + 0.1)
    clipped = np.clip(tone, -1, 1)
    assert clipped_samples(clipped, tone) == np.count_nonzero(np.abs(tone) >= 32767 / 32768)


@pytest.mark.parametrize("name", sorted(METRICS.keys() - NO_REFERENCE))
def test_what_cannot_be_compared_is_refused(name):
    metric, x = metric_of(name), np.ones(RATE, np.float32)
    with pytest.raises(AudioError, match=r"\(16000,\) and \(15999,\)"):
        metric(x, x[1:], RATE)
    with pytest.raises(AudioError, match="both must be"):
        metric(x[None], x[None], RATE)
    with pytest.raises(AudioError, match="silent"):
        metric(x, 0 * x, RATE)
    with pytest.raises(AudioError, match="silent"):
        metric(x[:0], x[:0], RATE)
    for bad in (np.nan, np.inf):
        with pytest.raises(AudioError, match="denoised sound holds NaN or infinity"):
            metric(np.where(x > 0, bad, x), x, RATE)
        with pytest.raises(AudioError, match="clean sound holds NaN or infinity"):
            metric(x, np.where(x > 0, bad, x), RATE)


@pytest.mark.parametrize("name", sorted(NO_REFERENCE))
def test_what_needs_no_reference_does_not_look_at_it(name, noisy_speech):
    metric, (noisy, clean) = metric_of(name), noisy_speech
    alone = metric(noisy, clean, RATE)
    assert name == "clipped_samples" or alone != metric(clean, clean, RATE)
    assert metric(noisy, np.full(3, np.nan), RATE) == alone
    for bad in (np.full(RATE, np.nan), np.full(RATE, np.inf), noisy[None]):
        with pytest.raises(AudioError):
            metric(bad, clean, RATE)


@pytest.mark.parametrize("name", ["segmental_snr_db", "lsd", "stoi", "estoi"])
def test_too_short_is_said(name, rng):
    short = rng.standard_normal(500)
    with pytest.raises(AudioError, match="too short: 500 samples"):
        metric_of(name)(short, short, RATE)


@pytest.mark.parametrize("name", ["segmental_snr_db", "stoi", "estoi", "delay_ms", "loudness_lufs"])
def test_a_rate_of_zero_is_refused(name, rng):
    sound = rng.standard_normal(RATE)
    with pytest.raises(AudioError, match="sample rate of 0 Hz"):
        metric_of(name)(sound, sound, 0)


@pytest.mark.parametrize(("name", "module"), PACKAGES.items())
def test_missing_packages_name_their_extra(monkeypatch, name, module):
    monkeypatch.setitem(sys.modules, module, None)
    x = np.ones(RATE)
    with pytest.raises(MissingExtra, match=r"quieten\[(eval|pesq)\]"):
        METRICS[name](x, x, RATE)


@pytest.mark.parametrize("name", sorted(METRICS.keys() - NEUTRAL - NO_REFERENCE))
def test_more_noise_scores_worse(name, noisy_speech):
    metric, (noisy, clean) = metric_of(name), noisy_speech
    noise = noisy - clean
    scores = [metric(clean + factor * noise, clean, RATE) for factor in (0.2, 1.0)]
    assert scores == sorted(scores, reverse=name not in LOWER_IS_BETTER)
    assert scores[0] != scores[1]


def test_dnsmos_metrics_are_the_fields_of_one_rating(noisy_speech):
    names = [name for name in PACKAGES if "dnsmos" in name]
    scores = [metric_of(name)(*noisy_speech, RATE) for name in names]
    assert scores == list(dnsmos(noisy_speech[0], RATE))
