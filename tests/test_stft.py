"""Window, framing and perfect reconstruction; whole and streamed frames are the same."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quieten.errors import ConfigError
from quieten.stft import (
    StreamingISTFT,
    StreamingSTFT,
    analysis_window,
    frame_count,
    istft,
    stft,
    synthesis_window,
)

SIZES = [(512, 256), (512, 128), (352, 176), (1536, 768), (16, 2)]
LENGTHS = [0, 1, 2, 255, 256, 257, 511, 512, 513, 1000, 10_007]
ROUNDING = 1e-6  # of float32 transforms on samples below 1


def make_noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(7).uniform(-1, 1, shape).astype(np.float32)


def split(length: int, sizes: list[int]) -> list[slice]:
    """Slices of these sizes, over and over, that cover `length` samples."""
    slices, start = [], 0
    while start < length:
        stop = min(length, start + sizes[len(slices) % len(sizes)])
        slices.append(slice(start, stop))
        start = stop
    return slices


@pytest.mark.parametrize(("n_fft", "hop"), SIZES)
def test_windows_overlap_to_one(n_fft, hop):
    product = analysis_window(n_fft) * synthesis_window(n_fft, hop)
    np.testing.assert_allclose(product.reshape(-1, hop).sum(axis=0), 1, atol=1e-6)


def test_window_is_the_root_of_a_periodic_hann():
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(512) / 512)
    np.testing.assert_allclose(analysis_window(512) ** 2, hann, atol=1e-6)


def test_windows_cannot_be_changed_by_a_caller():
    with pytest.raises(ValueError):
        analysis_window(512)[0] = 1.0


@pytest.mark.parametrize(("n_fft", "hop"), SIZES)
@pytest.mark.parametrize("length", LENGTHS)
def test_istft_of_stft_is_the_waveform(n_fft, hop, length):
    waveform = make_noise(2, length)
    restored = istft(stft(waveform, n_fft, hop), n_fft, hop, length)
    assert restored.shape == waveform.shape and restored.dtype == np.float32
    np.testing.assert_allclose(restored, waveform, atol=ROUNDING)


def test_shapes_and_types():
    spectrogram = stft(make_noise(3, 2, 1000), 512, 256)
    assert spectrogram.shape == (3, 2, 257, frame_count(1000, 512, 256))
    assert spectrogram.dtype == np.complex64
    assert stft(make_noise(1000), 512, 256).shape == (257, 5)


@pytest.mark.parametrize(("length", "frames"), [(0, 0), (1, 2), (256, 2), (257, 3), (512, 3)])
def test_frame_count_covers_every_sample_twice(length, frames):
    assert frame_count(length, 512, 256) == frames


def test_frame_k_covers_the_samples_that_the_docstring_names():
    waveform = make_noise(2000)
    spectrogram = stft(waveform, 512, 128)
    for k in (3, 7):
        piece = waveform[(k + 1) * 128 - 512 : (k + 1) * 128]
        expected = np.fft.rfft(piece * analysis_window(512))
        np.testing.assert_allclose(spectrogram[:, k], expected, atol=1e-4)


def test_a_full_scale_tone_has_the_unnormalised_peak():
    tone = np.sin(2 * np.pi * 1000 * np.arange(16_000) / 16_000).astype(np.float32)
    peak = np.abs(stft(tone, 512, 256))[32, 10]  # 1000 Hz is bin 32
    assert peak == pytest.approx(analysis_window(512).sum() / 2, rel=1e-3)


@pytest.mark.parametrize(("n_fft", "hop"), SIZES)
@pytest.mark.parametrize("sizes", [[1], [7], [160], [4096], [1, 3000, 0, 5]])
def test_streamed_frames_are_the_whole_frames(n_fft, hop, sizes):
    waveform = make_noise(2, 5003 if sizes != [1] else 1003)
    analysis = StreamingSTFT(n_fft, hop, 2)
    slices = split(waveform.shape[1], [size for size in sizes if size])
    pieces = [analysis.feed(waveform[:, part]) for part in slices]
    pieces.append(analysis.feed(waveform[:, :0]))  # nothing fed, nothing changed
    pieces.append(analysis.flush())
    np.testing.assert_allclose(
        np.concatenate(pieces, axis=-1), stft(waveform, n_fft, hop), atol=2e-5
    )


@given(st.lists(st.integers(0, 900), max_size=12), st.sampled_from(SIZES))
def test_streams_reconstruct_in_any_blocks(sizes, size):
    analysis, synthesis = StreamingSTFT(*size, 1), StreamingISTFT(*size, 1)
    waveform = make_noise(1, sum(sizes))
    stops = np.cumsum([0, *sizes])
    pieces = [
        synthesis.feed(analysis.feed(waveform[:, start:stop])) for start, stop in pairwise(stops)
    ]
    pieces.append(synthesis.feed(analysis.flush()))
    restored = np.concatenate(pieces, axis=-1)[:, : sum(sizes)]
    np.testing.assert_allclose(restored, waveform, atol=ROUNDING)


def test_flush_starts_afresh():
    analysis, waveform = StreamingSTFT(512, 256, 1), make_noise(1, 700)
    first = [analysis.feed(waveform), analysis.flush()]
    assert analysis.flush().shape == (1, 257, 0)
    second = [analysis.feed(waveform), analysis.flush()]
    for before, after in zip(first, second, strict=True):
        np.testing.assert_array_equal(before, after)


def test_reset_of_the_synthesis_forgets_the_tail():
    spectrogram = stft(make_noise(1, 700), 512, 256)
    synthesis = StreamingISTFT(512, 256, 1)
    first = synthesis.feed(spectrogram)
    synthesis.reset()
    np.testing.assert_array_equal(synthesis.feed(spectrogram), first)


@pytest.mark.parametrize(("n_fft", "hop"), [(512, 300), (512, 512), (512, 0), (15, 5)])
def test_frames_that_cannot_be_put_together_are_refused(n_fft, hop):
    for call in (
        lambda: stft(make_noise(600), n_fft, hop),
        lambda: synthesis_window(n_fft, hop),
        lambda: StreamingSTFT(n_fft, hop),
    ):
        with pytest.raises(ConfigError, match="multiple of the hop"):
            call()


@pytest.mark.parametrize(("n_fft", "length"), [(512, 1025), (256, 1000)])
def test_a_spectrogram_that_does_not_fit_is_refused(n_fft, length):
    spectrogram = stft(make_noise(1000), 512, 256)
    with pytest.raises(ConfigError, match="use the values it was made with"):
        istft(spectrogram, n_fft, n_fft // 2, length)
