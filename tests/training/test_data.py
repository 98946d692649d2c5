"""A batch is a pure function of (seed, step), mixed as the configuration says."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from quieten.degrade import active_rms, convolve, rms
from quieten.errors import ConfigError
from quieten.training.cache import Recordings
from quieten.training.data import (
    any_telephone,
    batches,
    draw_group,
    fit,
    load_mixer,
    validation_items,
    white_noise,
)

RATE = 16_000
SHARES = ("reverb", "equalize", "band_limit", "clip", "noise_only", "speech_only", "whisper")
PLAIN = [*(f"data.{key}=0" for key in (*SHARES, "noise_reverb")), "data.formants=[1, 1]"]


@pytest.fixture
def mixer(tiny):
    """A function (*overrides) -> Mixer."""
    return lambda *overrides: load_mixer(tiny(*overrides).data)


def examples(mixer, count, seed=0):
    return [mixer.example(np.random.default_rng([seed, i])) for i in range(count)]


def test_batches_depend_on_seed_step_and_rank_alone(mixer):
    a, b = mixer(), mixer()
    first = a.batch(1, 7)
    a.batch(1, 8), a.batch(2, 7)  # history does not matter
    for one, other in zip(first, b.batch(1, 7), strict=True):
        np.testing.assert_array_equal(one, other)
    for other in (a.batch(2, 7), a.batch(1, 8), a.batch(1, 7, rank=1)):
        assert np.any(first[0] != other[0]) and np.any(first[1] != other[1])


def test_batches_have_the_stated_form(mixer):
    noisy, clean = mixer("data.batch_size=3").batch(1, 0)
    for waveforms in (noisy, clean):
        assert waveforms.shape == (3, round(0.512 * RATE)) and waveforms.dtype == np.float32
        assert np.all(np.isfinite(waveforms))


def test_items_of_a_batch_do_not_depend_on_its_size(mixer):
    small, large = mixer("data.batch_size=2").batch(1, 5), mixer("data.batch_size=4").batch(1, 5)
    np.testing.assert_array_equal(small[0], large[0][:2])


def test_mixing_ahead_changes_nothing(mixer):
    """Also not when the run begins in the middle."""
    whole = list(batches(mixer(), 1, 0, 5))
    rest = list(batches(mixer(), 1, 3, 5))
    assert [step for step, _, _ in whole] == [0, 1, 2, 3, 4]
    assert [step for step, _, _ in rest] == [3, 4]
    for (step, noisy, clean), again in zip(whole[3:], rest, strict=True):
        np.testing.assert_array_equal(noisy, mixer().batch(1, step)[0])
        np.testing.assert_array_equal(noisy, again[1])
        np.testing.assert_array_equal(clean, again[2])


def test_a_finished_run_has_no_batches(mixer):
    assert list(batches(mixer(), 1, 4, 4)) == []


@pytest.mark.parametrize("snr_db", [-5.0, 0.0, 12.0])
def test_mixtures_have_the_snr_that_was_drawn(mixer, snr_db):
    """Active speech level over noise RMS; 0.01 dB is what float32 sums leave."""
    for noisy, clean in examples(mixer(*PLAIN, f"data.snr_db=[{snr_db}, {snr_db}]"), 6):
        measured_db = 20 * np.log10(active_rms(clean, RATE) / rms(noisy - clean))
        assert measured_db == pytest.approx(snr_db, abs=0.01)


def test_levels_are_drawn_from_the_range(mixer):
    found = [20 * np.log10(rms(noisy)) for noisy, _ in examples(mixer("data.clip=0"), 40)]
    assert min(found) >= -45.01 and max(found) <= -11.99
    assert np.ptp(found) > 20  # 40 draws from 33 dB leave both ends uncovered by 5 dB or less


def test_clipping_is_to_be_repaired(mixer):
    """The mixture is cut off, the target is not."""
    plain = examples(mixer(*PLAIN), 5)
    clipped = examples(mixer(*PLAIN, "data.clip=1"), 5)
    for (noisy, clean), (cut, target) in zip(plain, clipped, strict=True):
        peak = np.abs(cut).max()
        assert 0.29 <= peak / np.abs(noisy).max() <= 0.91
        np.testing.assert_array_equal(cut, noisy.clip(-peak, peak))
        np.testing.assert_array_equal(target, clean)


def test_band_limits_hold_for_mixture_and_target_alike(mixer):
    settings = [*PLAIN, "data.band_limit=1"]
    for noisy, clean in examples(mixer(*settings), 5):
        tops = [top_hz(waveform) for waveform in (noisy, noisy - clean)]
        assert tops[0] < 7900 and tops[0] == pytest.approx(tops[1], abs=250)


def top_hz(waveform):
    """The frequency below which all but 1e-6 of the energy lies."""
    power = np.cumsum(np.abs(np.fft.rfft(waveform * np.hanning(waveform.size))) ** 2)
    return np.searchsorted(power, power[-1] * (1 - 1e-6)) * RATE / waveform.size


def test_without_speech_the_target_is_silence(mixer):
    for noisy, clean in examples(mixer("data.noise_only=1", "data.speech_only=0"), 4):
        assert not clean.any() and noisy.any()


def test_speech_without_noise_is_its_own_target(mixer):
    for noisy, clean in examples(mixer(*PLAIN, "data.speech_only=1"), 4):
        np.testing.assert_array_equal(noisy, clean)


def test_a_share_of_the_voices_whispers(mixer):
    """What whispers has the level of the voice and is another sound."""
    aloud = examples(mixer(*PLAIN, "data.speech_only=1"), 3)
    whispered = examples(mixer(*PLAIN, "data.speech_only=1", "data.whisper=1"), 3)
    for (_, clean), (noisy, other) in zip(aloud, whispered, strict=True):
        np.testing.assert_array_equal(noisy, other)
        assert abs(np.corrcoef(clean, other)[0, 1]) < 0.3


def test_formants_move_in_half_of_the_voices(mixer):
    def voices(*settings):
        source = mixer(*PLAIN, *settings)
        return [source.draw_speech(np.random.default_rng(i), RATE) for i in range(24)]

    pairs = zip(voices(), voices("data.formants=[1.2, 1.2]"), strict=True)
    assert 4 < sum(np.array_equal(plain, moved) for plain, moved in pairs) < 20


def test_noise_from_a_room_is_the_noise_and_its_echoes(mixer):
    def noise(*settings):
        source = mixer("data.babble=0", "data.made_noise=0", *settings)
        return source.one_noise(np.random.default_rng(3), RATE), source

    near, _ = noise("data.noise_reverb=0")
    far, source = noise("data.noise_reverb=1")
    rng = np.random.default_rng(3)
    np.testing.assert_array_equal(near, source.close_noise(rng, RATE))
    rng.random()
    np.testing.assert_array_equal(far, convolve(near, source.draw_room(rng)))


def test_reversed_noise_is_the_noise_backwards(mixer):
    plain = [*PLAIN, "data.made_noise=0", "data.babble=0", "data.noise_speed=[1, 1]"]

    def noises(share):
        source = mixer(*plain, f"data.reverse={share}")
        rng = np.random.default_rng(3)
        length = source.noise.length(0) - 1  # all of it, so that it begins at the same sample
        return source.one_noise(rng, length)

    forwards, backwards = noises(0), noises(1)
    np.testing.assert_array_equal(backwards[1:], forwards[:0:-1])


def test_the_target_keeps_the_early_reflections_only(mixer):
    """At 60 dB there is no noise to speak of: what is left of the mixture is the late part."""
    settings = [*PLAIN, "data.reverb=1"]
    pairs = examples(mixer(*settings, "data.snr_db=[60, 60]"), 12)
    late = [rms(noisy - clean) / rms(clean) for noisy, clean in pairs]
    assert max(late) > 0.1 and min(late) < 1.0
    dry = examples(mixer(*PLAIN, "data.snr_db=[60, 60]"), 3)
    assert max(rms(noisy - clean) / rms(clean) for noisy, clean in dry) < 2e-3


def test_short_recordings_are_joined(mixer):
    """Segments longer than any voice (1.3 s) or noise (2 s) are filled to the end."""
    for noisy, clean in examples(mixer(*PLAIN, "data.segment_s=4.0"), 3):
        assert noisy.shape == (4 * RATE,)
        assert rms(clean[-2 * RATE :]) > 0.1 * rms(clean)
        assert rms((noisy - clean)[-RATE // 2 :]) > 0


@pytest.mark.parametrize("setting", ["babble=1", "made_noise=1", "second_noise=1"])
def test_every_source_of_noise_works_alone(mixer, setting):
    others = [f"data.{key}=0" for key in ("babble", "made_noise", "second_noise", "speech_only")]
    for noisy, clean in examples(mixer(*others, f"data.{setting}"), 4):
        assert np.all(np.isfinite(noisy)) and rms(noisy - clean) > 0


@pytest.mark.parametrize(
    ("makers", "words"), [('["wind", "thunder"]', "thunder is not made"), ("[]", "nothing is not")]
)
def test_unknown_makers_of_noise_are_explained(mixer, makers, words):
    with pytest.raises(ConfigError, match=f"data.noise_makers: {words}.*choose among coloured"):
        mixer(f"data.noise_makers={makers}")


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_groups_are_drawn_by_the_stated_law(power):
    """Probability ~ files ** power; 4 standard errors of 4000 draws are 0.032 at most."""
    sizes = np.array([1, 4, 16])
    borders = np.concatenate([[0], np.cumsum(sizes)])
    groups = tuple(np.arange(a, b) for a, b in itertools.pairwise(borders))
    recordings = Recordings(("x",) * 21, np.zeros(22, np.int64), np.zeros(0, np.int16), groups)
    rng = np.random.default_rng(1)
    drawn = [len(draw_group(recordings, rng, power)) for _ in range(4000)]
    shares = np.array([drawn.count(size) for size in sizes]) / 4000
    np.testing.assert_allclose(shares, sizes**power / (sizes**power).sum(), atol=0.032)


def test_silent_recordings_are_avoided_where_others_are(mixer):
    """Eight tries: with half of the files silent, 1 of 256 segments may still be so."""
    full = mixer(*PLAIN)
    samples = np.array(full.clean.samples)
    for i in range(0, 6, 2):  # one of the two files of each speaker
        samples[full.clean.offsets[i] : full.clean.offsets[i + 1]] = 0
    half = replace(full, clean=replace(full.clean, samples=samples))
    assert all(clean.any() for _, clean in examples(half, 20))


def test_fit_repeats_or_cuts():
    x = np.arange(3, dtype=np.float32)
    assert fit(x, 7).tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert fit(x, 2).tolist() == [0, 1]


def test_validation_is_the_same_every_time(tiny):
    config = tiny("validation.items=5", "validation.snr_db=[0, 5, 10]")
    items = validation_items(config.validation, config.data)
    again = validation_items(config.validation, config.data.model_copy(update={"batch_size": 9}))
    assert len(items) == 5
    for i, ((noisy, clean), other) in enumerate(zip(items, again, strict=True)):
        np.testing.assert_array_equal(noisy, other[0])
        np.testing.assert_array_equal(clean, other[1])
        measured_db = 20 * np.log10(active_rms(clean, RATE) / rms(noisy - clean))
        assert measured_db == pytest.approx((0, 5, 10)[i % 3], abs=0.01)


def test_validation_targets_are_the_recordings_themselves(tiny, voice):
    """Nothing is augmented: the first target is the first file, to a step of 16 bits."""
    config = tiny()
    _, clean = validation_items(config.validation, config.data)[0]
    np.testing.assert_allclose(clean, voice(500, 1.6)[: clean.size], atol=1 / 32768, rtol=0)


def flatness_db(waveform):
    """Spectral flatness in blocks of 1/32 of the band: 0 dB is white."""
    power = np.abs(np.fft.rfft(waveform)) ** 2
    blocks = power[: power.size // 32 * 32].reshape(32, -1).mean(axis=1)
    return 10 * np.log10(np.exp(np.log(blocks).mean()) / blocks.mean())


def test_a_share_of_the_examples_has_white_noise(mixer):
    settings = [*PLAIN, "data.babble=1", "data.made_noise=0"]
    for share in (0, 0.5, 1):
        pairs = examples(mixer(*settings, f"data.white={share}"), 40)
        white = np.mean([flatness_db(noisy - clean) > -0.5 for noisy, clean in pairs])
        assert white == pytest.approx(share, abs=0.25)


def test_the_snr_of_a_whole_piece_counts_its_pauses(mixer):
    settings = [*PLAIN, "data.snr_of=whole", "data.snr_db=[3, 3]"]
    for noisy, clean in examples(mixer(*settings), 6):
        assert 20 * np.log10(rms(clean) / rms(noisy - clean)) == pytest.approx(3, abs=0.01)
        assert active_rms(clean, RATE) > rms(clean)


def test_white_noise_has_the_snr_that_was_drawn(mixer):
    settings = [*PLAIN, "data.white=1", "data.snr_db=[3, 3]"]
    for noisy, clean in examples(mixer(*settings), 4):
        measured_db = 20 * np.log10(active_rms(clean, RATE) / rms(noisy - clean))
        assert measured_db == pytest.approx(3, abs=0.01)


def test_a_telephone_has_its_band_and_its_steps(mixer):
    """Its band holds for both; the steps are on the mixture alone."""
    settings = [*PLAIN, "data.telephone=1", "data.snr_db=[60, 60]", "data.level_dbfs=[-20, -20]"]
    for noisy, clean in examples(mixer(*settings), 4):
        assert top_hz(clean) < 4200
        power = np.abs(np.fft.rfft(clean)) ** 2
        low = power[: int(150 * clean.size / RATE)].sum()
        assert low < 1e-3 * power.sum()
        levels = np.unique(noisy)
        assert levels.size <= 255 < np.unique(clean).size
        error_db = 20 * np.log10(rms(noisy - clean) / rms(clean))
        assert -45 < error_db < -25  # what 8 bits of mu-law leave


def test_white_noise_is_never_sent_through_the_telephone(mixer):
    settings = [*PLAIN, "data.white=1", "data.telephone=1"]
    for noisy, clean in examples(mixer(*settings), 3):
        assert flatness_db(noisy - clean) > -0.5


def test_new_shares_of_zero_change_no_batch(mixer):
    plain, named = mixer(), mixer("data.white=0", "data.telephone=0")
    for one, other in zip(plain.batch(1, 3), named.batch(1, 3), strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_telephone_band_passes_speech_and_stops_the_rest():
    """Drawn edges of 200-350 and 3200-3600 Hz: 1 kHz passes, 50 Hz and 5 kHz do not."""
    time = np.arange(RATE) / RATE
    for seed in range(5):
        gains = []
        for hz in (50, 1000, 5000):
            tone = np.sin(2 * np.pi * hz * time).astype(np.float32)
            passed = any_telephone(tone, RATE, np.random.default_rng(seed))
            gains.append(20 * np.log10(rms(passed[2000:-2000]) / rms(tone)))
        assert gains[0] < -60 and abs(gains[1]) < 0.1 and gains[2] < -60


def test_validation_at_white_noise(tiny):
    config = tiny("validation.noise=white", "validation.snr_db=[2]")
    items = validation_items(config.validation, config.data)
    again = validation_items(config.validation, config.data)
    for (noisy, clean), other in zip(items, again, strict=True):
        np.testing.assert_array_equal(noisy, other[0])
        assert flatness_db(noisy - clean) > -0.5
        measured_db = 20 * np.log10(active_rms(clean, RATE) / rms(noisy - clean))
        assert measured_db == pytest.approx(2, abs=0.01)


def test_white_noise_is_gaussian_of_rms_one():
    noise = white_noise(np.random.default_rng(1), 100_000)
    assert noise.dtype == np.float32 and rms(noise) == pytest.approx(1, abs=0.01)
    assert np.mean(noise**4) == pytest.approx(3, abs=0.1)  # kurtosis of a Gaussian


def test_a_share_of_the_examples_becomes_harder_at_a_step(tiny):
    """Until then batches are as without the curriculum; after it, some SNRs are of its range."""
    changes = ("data.snr_db=[10,20]", "data.noise_only=0", "data.clip=0", "data.batch_size=24")
    harder = ("data.harder_share=0.5", "data.harder_snr_db=[-9,-8]", "data.harder_from_step=5")
    plain, mixer = (load_mixer(tiny(*changes, *more).data) for more in ((), harder))
    np.testing.assert_array_equal(plain.batch(0, 4)[0], mixer.batch(0, 4)[0])
    noisy, clean = mixer.batch(0, 5)
    louder = np.square(noisy - clean).mean(axis=1) > np.square(clean).mean(axis=1)
    assert 4 <= np.count_nonzero(louder) <= 20
