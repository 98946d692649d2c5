"""The frame grid for every rate, linked channels, and the gain above the model's top."""

import numpy as np
import pytest

from quieten.bands import guided_gain, link_channels, make_grid
from quieten.errors import AudioError

SPEECH = (16_000, 512, 256)


def make_spectra(*shape: int) -> np.ndarray:
    rng = np.random.default_rng(5)
    return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(np.complex64)


@pytest.mark.parametrize("rate", [8000, 12_000, 16_000, 24_000, 32_000, 48_000, 96_000, 192_000])
def test_bins_are_the_models_where_the_hop_is_whole(rate):
    grid = make_grid(rate, *SPEECH)
    assert grid.n_fft * 16_000 == 512 * rate and grid.hop * 16_000 == 256 * rate
    assert rate / grid.n_fft == 31.25 and grid.scale == 512 / grid.n_fft


@pytest.mark.parametrize("rate", [11_025, 22_050, 44_100, 88_200, 176_400])
def test_the_family_of_44100_is_off_by_less_than_a_twentieth_of_a_semitone(rate):
    grid = make_grid(rate, *SPEECH)
    cents = 1200 * np.log2(rate / grid.n_fft / 31.25)
    assert abs(cents) < 5
    assert grid.n_fft == 352 * rate // 11_025  # small primes: fast spectra


@pytest.mark.parametrize("rate", [8001, 9973, 12_345, 44_056, 50_000, 191_999])
def test_any_rate_has_a_grid_near_the_models(rate):
    grid = make_grid(rate, *SPEECH)
    assert grid.n_fft == 2 * grid.hop
    assert rate / grid.n_fft == pytest.approx(31.25, rel=0.006)


def test_a_model_with_a_finer_hop_keeps_its_overlap():
    grid = make_grid(44_100, 16_000, 512, 128)
    assert grid.n_fft == 4 * grid.hop


def test_shared_bins_and_the_guide():
    low, high = make_grid(8000, *SPEECH), make_grid(48_000, *SPEECH)
    assert (low.n_bins, low.shared, high.n_bins, high.shared) == (129, 129, 769, 257)
    assert high.guide == slice(160, 241)  # 5000 to 7500 Hz
    assert len(high.fade) == 257 - 241 and high.fade[-1] == 1 and (np.diff(high.fade) > 0).all()


@pytest.mark.parametrize("rate", [0, 7999, 192_001, -48_000, 44_100.5, float("nan")])
def test_rates_outside_are_refused(rate):
    with pytest.raises(AudioError, match="8000 to 192000 Hz"):
        make_grid(rate, *SPEECH)


def test_one_channel_is_its_own_link():
    spectra = make_spectra(1, 3, 9)
    np.testing.assert_array_equal(link_channels(spectra), spectra)


def test_equal_channels_link_to_themselves():
    spectra = make_spectra(1, 3, 9)
    np.testing.assert_allclose(link_channels(np.repeat(spectra, 3, axis=0)), spectra, rtol=1e-5)


def test_linked_magnitude_is_the_rms_and_its_phase_that_of_the_sum():
    spectra = make_spectra(4, 5, 9)
    linked = link_channels(spectra)
    rms = np.sqrt((np.abs(spectra) ** 2).mean(axis=0))
    np.testing.assert_allclose(np.abs(linked[0]), rms, rtol=1e-5)
    np.testing.assert_allclose(np.angle(linked[0] / spectra.sum(axis=0)), 0, atol=1e-5)


def test_cancelling_channels_take_the_phase_of_the_loudest():
    one = make_spectra(1, 3, 9)
    linked = link_channels(np.concatenate([one, -one]))
    np.testing.assert_allclose(linked, one, rtol=1e-5)


def test_silent_and_faint_channels_link_to_finite_numbers():
    for level in (0, 1e-30, 1e-20, 1e15):
        linked = link_channels(make_spectra(2, 3, 9) * np.float32(level))
        assert np.isfinite(linked).all()
        assert np.isfinite(link_channels(np.zeros((2, 1, 3), np.complex64))).all()


def test_gain_is_the_root_of_power_after_over_power_before():
    spectra, mask = make_spectra(2, 4, 20), 0.3 * make_spectra(2, 4, 20)
    guide = slice(5, 15)
    before = (np.abs(spectra[..., guide]) ** 2).sum(axis=-1)
    after = (np.abs((spectra * mask)[..., guide]) ** 2).sum(axis=-1)
    gain = guided_gain(spectra, mask, guide)
    assert gain.shape == (2, 4)
    np.testing.assert_allclose(gain, np.minimum(np.sqrt(after / before), 1), rtol=1e-5)


def test_gain_never_amplifies_and_follows_the_mask_in_silence():
    spectra = make_spectra(1, 4, 20)
    assert (guided_gain(spectra, np.full_like(spectra, 3), slice(5, 15)) == 1).all()
    silence, quarter = np.zeros_like(spectra), np.full_like(spectra, 0.25j)
    np.testing.assert_allclose(guided_gain(silence, quarter, slice(5, 15)), 0.25, rtol=1e-5)
