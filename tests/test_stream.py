"""Blocks of any size give the samples of the whole; the lag is what `latency` says."""

from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tiny_model
from quieten.denoise import Denoiser, Stream
from quieten.errors import AudioError
from quieten.runtime import Model, available, load

RATES = [8000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000, 192_000]
CHUNKS = [1, 7, 160, 4096]
STREAM = 1e-5  # float32 rounding differs with the number of frames at once


def make_sound(n_channels: int, length: int) -> np.ndarray:
    """Noise with a level that rises and falls, so that a model's state matters."""
    rng = np.random.default_rng(13)
    level = 0.02 + 0.1 * np.square(np.sin(np.arange(length) / 1500))
    return (level * rng.standard_normal((n_channels, length))).astype(np.float32)


def feed_in(stream: Stream, waveform: np.ndarray, sizes: Iterable[int]) -> np.ndarray:
    """Everything a stream gives for a waveform in blocks of these sizes, and the flush."""
    pieces, start = [], 0
    for size in sizes:
        pieces.append(stream.feed(waveform[..., start : start + size]))
        start += size
    pieces.append(stream.feed(waveform[..., start:]))
    pieces.append(stream.flush())
    return np.concatenate(pieces, axis=-1)


def chunks(length: int, size: int) -> list[int]:
    return [size] * (length // size)


@pytest.fixture(scope="module")
def smoother(tmp_path_factory) -> Model:
    return load(tiny_model.smoother(tmp_path_factory.mktemp("model")))


@pytest.fixture(scope="module")
def half(tmp_path_factory) -> Model:
    return load(tiny_model.constant(tmp_path_factory.mktemp("model"), 0.5))


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("mode", ["mono", "linked", "separate"])
def test_chunks_are_the_whole(smoother, rate, mode):
    waveform = make_sound(1 if mode == "mono" else 2, 9001)
    denoiser = Denoiser(smoother, channels="linked" if mode == "mono" else mode)
    whole = denoiser(waveform, rate)
    assert np.abs(whole - waveform).max() > 0.01  # the model did something
    stream = denoiser.stream(rate, len(waveform))
    for size in CHUNKS:
        streamed = feed_in(stream, waveform, chunks(9001, size))
        assert streamed.shape == whole.shape
        np.testing.assert_allclose(streamed, whole, atol=STREAM)


@given(st.sampled_from(RATES), st.lists(st.integers(0, 3000), max_size=8), st.integers(1, 3))
def test_random_chunks_are_the_whole(smoother, rate, sizes, n_channels):
    waveform = make_sound(n_channels, sum(sizes) + 5)
    denoiser = Denoiser(smoother, attenuation_limit_db=20)
    streamed = feed_in(denoiser.stream(rate, n_channels), waveform, sizes)
    np.testing.assert_allclose(streamed, denoiser(waveform, rate), atol=STREAM)


def test_one_block_longer_than_the_model_takes_at_once(smoother):
    waveform = make_sound(2, 100_001)
    stream = Stream(8000, 2, model=smoother)
    assert stream.block_length < 100_001 // 2
    whole = feed_in(stream, waveform, [])
    np.testing.assert_allclose(feed_in(stream, waveform, [33, 90_000]), whole, atol=STREAM)


@pytest.mark.parametrize("rate", RATES)
def test_the_lag_is_never_more_than_the_latency(half, rate):
    stream = Stream(rate, model=half)
    assert stream.latency_ms == pytest.approx(1000 * stream.latency / rate)
    assert stream.latency_ms <= 32
    rng, fed, returned, most = np.random.default_rng(2), 0, 0, 0
    for size in [*rng.integers(1, 700, 60), *[1] * 2000]:
        fed += size
        returned += len(stream.feed(np.zeros(size, np.float32)))
        assert fed - stream.latency <= returned <= fed
        most = max(most, fed - returned)
    if rate <= 16_000:  # enough single samples to meet the worst moment
        assert most == stream.latency - 1


@pytest.mark.parametrize("rate", RATES)
def test_output_sample_i_belongs_to_input_sample_i(half, rate):
    stream, waveform = Stream(rate, model=half), make_sound(1, 8000)[0]
    returned = 0
    for start in range(0, 8000, 441):
        piece = stream.feed(waveform[start : start + 441])
        expected = 0.5 * waveform[returned : returned + len(piece)]
        np.testing.assert_allclose(piece, expected, atol=1e-6)
        returned += len(piece)
    np.testing.assert_allclose(stream.flush(), 0.5 * waveform[returned:], atol=1e-6)


@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_flush_starts_afresh_and_gives_nothing_twice(smoother, rate):
    stream, waveform = Stream(rate, 2, model=smoother), make_sound(2, 5000)
    first = feed_in(stream, waveform, chunks(5000, 160))
    assert stream.flush().shape == (2, 0)
    assert stream.flush().shape == (2, 0)
    again = feed_in(stream, waveform, chunks(5000, 160))
    np.testing.assert_array_equal(again, first)


@pytest.mark.parametrize("length", [0, 1, 2, 255, 256, 257, 511, 512, 513])
def test_all_output_is_as_long_as_all_input(smoother, length):
    stream = Stream(16_000, model=smoother)
    assert feed_in(stream, make_sound(1, length)[0], chunks(length, 100)).shape == (length,)


def test_shapes_follow_what_is_fed(half):
    stream = Stream(16_000, model=half)
    assert stream.flush().shape == (0,)
    assert stream.feed(np.zeros(600, np.float32)).shape == (256,)
    assert stream.flush().shape == (344,)
    assert stream.feed(np.zeros((1, 600), np.float32)).shape == (1, 256)
    assert stream.flush().shape == (1, 344)


def test_dtype_is_that_of_the_first_block(half):
    stream, waveform = Stream(16_000, model=half), make_sound(1, 600)[0]
    for first, second in ((np.float64, np.float32), (np.float32, np.float64)):
        assert stream.feed(waveform.astype(first)).dtype == first
        assert stream.feed(waveform.astype(second)).dtype == first
        assert stream.flush().dtype == first


def test_blocks_are_not_kept_by_reference(half):
    """A caller may fill one buffer again and again."""
    stream, waveform = Stream(16_000, model=half), make_sound(1, 4000)[0]
    block, pieces = np.empty(160, np.float32), []
    for start in range(0, 4000, 160):
        block[...] = waveform[start : start + 160]
        pieces.append(stream.feed(block))
        pieces[-1] = pieces[-1].copy()
        block[...] = 9.0
    pieces.append(stream.flush())
    np.testing.assert_allclose(np.concatenate(pieces), 0.5 * waveform, atol=1e-6)


def test_results_are_not_changed_by_later_blocks(smoother):
    stream, waveform = Stream(16_000, model=smoother), make_sound(1, 4000)[0]
    pieces = [stream.feed(waveform[start : start + 500]) for start in range(0, 4000, 500)]
    copies = [piece.copy() for piece in pieces]
    stream.feed(waveform)
    stream.flush()
    for piece, copy in zip(pieces, copies, strict=True):
        np.testing.assert_array_equal(piece, copy)


def test_streams_of_one_model_do_not_touch(smoother):
    waveform = make_sound(2, 4000)
    denoiser = Denoiser(smoother)
    one, two = denoiser.stream(16_000), denoiser.stream(48_000)
    mixed = [[], []]
    for start in range(0, 4000, 160):
        for stream, side, pieces in zip((one, two), waveform, mixed, strict=True):
            pieces.append(stream.feed(side[start : start + 160]))
    for stream, side, pieces, rate in zip(
        (one, two), waveform, mixed, (16_000, 48_000), strict=True
    ):
        streamed = np.concatenate([*pieces, stream.flush()])
        np.testing.assert_allclose(streamed, denoiser(side, rate), atol=STREAM)


def test_a_limit_of_0_has_no_latency(smoother):
    stream = Stream(44_100, model=smoother, attenuation_limit_db=0)
    waveform = make_sound(1, 100)[0]
    assert stream.latency == 0 and stream.latency_ms == 0
    given_back = stream.feed(waveform)
    np.testing.assert_array_equal(given_back, waveform)
    given_back[0] = 7  # the caller's own
    assert waveform[0] != 7 and stream.flush().shape == (0,)


def test_broken_samples_do_not_stay_in_the_state(smoother):
    """After a NaN the stream goes on as after silence."""
    waveform = make_sound(1, 6000)[0]
    broken, silent = waveform.copy(), waveform.copy()
    broken[1000:1010], silent[1000:1010] = np.nan, 0
    stream = Stream(16_000, model=smoother)
    one, two = (feed_in(stream, sound, chunks(6000, 160)) for sound in (broken, silent))
    np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("shape", [(100,), (1, 100), (3, 100)])
def test_wrong_channels_say_what_fits(half, shape):
    stream = Stream(16_000, 2, model=half)
    with pytest.raises(AudioError, match=r"feed \(2, T\)"):
        stream.feed(np.zeros(shape, np.float32))


@pytest.mark.parametrize("n_channels", [0, -1, 257])
def test_wrong_numbers_of_channels(half, n_channels):
    with pytest.raises(AudioError, match="1 to 256"):
        Stream(16_000, n_channels, model=half)


@pytest.mark.parametrize("rate", [16_000, 44_100, 48_000])
@pytest.mark.parametrize("name", sorted(available()) or ["speech"])
def test_shipped_models_stream_like_the_whole(speech_like, name, rate):
    if name not in available():
        pytest.skip(f"no shipped weight {name}")
    speech = speech_like(1.0, rate)
    waveform = speech + make_sound(2, len(speech))
    denoiser = Denoiser(name)
    whole = denoiser(waveform, rate)
    for size in (7, 160, 4096) if rate == 16_000 else (441, 4096):
        streamed = feed_in(denoiser.stream(rate, 2), waveform, chunks(len(speech), size))
        np.testing.assert_allclose(streamed, whole, atol=STREAM)
