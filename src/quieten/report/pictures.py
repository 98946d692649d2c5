"""Pictures of sounds for a page: spectrograms as grey PNG, outlines of waves, colours for both.

Grey levels stand for decibels; the page colours them with the tables that are made here, so one
picture serves the log-magnitude and the magnitude view, in dark and in light. PNG is written by
hand: eight-bit grey needs a header, zlib and two checksums.
Letters: C channels, T samples, F bins, N frames, H rows, W columns.
"""

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

from quieten.stft import stft

Waveform = NDArray[np.floating]
Levels = NDArray[np.float32]

RANGE_DB = 75.0
"""What a picture shows below its loudest point."""

MAX_COLUMNS = 900
MAX_ROWS = 260

WAVE_COLUMNS = 600
BRIGHTER_DB = 15.0
"""How far below the loudest point the magnitude view has its full colour: it would be black."""

_WINDOW_S = 0.032
_GREYS = 96  # steps of 0.8 dB: half the bytes of 256, and nobody sees the difference
_FLOOR_POWER = 1e-14

# Stops of equal distance as (lightness, chroma, hue in degrees) in OKLCH (Ottosson, 2020);
# lightness is monotonic, so the pictures read in grey and for every colour vision.
_STOPS = {
    "dark": (
        (0.185, 0.012, 255),
        (0.30, 0.09, 285),
        (0.45, 0.15, 320),
        (0.62, 0.17, 20),
        (0.78, 0.14, 60),
        (0.90, 0.11, 95),
        (0.985, 0.03, 105),
    ),
    "light": (
        (0.985, 0.004, 240),
        (0.93, 0.035, 215),
        (0.83, 0.075, 215),
        (0.68, 0.10, 230),
        (0.52, 0.115, 250),
        (0.37, 0.105, 272),
        (0.22, 0.07, 290),
    ),
}


def spectrogram_db(waveform: Waveform, sample_rate: int) -> Levels:
    """Returns the power of a waveform (C, T) in dB, (H, W), lowest frequency first.

    Frames of 32 ms; column 0 is centred on the first sample. Power is averaged over channels,
    over neighbouring frames beyond `MAX_COLUMNS` and over neighbouring bins beyond `MAX_ROWS`.
    0 dB is the power of a sine at full scale.
    """
    n_fft = 32 * max(1, round(_WINDOW_S * sample_rate / 32))
    length = waveform.shape[-1]
    hop = next((n_fft // d for d in (16, 8) if length * d <= MAX_COLUMNS * n_fft), n_fft // 4)
    columns = max(1, round(length / hop))
    first = n_fft // hop // 2 - 1  # the frame whose middle is the first sample
    padded = np.pad(np.asarray(waveform, np.float32), ((0, 0), (0, n_fft)))
    spectra = stft(padded, n_fft, hop)[..., first : first + columns]  # (C, F, N)
    gain = (n_fft / np.pi) ** 2  # of a sine in the middle of a bin: half the window's sum
    power = np.mean(np.abs(spectra, dtype=np.float64) ** 2, axis=0) / gain
    power = _pooled(_pooled(power, MAX_ROWS, 0), MAX_COLUMNS, 1)
    return np.asarray(10 * np.log10(power + _FLOOR_POWER), np.float32)


def _pooled(values: NDArray[np.float64], limit: int, axis: int) -> NDArray[np.float64]:
    """Returns means of as few neighbours along an axis as give at most `limit` of them."""
    size = values.shape[axis]
    step = -(-size // limit)
    if step == 1:
        return values
    starts = np.arange(0, size, step)
    counts = np.diff(np.append(starts, size))
    sums: NDArray[np.float64] = np.add.reduceat(values, starts, axis=axis)
    return sums / (counts if axis else counts[:, None])


def grey_levels(levels_db: Levels, top_db: float) -> NDArray[np.uint8]:
    """Returns a picture (H, W), highest frequency first: 255 at `top_db`, 0 at the range below."""
    share = np.clip(1 + (levels_db[::-1] - top_db) / RANGE_DB, 0, 1)
    steps = np.round(share * (_GREYS - 1)) / (_GREYS - 1)
    return np.asarray(np.round(255 * steps), np.uint8)


def grey_png(picture: NDArray[np.uint8]) -> bytes:
    """Returns a picture (H, W) as an eight-bit grey PNG file (W3C PNG, third edition, 2025)."""
    height, width = picture.shape
    before = np.vstack([np.zeros((1, width), np.uint8), picture[:-1]])
    filtered = {0: picture, 2: picture - before}  # filter types "none" and "up", modulo 256
    packed = [
        zlib.compress(np.insert(rows, 0, kind, axis=1).astype(np.uint8).tobytes(), 9)
        for kind, rows in filtered.items()
    ]
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", min(packed, key=len)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in parts)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def outline(waveform: Waveform) -> NDArray[np.float64]:
    """Returns lowest and highest sample of a waveform (C, T) in each of `WAVE_COLUMNS`, (2, W)."""
    starts = np.linspace(0, waveform.shape[-1], WAVE_COLUMNS, endpoint=False).astype(int)
    low = np.minimum.reduceat(waveform.min(axis=0), starts)
    high = np.maximum.reduceat(waveform.max(axis=0), starts)
    return np.stack([low, high]).astype(np.float64)


def outline_path(bounds: NDArray[np.float64], peak: float) -> str:
    """Returns the SVG path of an outline (2, W) in a box of W x 200, `peak` at its edges."""
    rows = np.round(100 - 99 * np.clip(bounds / max(peak, 1e-9), -1, 1), 1)
    rows[0] = np.maximum(rows[0], rows[1] + 0.8)  # silence is a thin line, not nothing
    there = " ".join(f"{column} {row:g}" for column, row in enumerate(rows[1]))
    back = " ".join(f"{column} {rows[0, column]:g}" for column in range(rows.shape[1] - 1, -1, -1))
    return f"M{there} {back}Z"


def color_table(scheme: str, view: str, entries: int = 64) -> NDArray[np.float64]:
    """Returns sRGB colours (entries, 3) in 0..1 for evenly spaced grey levels.

    Args:
        scheme: "dark" or "light".
        view: "log" (colour follows the decibels) or "magnitude" (it follows the amplitude, up to
            `BRIGHTER_DB` below the loudest point).
        entries: how many.
    """
    share = np.linspace(0, 1, entries)
    if view == "magnitude":
        share = np.minimum(10 ** ((RANGE_DB * (share - 1) + BRIGHTER_DB) / 20), 1)
    stops = np.array([_oklab(*stop) for stop in _STOPS[scheme]])
    places = share * (len(stops) - 1)
    mixed = np.stack([np.interp(places, np.arange(len(stops)), axis) for axis in stops.T], axis=1)
    return _srgb(mixed)


def _oklab(lightness: float, chroma: float, hue_degrees: float) -> tuple[float, float, float]:
    hue = np.deg2rad(hue_degrees)
    return lightness, chroma * float(np.cos(hue)), chroma * float(np.sin(hue))


def _srgb(lab: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns OKLab colours (K, 3) as sRGB, limited to what it holds (Ottosson, 2020)."""
    to_cones = np.array(
        [
            [1, 0.3963377774, 0.2158037573],
            [1, -0.1055613458, -0.0638541728],
            [1, -0.0894841775, -1.2914855480],
        ]
    )
    to_linear = np.array(
        [
            [4.0767416621, -3.3077115913, 0.2309699292],
            [-1.2684380046, 2.6097574011, -0.3413193965],
            [-0.0041960863, -0.7034186147, 1.7076147010],
        ]
    )
    linear = np.clip((lab @ to_cones.T) ** 3 @ to_linear.T, 0, 1)
    curved = 1.055 * linear ** (1 / 2.4) - 0.055
    return np.asarray(np.where(linear <= 0.0031308, 12.92 * linear, curved))


def ticks(span: float, most: int) -> list[float]:
    """Returns at most `most` + 1 round numbers from 0 up to `span`, evenly spaced."""
    decades = [10.0**power for power in range(-3, 5)]
    steps = [factor * decade for decade in decades for factor in (1, 2, 5)]
    step = next((step for step in steps if span / step <= most), span)
    return [round(step * number, 6) for number in range(int(span / step + 1e-9) + 1)]


def filter_tables() -> str:
    """Returns the SVG filters that colour grey pictures: `log-dark`, `magnitude-light`, ..."""
    filters = []
    for view in ("log", "magnitude"):
        for scheme in _STOPS:
            table = color_table(scheme, view)
            channels = "".join(
                f'<feFunc{name} type="table" tableValues="{_numbers(column)}"/>'
                for name, column in zip("RGB", table.T, strict=True)
            )
            filters.append(
                f'<filter id="{view}-{scheme}" color-interpolation-filters="sRGB" x="0" y="0"'
                f' width="1" height="1"><feComponentTransfer>{channels}</feComponentTransfer>'
                "</filter>"
            )
    return "".join(filters)


def gradient_stops(scheme: str) -> str:
    """Returns the colours of the log-magnitude view as the stops of a CSS gradient."""
    table = np.round(255 * color_table(scheme, "log", 13)).astype(int)
    return ", ".join(f"rgb({red} {green} {blue})" for red, green, blue in table)


def _numbers(values: NDArray[np.float64]) -> str:
    return " ".join(f"{value:.3f}".rstrip("0").rstrip(".") for value in values)
