"""Pictures: where a tone lies and how loud it is, what a PNG decodes to, colours that only rise."""

import io
import re

import numpy as np
import pytest

from quieten.report.pictures import (
    MAX_COLUMNS,
    MAX_ROWS,
    RANGE_DB,
    WAVE_COLUMNS,
    color_table,
    filter_tables,
    grey_levels,
    grey_png,
    outline,
    outline_path,
    spectrogram_db,
    ticks,
)


def sine(frequency_hz, rate, seconds=1.0, level=1.0):
    moments = np.arange(round(rate * seconds)) / rate
    return (level * np.sin(2 * np.pi * frequency_hz * moments)).astype(np.float32)[None]


@pytest.mark.parametrize("rate", [8000, 16_000, 44_100, 48_000])
def test_a_tone_lies_at_its_frequency_and_level(rate):
    levels = spectrogram_db(sine(1000, rate, level=0.1), rate)
    spectrum = levels[:, levels.shape[1] // 2]
    bin_hz = rate / 2 / (len(spectrum) - 1)
    assert np.argmax(spectrum) * bin_hz == pytest.approx(1000, abs=bin_hz)
    pooled = -(-round(0.016 * rate + 1) // MAX_ROWS)  # a tone shares its row with quiet bins
    assert spectrum.max() == pytest.approx(-20 - 10 * np.log10(pooled), abs=1.3)


def test_a_click_lies_in_its_column_at_any_length():
    for seconds in (0.5, 5.0, 30.0):
        rate, place = 16_000, 0.75
        wave = np.zeros((1, round(rate * seconds)), np.float32)
        wave[0, round(place * wave.shape[1])] = 1
        levels = spectrogram_db(wave, rate)
        loud = np.flatnonzero(levels.mean(axis=0) > levels.mean(axis=0).max() - 6)
        assert loud.mean() / levels.shape[1] == pytest.approx(place, abs=0.006)


def test_pictures_stay_small_and_silence_is_finite():
    levels = spectrogram_db(np.zeros((2, 48_000 * 60), np.float32), 48_000)
    assert levels.shape[0] <= MAX_ROWS and levels.shape[1] <= MAX_COLUMNS
    assert np.isfinite(levels).all() and levels.max() < -120
    assert spectrogram_db(np.ones((1, 1), np.float32), 16_000).shape[1] == 1


def test_grey_is_linear_in_decibels_with_the_high_frequencies_on_top():
    levels = np.array([[0.0], [-RANGE_DB / 2], [-RANGE_DB], [-200.0]], np.float32)
    assert grey_levels(levels, 0.0)[:, 0] == pytest.approx([0, 0, 127.5, 255], abs=2)
    assert grey_levels(levels, RANGE_DB)[-1, 0] == 0  # the loudest is 75 dB below the top


@pytest.mark.parametrize("size", [(1, 1), (3, 7), (260, 900)])
def test_png_decodes_to_the_same_pixels(rng, size):
    image = pytest.importorskip("PIL.Image")
    picture = rng.integers(0, 256, size).astype(np.uint8)
    decoded = image.open(io.BytesIO(grey_png(picture)))
    assert decoded.mode == "L"
    np.testing.assert_array_equal(np.asarray(decoded), picture)


def test_png_is_smaller_where_rows_are_alike():
    rows = np.tile(np.random.default_rng(0).integers(0, 256, 900), (200, 1)).astype(np.uint8)
    assert len(grey_png(rows)) < 3000  # one row of noise, then nothing but zeros


def test_outline_holds_the_extremes_at_their_place():
    wave = np.zeros((1, 6000), np.float32)
    wave[0, 3000], wave[0, 4500] = 0.5, -0.25
    bounds = outline(wave)
    assert bounds.shape == (2, WAVE_COLUMNS)
    assert np.argmax(bounds[1]) == WAVE_COLUMNS // 2 and bounds[1].max() == 0.5
    assert np.argmin(bounds[0]) == WAVE_COLUMNS * 3 // 4 and bounds[0].min() == -0.25
    assert outline(wave[:, :10]).shape == (2, WAVE_COLUMNS)


def test_the_path_spans_the_box():
    bounds = np.stack([np.full(WAVE_COLUMNS, -1.0), np.full(WAVE_COLUMNS, 1.0)])
    numbers = [float(text) for text in re.findall(r"[\d.]+", outline_path(bounds, 1.0))]
    columns, rows = numbers[::2], numbers[1::2]
    assert (min(columns), max(columns)) == (0, WAVE_COLUMNS - 1)
    assert (min(rows), max(rows)) == (1, 199)


@pytest.mark.parametrize("view", ["log", "magnitude"])
@pytest.mark.parametrize(("scheme", "sign"), [("dark", 1), ("light", -1)])
def test_colours_only_get_lighter_or_darker(scheme, sign, view):
    """A reader who sees no hue still sees what is louder."""
    table = color_table(scheme, view)
    linear = np.where(table <= 0.04045, table / 12.92, ((table + 0.055) / 1.055) ** 2.4)
    light = linear @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(light) * sign >= -1e-6).all()
    assert abs(light[-1] - light[0]) > 0.8
    assert table.min() >= 0 and table.max() <= 1


def test_filters_hold_every_view_in_every_scheme():
    names = set(re.findall(r'id="([\w-]+)"', filter_tables()))
    assert names == {"log-dark", "log-light", "magnitude-dark", "magnitude-light"}


@pytest.mark.parametrize(
    ("span", "most", "expected"),
    [(8.0, 4, [0, 2, 4, 6, 8]), (4.9, 6, [0, 1, 2, 3, 4]), (60, 6, [0, 10, 20, 30, 40, 50, 60])],
)
def test_ticks_are_round_numbers(span, most, expected):
    assert ticks(span, most) == expected
