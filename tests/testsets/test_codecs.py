"""What comes back from a codec is as long as what went in, in step with it, and alike."""

import numpy as np
import pytest

from quieten.errors import ConfigError
from quieten.testsets.codecs import CODECS, parse_codec, round_trip

RATES = [8000, 16_000, 22_050, 44_100, 48_000]


def best_lag(decoded, original, reach=400):
    """Samples by which `decoded` lags: the peak of the cross-correlation within +-reach."""
    size = 2 * original.size
    product = np.fft.rfft(decoded, size) * np.conj(np.fft.rfft(original, size))
    correlation = np.roll(np.fft.irfft(product, size), reach)[: 2 * reach + 1]
    return int(np.argmax(correlation)) - reach


def error_db(decoded, original):
    return 10 * np.log10(np.sum((decoded - original) ** 2) / np.sum(original**2))


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("codec", [*CODECS, "mp3:32", "opus:16", "vorbis:48"])
def test_decoded_sound_is_in_step_and_alike(speech_like, codec, rate):
    """GSM and the low rates change the waveform most: 6 dB is far from what a lag would leave."""
    sound = speech_like(1.0, rate)
    kept = sound.copy()
    decoded = round_trip(sound, rate, codec)
    assert decoded.shape == sound.shape and decoded.dtype == np.float32
    assert best_lag(decoded, sound) == 0
    assert error_db(decoded, sound) < -6
    assert np.any(decoded != sound)
    np.testing.assert_array_equal(sound, kept)


@pytest.mark.parametrize("codec", CODECS)
def test_codecs_draw_nothing(speech_like, codec):
    sound = speech_like(0.5)
    first, second = (round_trip(sound, 16_000, codec) for _ in range(2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("length", [0, 1, 333])
def test_short_silence_stays_short_and_silent(codec, length):
    """A-law knows no zero, and GSM makes silence a murmur at -65 dBFS."""
    decoded = round_trip(np.zeros(length, np.float32), 16_000, codec)
    assert decoded.shape == (length,)
    assert np.all(np.abs(decoded) < 1e-3)


@pytest.mark.parametrize(("law", "steps"), [("mulaw", 255), ("alaw", 256)])
def test_the_laws_have_eight_bits(law, steps):
    """255 or 256 values (mu-law has two zeros), half a step is up to 3.2 % of loud ones: G.711."""
    ramp = np.linspace(-1, 1, 65_536).astype(np.float32)
    decoded = round_trip(ramp, 16_000, law)
    assert np.unique(decoded).size == steps
    loud = np.abs(ramp) > 0.1
    assert np.max(np.abs(decoded[loud] / ramp[loud] - 1)) < 0.033


def test_gsm_has_the_band_of_a_telephone(rng):
    hiss = (0.1 * rng.standard_normal(16_000)).astype(np.float32)
    power = np.abs(np.fft.rfft(round_trip(hiss, 16_000, "gsm"))) ** 2  # bins of 1 Hz
    assert power[4200:].sum() < 1e-3 * power.sum()


@pytest.mark.parametrize(("few", "many"), [("mp3:16", "mp3:96"), ("vorbis:24", "vorbis:96")])
def test_more_bits_lose_less(speech_like, rng, few, many):
    sound = speech_like(1.0) + (0.02 * rng.standard_normal(16_000)).astype(np.float32)
    losses = [error_db(round_trip(sound, 16_000, codec), sound) for codec in (few, many)]
    assert losses[1] < losses[0] - 6


def test_more_bits_lose_less_in_opus_at_its_own_rates(speech_like):
    sound = speech_like(1.0)
    losses = [error_db(round_trip(sound, 16_000, f"opus:{kbps}"), sound) for kbps in (8, 24, 96)]
    assert losses[0] > losses[1] > losses[2]


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("aac", "take one of mp3, opus, vorbis, gsm, mulaw, alaw"),
        ("", "take one of"),
        ("mp3:", "mp3:KBPS with 8 to 320"),
        ("mp3:9999", "mp3:KBPS with 8 to 320"),
        ("opus:-6", "opus:KBPS with 6 to 256"),
        ("opus:6.5", "opus:KBPS"),
        ("gsm:13", "write gsm"),
    ],
)
def test_codecs_that_make_no_sense_are_explained(text, remedy):
    with pytest.raises(ConfigError, match=remedy):
        parse_codec(text)


def test_a_bitrate_is_read_in_kilobits():
    assert parse_codec("opus:24") == (CODECS["opus"], 24_000)
    assert parse_codec("opus") == (CODECS["opus"], 0)
