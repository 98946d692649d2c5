"""Models that look ahead: their windows depend on the number of a frame, never on the chunks."""

import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tiny_model
from quieten.denoise import Denoiser, Stream
from quieten.runtime import Model, load
from quieten.stft import istft, stft
from quieten.windows import Span, StreamingWindows, spans

RATES = [8000, 11_025, 16_000, 44_100, 48_000]
CHUNKS = [1, 7, 160, 4096]
WINDOW, MARGIN = 12, 3  # of the tiny models, with a step of 6
HOP = 256  # at 16 kHz

shapes = st.integers(0, 6).flatmap(
    lambda margin: st.tuples(st.integers(2 * margin + 1, 20), st.just(margin))
)


def make_sound(n_channels: int, length: int) -> np.ndarray:
    """Noise with a level that rises and falls, so that windows differ."""
    rng = np.random.default_rng(13)
    level = 0.02 + 0.1 * np.square(np.sin(np.arange(length) / 1500))
    return (level * rng.standard_normal((n_channels, length))).astype(np.float32)


def feed_in(stream: Stream, waveform: np.ndarray, size: int) -> np.ndarray:
    """Everything a stream gives for a waveform in blocks of this size, and the flush."""
    starts = range(0, waveform.shape[-1], size)
    pieces = [stream.feed(waveform[..., start : start + size]) for start in starts]
    return np.concatenate([*pieces, stream.flush()], axis=-1)


@pytest.fixture(scope="module")
def averager(tmp_path_factory) -> Model:
    return load(tiny_model.averager(tmp_path_factory.mktemp("model"), WINDOW, MARGIN))


def test_the_windows_of_a_sound():
    """Steps of 6; the first keeps its front, the last ends with the sound."""
    assert list(spans(27, 12, 3)) == [
        Span(0, 12, 0, 9),
        Span(6, 18, 9, 15),
        Span(12, 24, 15, 21),
        Span(15, 27, 21, 27),
    ]


def test_a_sound_shorter_than_a_window_is_one():
    assert list(spans(5, 12, 3)) == [Span(0, 5, 0, 5)]
    assert list(spans(12, 12, 0)) == [Span(0, 12, 0, 12)]
    assert list(spans(0, 12, 3)) == []


def test_a_sound_that_ends_with_a_window_needs_its_margin():
    assert list(spans(18, 12, 3)) == [Span(0, 12, 0, 9), Span(6, 18, 9, 15), Span(6, 18, 15, 18)]


@given(shapes, st.integers(0, 100))
def test_every_frame_is_kept_once_and_has_its_context(shape, n_frames):
    window, margin = shape
    found = list(spans(n_frames, window, margin))
    kept = [frame for span in found for frame in range(span.start, span.stop)]
    assert kept == list(range(n_frames))
    for span in found:
        assert span.last - span.first == min(window, n_frames)
        assert span.start - span.first >= margin or span.first == 0
        assert span.last - span.stop >= margin or span.last == n_frames


@given(shapes, st.lists(st.integers(0, 40), max_size=8))
def test_windows_of_a_stream_are_those_of_the_whole(shape, sizes):
    window, margin = shape
    n_frames = sum(sizes)
    numbers = np.arange(n_frames, dtype=np.complex64)[None, :, None]  # (C, N, F) of one bin
    windows, found, start = StreamingWindows(window, margin), [], 0
    for again in range(2):  # flush starts afresh
        found.clear()
        for end in np.cumsum(sizes, dtype=int):
            found += windows.feed(numbers[:, start:end])
            start = end
        found += windows.flush()
        start = 0
        expected = list(spans(n_frames, window, margin))
        assert len(found) == len(expected), again
        for (spectra, kept), span in zip(found, expected, strict=True):
            seen = spectra[0, :, 0].real
            assert seen.tolist() == list(range(span.first, span.last))
            assert seen[kept].tolist() == list(range(span.start, span.stop))
    assert windows.flush() == []


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("mode", ["mono", "linked", "separate"])
def test_chunks_are_the_whole_bit_for_bit(averager, rate, mode):
    waveform = make_sound(1 if mode == "mono" else 2, 12_001)
    denoiser = Denoiser(averager, channels="linked" if mode == "mono" else mode)
    whole = denoiser(waveform, rate)
    assert whole.shape == waveform.shape and np.abs(whole - waveform).max() > 0.01
    stream = denoiser.stream(rate, len(waveform))
    for size in [*CHUNKS, waveform.shape[1]]:
        np.testing.assert_array_equal(feed_in(stream, waveform, size), whole)


@pytest.mark.parametrize("length", [256 * 5, 256 * 30 + 11])
def test_each_frame_has_the_mask_of_its_window(tmp_path, length):
    """The model counts the frames it sees, so its mask tells where in a window a frame lay."""
    step = 1 / 32  # no rounding
    model = load(tiny_model.counter(tmp_path, WINDOW, MARGIN, step))
    waveform = make_sound(1, length)[0]
    spectra = stft(waveform, 2 * HOP, HOP)
    n_frames = spectra.shape[-1]
    gains = np.concatenate(
        [
            step * (np.arange(span.start, span.stop) - span.first + 1)
            for span in spans(n_frames, WINDOW, MARGIN)
        ]
    )
    expected = waveform - istft((1 - gains) * spectra, 2 * HOP, HOP, length)
    np.testing.assert_allclose(Denoiser(model)(waveform, 16_000), expected, atol=1e-6)


def test_what_comes_later_is_heard(averager):
    """A frame depends on the end of its window, and on nothing behind it."""
    waveform = make_sound(1, 30 * HOP)[0]
    louder = waveform.copy()
    louder[WINDOW * HOP :] *= 3  # behind the first window, which keeps 9 frames
    one, two = (Denoiser(averager)(sound, 16_000) for sound in (waveform, louder))
    np.testing.assert_array_equal(one[: 8 * HOP], two[: 8 * HOP])  # the ninth overlaps the tenth
    louder[(WINDOW - 1) * HOP :] *= 3  # one hop more reaches into it
    reached = Denoiser(averager)(louder, 16_000)
    assert np.abs(reached[: 8 * HOP] - one[: 8 * HOP]).max() > 1e-4


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("margin", [0, 3])
def test_the_lag_is_never_more_than_the_latency(tmp_path, rate, margin):
    stream = Stream(rate, model=load(tiny_model.averager(tmp_path, WINDOW, margin)))
    hop = stream.latency // (12 if margin else 13)
    assert stream.latency == hop * (12 if margin else 13)
    assert stream.latency_ms == pytest.approx(1000 * stream.latency / rate)
    rng, fed, returned, most = np.random.default_rng(2), 0, 0, 0
    for size in [*rng.integers(1, 5 * hop, 30), *[1] * 5000]:
        fed += size
        returned += len(stream.feed(np.zeros(size, np.float32)))
        assert fed - stream.latency <= returned <= fed
        most = max(most, fed - returned)
    if rate <= 8000 and not margin:  # enough single samples to meet the worst moment
        assert most == stream.latency - 1


def test_the_lag_is_greatest_before_the_first_window(averager):
    stream = Stream(16_000, model=averager)
    assert stream.feed(np.zeros(stream.latency - 1, np.float32)).size == 0
    assert stream.feed(np.zeros(1, np.float32)).size == (WINDOW - MARGIN - 1) * HOP


@pytest.mark.parametrize("rate", RATES)
def test_output_sample_i_belongs_to_input_sample_i(tmp_path, rate):
    path = tiny_model.constant(tmp_path, 0.5, window_frames="12", margin_frames="3")
    stream, waveform, returned = Stream(rate, model=load(path)), make_sound(1, 30_000)[0], 0
    for start in range(0, 30_000, 441):
        piece = stream.feed(waveform[start : start + 441])
        expected = 0.5 * waveform[returned : returned + len(piece)]
        np.testing.assert_allclose(piece, expected, atol=1e-6)
        returned += len(piece)
    np.testing.assert_allclose(stream.flush(), 0.5 * waveform[returned:], atol=1e-6)


def test_a_limit_of_0_is_the_input(averager):
    waveform = make_sound(2, 9001)
    denoiser = Denoiser(averager, attenuation_limit_db=0)
    np.testing.assert_array_equal(denoiser(waveform, 44_100), waveform)
    assert denoiser.stream(44_100).latency == 0


@pytest.mark.parametrize("rate", [8000, 48_000])
def test_a_mask_of_one_is_the_input(tmp_path, rate):
    path = tiny_model.constant(tmp_path, 1.0, window_frames="12", margin_frames="3")
    waveform = make_sound(2, 20_000)
    np.testing.assert_array_equal(Denoiser(load(path))(waveform, rate), waveform)


@pytest.mark.parametrize("length", [0, 1, 255, 256, 11 * HOP, 12 * HOP - 1, 12 * HOP, 100_001])
def test_all_output_is_as_long_as_all_input(averager, length):
    waveform = make_sound(1, length)[0]
    assert Denoiser(averager)(waveform, 16_000).shape == (length,)
    assert feed_in(Stream(16_000, model=averager), waveform, 999).shape == (length,)


def test_flush_starts_afresh_and_gives_nothing_twice(averager):
    stream, waveform = Stream(16_000, 2, model=averager), make_sound(2, 9000)
    first = feed_in(stream, waveform, 160)
    assert stream.flush().shape == (2, 0)
    np.testing.assert_array_equal(feed_in(stream, waveform, 160), first)


def test_separate_channels_are_denoised_alone(averager):
    waveform = make_sound(3, 9000)
    together = Denoiser(averager, channels="separate")(waveform, 22_050)
    for side, alone in zip(together, waveform, strict=True):
        np.testing.assert_array_equal(side, Denoiser(averager)(alone, 22_050))


def test_memory_does_not_grow_with_the_sound(averager):
    stream, block = Stream(16_000, model=averager), np.zeros(4000, np.float32)
    for _ in range(20):
        stream.feed(block)
    tracemalloc.start()
    held = []
    for _ in range(4):
        for _ in range(50):
            stream.feed(block)
        held.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert all(after - before < 100_000 for before, after in pairwise(held))  # 50 blocks: 800 kB
