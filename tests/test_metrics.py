"""One reference number, and the invariances, of each metric."""

import sys

import numpy as np
import pytest

from quieten.errors import AudioError, MissingExtra
from quieten.metrics import METRICS, pesq_wb, si_sdr_db, snr_db, stoi

RATE = 16_000


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


def test_orthogonal_noise_has_closed_forms(orthogonal):
    clean, noise = orthogonal
    assert snr_db(clean + noise, clean) == pytest.approx(20.0, abs=1e-9)
    assert si_sdr_db(clean + noise, clean) == pytest.approx(20.0, abs=1e-9)
    assert si_sdr_db(clean + 10 * noise, clean) == pytest.approx(0.0, abs=1e-9)


def test_si_sdr_ignores_level_sign_and_offset_and_snr_does_not(orthogonal):
    clean, noise = orthogonal
    noisy = clean + noise
    for changed in (0.01 * noisy, -3 * noisy, noisy + 0.5):
        assert si_sdr_db(changed, clean) == pytest.approx(20.0, abs=1e-9)
    assert snr_db(0.5 * clean, clean) == pytest.approx(20 * np.log10(2))
    assert snr_db(-clean, clean) == pytest.approx(-20 * np.log10(2))


def test_nothing_wrong_is_infinitely_good(orthogonal):
    clean, _ = orthogonal
    assert snr_db(clean, clean) == float("inf")
    assert si_sdr_db(clean, clean) > 200  # rounding of the projection


def test_silence_as_a_result_is_bad_but_a_number(orthogonal):
    clean, _ = orthogonal
    assert snr_db(np.zeros_like(clean), clean) == pytest.approx(0.0)
    assert si_sdr_db(np.zeros_like(clean) + 1e-9 * clean[::-1], clean) < 0


def test_float32_and_float64_agree(noisy_speech):
    noisy, clean = noisy_speech
    for metric in (snr_db, si_sdr_db):
        double = metric(noisy.astype(np.float64), clean.astype(np.float64), RATE)
        assert metric(noisy, clean, RATE) == pytest.approx(double, abs=1e-9)


def test_stoi_is_that_of_the_reference(noisy_speech):
    reference = pytest.importorskip("pystoi", reason='needs pip install "quieten[eval]"')
    noisy, clean = noisy_speech
    assert stoi(noisy, clean, RATE) == pytest.approx(reference.stoi(clean, noisy, RATE), abs=1e-6)
    assert stoi(clean, clean, RATE) == pytest.approx(1.0, abs=1e-6)
    assert stoi(noisy, clean, RATE) < 0.99


def test_pesq_of_identical_sounds_is_the_top_of_its_scale(noisy_speech):
    """4.64 is what P.862.2 maps a raw score of 4.5 to."""
    pytest.importorskip("pesq", reason='needs pip install "quieten[pesq]"')
    noisy, clean = noisy_speech
    assert pesq_wb(clean, clean, RATE) == pytest.approx(4.64, abs=0.01)
    assert 1.0 <= pesq_wb(noisy, clean, RATE) < 4.0


def test_pesq_wants_speech_at_its_rate(noisy_speech):
    pytest.importorskip("pesq", reason='needs pip install "quieten[pesq]"')
    noisy, clean = noisy_speech
    with pytest.raises(AudioError, match="16000 Hz, not 8000"):
        pesq_wb(noisy, clean, 8000)
    with pytest.raises(AudioError, match="found nothing to score"):
        pesq_wb(noisy[8000:8100], clean[8000:8100], RATE)


@pytest.mark.parametrize("name", METRICS)
def test_what_cannot_be_compared_is_refused(name):
    if name in ("stoi", "pesq_wb"):
        pytest.importorskip({"stoi": "pystoi", "pesq_wb": "pesq"}[name])
    metric, x = METRICS[name], np.ones(RATE, np.float32)
    with pytest.raises(AudioError, match=r"\(16000,\) and \(15999,\)"):
        metric(x, x[1:], RATE)
    with pytest.raises(AudioError, match="both must be"):
        metric(x[None], x[None], RATE)
    with pytest.raises(AudioError, match="silent"):
        metric(x, 0 * x, RATE)


def test_a_constant_is_silence_to_si_sdr():
    with pytest.raises(AudioError, match="silent"):
        si_sdr_db(np.arange(8.0), np.ones(8))


@pytest.mark.parametrize(("name", "module"), [("stoi", "pystoi"), ("pesq_wb", "pesq")])
def test_missing_packages_name_their_extra(monkeypatch, name, module):
    monkeypatch.setitem(sys.modules, module, None)
    x = np.ones(RATE)
    with pytest.raises(MissingExtra, match=r"quieten\[(eval|pesq)\]"):
        METRICS[name](x, x, RATE)


@pytest.mark.parametrize("name", METRICS)
def test_more_noise_scores_worse(name, noisy_speech):
    if name in ("stoi", "pesq_wb"):
        pytest.importorskip({"stoi": "pystoi", "pesq_wb": "pesq"}[name])
    noisy, clean = noisy_speech
    assert METRICS[name](noisy, clean, RATE) > METRICS[name](4 * noisy - 3 * clean, clean, RATE)
