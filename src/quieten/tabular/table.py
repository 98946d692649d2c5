"""Tables of signals: CSV and .npy in, and the same file out with other values.

A CSV keeps everything but the cells that are cleaned: heading, order, time stamps, other columns,
delimiter, quotes, line ends, byte order mark. Which columns are signals, and how fast they were
sampled, is found out here; nothing is repaired unless `fill` asks for it.
Letters: C columns that are signals, R rows, T samples.
"""

import io
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quieten.errors import AudioError
from quieten.sndfile import check_readable, check_writable
from quieten.tabular import csv_file
from quieten.tabular.timestamps import Timing

Values = NDArray[np.float64]
Render = Callable[[Values], tuple[bytes, Values]]

CSV_SUFFIXES = frozenset({".csv", ".tsv"})
TABLE_SUFFIXES = CSV_SUFFIXES | {".npy"}
"""Suffixes of tables, in lower case."""


@dataclass(frozen=True)
class Table:
    """The signals of a file, and what it takes to write the file again.

    Attributes:
        path: the file.
        names: of the signals (C): their headings, or their numbers from 1.
        values: the signals at the rows of the file (C, R).
        signal: the same on an even grid (C, T): T = R and the same values unless `fill` had to
            interpolate over uneven steps.
        sample_rate: Hz, from the time column; None where there is none.
        warnings: what was left out or repaired, in words.
    """

    path: Path
    names: tuple[str, ...]
    values: Values
    signal: Values
    sample_rate: float | None
    warnings: tuple[str, ...]
    _timing: Timing | None
    _render: Render

    def at_rows(self, signal: Values) -> Values:
        """Returns a signal (C, T) on the even grid at the rows of the file (C, R)."""
        if self._timing is None or not self._timing.n_uneven:
            return signal
        grid = np.arange(signal.shape[1])
        return np.stack([np.interp(self._timing.rows, grid, channel) for channel in signal])

    def render(self, values: Values) -> tuple[bytes, Values]:
        """Returns the file with other values (C, R) in it, and these values as it stores them.

        Raises:
            AudioError: the shape is another.
        """
        if values.shape != self.values.shape:
            raise AudioError(f"{self.path}: holds {self.values.shape}, not {values.shape}")
        return self._render(values)


def is_table(path: str | os.PathLike[str]) -> bool:
    """Returns whether a file is a table, by its suffix."""
    return Path(path).suffix.lower() in TABLE_SUFFIXES


def read_table(
    path: str | os.PathLike[str], *, columns: Sequence[str] | None = None, fill: bool = False
) -> Table:
    """Returns the signals of a table.

    Of a CSV, these are all columns but that of the time, running numbers, text and constants,
    unless `columns` names others. Of an .npy file (T,) or (T, C) or (C, T): the longer side is the
    time, the first one where both are equally long.

    Args:
        path: a file that `is_table` knows.
        columns: the headings, or numbers from 1, of the signals.
        fill: interpolate over missing values and uneven steps, instead of an error.

    Raises:
        AudioError: the file cannot be read, a value is missing or no number, the steps of the time
            are uneven, or a column is unknown.
    """
    path = Path(path)
    check_readable(path)
    read = _read_csv if path.suffix.lower() in CSV_SUFFIXES else _read_npy
    found = read(path, columns, fill)
    values, filled = _filled(path, found, fill)
    signal, evened = _evened(path, values, found.timing)
    rate = 1 / found.timing.step_s if found.timing else None
    notes = (*found.warnings, *filled, *evened)
    return Table(path, found.names, values, signal, rate, notes, found.timing, found.render)


@dataclass(frozen=True)
class _Found:
    """What stands in a file."""

    names: tuple[str, ...]
    values: Values  # (C, R), NaN where there is none
    timing: Timing | None
    warnings: list[str]
    where: Callable[[int], str]  # a row in words
    render: Render


def _read_csv(path: Path, columns: Sequence[str] | None, fill: bool) -> _Found:
    sheet = csv_file.read_sheet(path)
    chosen, timing, warnings = csv_file.choose_columns(sheet, columns, fill)
    return _Found(
        names=tuple(sheet.names[i] for i in chosen),
        values=np.stack([sheet.column(i) for i in chosen]),
        timing=timing,
        warnings=warnings,
        where=sheet.where,
        render=lambda values: csv_file.render(sheet, chosen, values),
    )


def _read_npy(path: Path, columns: Sequence[str] | None, fill: bool) -> _Found:
    array = _load_npy(path)
    samples = _samples_first(array)
    names = [str(number + 1) for number in range(samples.shape[1])]
    chosen = [csv_file.find_column(path, names, name) for name in dict.fromkeys(columns or names)]
    return _Found(
        names=tuple(names[i] for i in chosen),
        values=samples[:, chosen].T.astype(np.float64),
        timing=None,
        warnings=[] if array.dtype.kind == "f" else [f"{array.dtype} becomes float32"],
        where=lambda row: f"sample {row + 1}",
        render=lambda values: _render_npy(array, chosen, values),
    )


def _filled(path: Path, found: _Found, fill: bool) -> tuple[Values, list[str]]:
    """Returns signals (C, R) without gaps, and what was filled."""
    missing = ~np.isfinite(found.values)
    values, notes = found.values.copy(), []
    for i, name in enumerate(found.names):
        if not missing[i].any():
            continue
        there = np.flatnonzero(~missing[i])
        if not fill or not there.size:
            row = int(np.argmax(missing[i]))
            raise AudioError(
                f"{path}: {found.where(row)} has no value in column {name!r}:"
                " --fill interpolates, --columns chooses other columns"
            )
        gaps = np.flatnonzero(missing[i])
        values[i, gaps] = np.interp(gaps, there, found.values[i, there])
        notes.append(f"{len(gaps)} missing values in column {name!r} were interpolated")
    return values, notes


def _evened(path: Path, values: Values, timing: Timing | None) -> tuple[Values, list[str]]:
    """Returns signals (C, R) on an even grid (C, T), and what was done."""
    if timing is None or not timing.n_uneven:
        return values, []
    if timing.n_samples > 2 * values.shape[1]:
        raise AudioError(
            f"{path}: more is missing than there is ({values.shape[1]} rows in the time of"
            f" {timing.n_samples}): split the file at its gaps"
        )
    grid = np.arange(timing.n_samples)
    signal = np.stack([np.interp(grid, timing.rows, channel) for channel in values])
    return signal, [
        f"{timing.n_uneven} uneven time steps: interpolated onto a grid of"
        f" {1 / timing.step_s:.6g} Hz and back"
    ]


def _load_npy(path: Path) -> NDArray[Any]:
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise AudioError(
            f"{path}: is not an .npy file that can be read ({error}): save it with numpy.save"
        ) from None
    if not isinstance(array, np.ndarray):
        array.close()
        raise AudioError(f"{path}: holds several arrays: save one with numpy.save")
    if array.dtype.kind not in "fiu" or array.ndim not in (1, 2):
        raise AudioError(
            f"{path}: holds {array.dtype} of shape {array.shape}:"
            " save real numbers as (samples,) or (samples, channels)"
        )
    if array.size == 0:
        raise AudioError(f"{path}: holds no samples: nothing to denoise")
    return array


def _samples_first(array: NDArray[Any]) -> NDArray[Any]:
    """Returns a view (T, C) of (T,), (T, C) or (C, T)."""
    if array.ndim == 1:
        return array[:, None]
    return array if array.shape[0] >= array.shape[1] else array.T


def _render_npy(array: NDArray[Any], chosen: Sequence[int], values: Values) -> tuple[bytes, Values]:
    """Returns the bytes of a file like the array with other values (C, T), and these as stored."""
    dtype = array.dtype if array.dtype.kind == "f" else np.dtype(np.float32)
    result = array.astype(dtype, order="K")
    samples = _samples_first(result)
    samples[:, chosen] = values.T
    buffer = io.BytesIO()
    np.save(buffer, result)
    return buffer.getvalue(), samples[:, chosen].T.astype(np.float64)


@contextmanager
def writing(path: Path, data: bytes) -> Iterator[None]:
    """Writes a file that takes its name when the context ends well, and else leaves no trace.

    Raises:
        AudioError: the place cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    check_writable(path)
    folder = path.resolve().parent  # a link's own folder may lie on another disk
    temporary = folder / f".quieten-{secrets.token_hex(6)}.part"
    try:
        temporary.write_bytes(data)
        yield
        temporary.replace(path.resolve())
    finally:
        temporary.unlink(missing_ok=True)
