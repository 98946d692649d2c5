"""CSV files as sheets of cells: what is read can be written again, byte by byte.

A sheet has lines before its rows (comments with #, the heading), rows of equally many cells, and
blank lines behind them. Delimiters are tab, semicolon and comma; the decimal mark is a point, or a
comma where that parts no cells.
Letters: C chosen columns, R rows.
"""

import codecs
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from quieten.errors import AudioError
from quieten.tabular.cells import (
    RowError,
    content,
    is_missing,
    is_number,
    numbers,
    put,
    sniff_decimal,
    sniff_delimiter,
    split_cells,
    split_lines,
    style_of,
)
from quieten.tabular.timestamps import (
    Timing,
    first_uneven,
    is_index_name,
    is_stamp,
    is_time_name,
    measure_steps,
    read_stamps,
)

Values = NDArray[np.float64]

SNIFFED = 20  # lines by which the delimiter is found


@dataclass(frozen=True)
class Sheet:
    """A CSV file.

    Attributes:
        path: the file.
        prefix: all text before the first row, with its byte order mark.
        n_lines_before: lines of the prefix.
        has_heading: whether its last line, a comment maybe, holds the headings.
        names: of all columns; numbers from 1 where there is no heading.
        rows: the cells as they stand, row by row.
        ends: the end of each row's line.
        suffix: blank lines behind the rows.
        delimiter: between cells.
        decimal: the decimal mark.
    """

    path: Path
    prefix: str
    n_lines_before: int
    has_heading: bool
    names: tuple[str, ...]
    rows: list[list[str]]
    ends: list[str]
    suffix: str
    delimiter: str
    decimal: str
    _known: dict[int, tuple[list[str], Values, NDArray[np.bool_]]] = field(default_factory=dict)

    def texts(self, column: int) -> list[str]:
        """Returns the contents of a column (R,)."""
        return self._read(column)[0]

    def column(self, column: int) -> Values:
        """Returns the numbers of a column (R,), NaN where there is none."""
        return self._read(column)[1]

    def is_text(self, column: int) -> NDArray[np.bool_]:
        """Returns where text stands in a column (R,)."""
        return self._read(column)[2]

    def _read(self, column: int) -> tuple[list[str], Values, NDArray[np.bool_]]:
        if column not in self._known:
            texts = [content(row[column]) for row in self.rows]
            self._known[column] = (texts, *numbers(texts, self.decimal))
        return self._known[column]

    def where(self, row: int) -> str:
        """Returns a row, counted from 0, in words: its number and its line in the file."""
        return f"row {row + 1} (line {self.n_lines_before + row + 1})"


def read_sheet(path: Path) -> Sheet:
    """Returns the cells of a CSV file.

    Raises:
        AudioError: it is no text in UTF-8, has no rows, or its rows differ in length.
    """
    text, mark = _read_text(path)
    lines, ends = split_lines(text)
    first = next((i for i, line in enumerate(lines) if line.strip() and line[0] != "#"), len(lines))
    last = next((i + 1 for i in reversed(range(len(lines))) if lines[i].strip()), 0)
    delimiter = sniff_delimiter(lines[first : min(last, first + SNIFFED)])
    cells = _cells(path, lines[first:last], first, delimiter)
    decimal = sniff_decimal([content(c) for row in cells[:SNIFFED] for c in row], delimiter)
    has_heading = bool(cells) and _is_heading(cells, decimal)
    start = first + has_heading
    if start >= last:
        raise AudioError(f"{path}: holds no rows of numbers: nothing to denoise")
    heading = cells[0] if has_heading else _commented(lines[:first], delimiter, len(cells[0]))
    return Sheet(
        path=path,
        prefix=mark + _joined(lines[:start], ends[:start]),
        n_lines_before=start,
        has_heading=bool(heading),
        names=tuple(content(c) or str(i + 1) for i, c in enumerate(heading))
        or tuple(str(i + 1) for i in range(len(cells[0]))),
        rows=cells[1:] if has_heading else cells,
        ends=ends[start:last],
        suffix=_joined(lines[last:], ends[last:]),
        delimiter=delimiter,
        decimal=decimal,
    )


def _read_text(path: Path) -> tuple[str, str]:
    """Returns the text of a file, and its byte order mark as text."""
    data = path.read_bytes()
    mark = "\ufeff" if data.startswith(codecs.BOM_UTF8) else ""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise AudioError(f"{path}: is no text in UTF-8: save it as CSV in UTF-8")
    return text, mark


def _joined(lines: Sequence[str], ends: Sequence[str]) -> str:
    return "".join(line + end for line, end in zip(lines, ends, strict=True))


def _cells(path: Path, lines: Sequence[str], before: int, delimiter: str) -> list[list[str]]:
    """Returns the cells of lines, all of one length."""
    cells: list[list[str]] = []
    for number, line in enumerate(lines, before + 1):
        try:
            row = split_cells(line, delimiter)
        except AudioError as error:
            raise AudioError(f"{path}: line {number}: {error}") from None
        if not line.strip():
            raise AudioError(f"{path}: line {number} is empty, but rows follow: remove it")
        if cells and len(row) != len(cells[0]):
            raise AudioError(
                f"{path}: line {number} has {len(row)} cells, the first one {len(cells[0])}:"
                " repair it"
            )
        cells.append(row)
    return cells


def _is_heading(cells: Sequence[Sequence[str]], decimal: str) -> bool:
    """Whether the first row holds headings: words where the next row holds numbers or times."""
    top = [content(cell) for cell in cells[0]]
    is_value = [_is_value(text, decimal) for text in top]
    if len(cells) > 1:
        below = [_is_value(content(cell), decimal) for cell in cells[1]]
        if any(
            under and text and not here
            for text, here, under in zip(top, is_value, below, strict=True)
        ):
            return True
    counted = [str(i) for i in range(len(top) - 1)]
    return not any(is_value) or (len(top) > 1 and not top[0] and top[1:] == counted)


def _commented(lines: Sequence[str], delimiter: str, count: int) -> list[str]:
    """Returns the headings in a comment right above the rows, as numpy.savetxt has them."""
    if not lines or not lines[-1].startswith("#") or count < 2:
        return []
    with suppress(AudioError):
        cells = split_cells(lines[-1].lstrip("#"), delimiter)
        return cells if len(cells) == count else []
    return []


def _is_value(text: str, decimal: str) -> bool:
    return is_number(text, decimal) or is_stamp(text) or (bool(text) and is_missing(text))


def find_column(path: Path, names: Sequence[str], wanted: str) -> int:
    """Returns the place, from 0, of a column by its heading or its number from 1.

    Raises:
        AudioError: there is none, or two have that heading.
    """
    wanted = wanted.strip()
    found = [i for i, name in enumerate(names) if name == wanted]
    found = found or [i for i, name in enumerate(names) if name.lower() == wanted.lower()]
    if len(found) > 1:
        raise AudioError(f"{path}: {len(found)} columns are named {wanted!r}: give their numbers")
    if not found and wanted.isdecimal() and 1 <= int(wanted) <= len(names):
        found = [int(wanted) - 1]
    if not found:
        raise AudioError(
            f"{path}: has no column {wanted!r}: name one of {', '.join(names)}, or a number from 1"
        )
    return found[0]


def choose_columns(
    sheet: Sheet, columns: Sequence[str] | None, fill: bool
) -> tuple[list[int], Timing | None, list[str]]:
    """Returns the places of the signals, how the rows lie in time, and what was left out.

    Args:
        sheet: the file.
        columns: headings or numbers from 1; None: all that can be signals.
        fill: whether uneven steps will be interpolated.

    Raises:
        AudioError: a column is unknown, or holds text; none is left; the time is broken or uneven.
    """
    wanted = [find_column(sheet.path, sheet.names, name) for name in dict.fromkeys(columns or ())]
    time = _find_time(sheet, wanted)
    timing = None if time is None else _timing(sheet, time, fill)
    if columns is not None:
        for column in wanted:
            _refuse_text(sheet, column)
        return wanted, timing, []
    chosen, notes = [], []
    for column in range(len(sheet.names)):
        if column == time:
            continue
        if reason := _no_signal(sheet, column):
            notes.append(f"column {sheet.names[column]!r} ({reason}) was left as it is")
        else:
            _refuse_text(sheet, column)
            chosen.append(column)
    if not chosen:
        left = f" ({'; '.join(notes)})" if notes else ""
        raise AudioError(
            f"{sheet.path}: holds no column of a signal{left}: name one with --columns"
        )
    return chosen, timing, notes


def _find_time(sheet: Sheet, wanted: Sequence[int]) -> int | None:
    """The column of the time, if any: by its heading, or the first one if it increases."""
    named = [
        i
        for i, name in enumerate(sheet.names)
        if sheet.has_heading and i not in wanted and is_time_name(name, is_first=i == 0)
    ]
    if named:
        return named[0]
    if 0 in wanted or len(sheet.names) == 1 or len(sheet.rows) < 3:
        return None
    if _increases(sheet) and not _is_running_number(sheet):
        return 0
    return None


def _increases(sheet: Sheet) -> bool:
    """Whether the first column holds times that increase."""
    texts = sheet.texts(0)
    try:
        return bool((np.diff(read_stamps(texts, sheet.names[0], sheet.decimal).seconds) > 0).all())
    except RowError:
        return False


def _is_running_number(sheet: Sheet) -> bool:
    """Whether the first column counts the rows: whole numbers, one after the other."""
    if len(sheet.names) == 1 or len(sheet.rows) < 3:
        return False
    if sheet.has_heading and not is_index_name(sheet.names[0]):
        return False
    return bool((np.diff(sheet.column(0)) == 1).all())


def _timing(sheet: Sheet, column: int, fill: bool) -> Timing | None:
    """How the rows lie in time by that column; None for a single row."""
    name = sheet.names[column]
    if len(sheet.rows) < 2:
        return None
    try:
        stamps = read_stamps(sheet.texts(column), name, sheet.decimal)
        timing = measure_steps(stamps)
    except RowError as error:
        raise AudioError(
            f"{sheet.path}: {sheet.where(error.row)}, time column {name!r}: {error}: repair it, or"
            " remove the column"
        ) from None
    if timing.n_uneven and not fill:
        row = first_uneven(stamps, timing)
        step_s = stamps.seconds[row] - stamps.seconds[row - 1]
        raise AudioError(
            f"{sheet.path}: {sheet.where(row)} comes {step_s:.6g} s after the row before, usual are"
            f" {timing.step_s:.6g} s: --fill interpolates onto an even grid and back"
        )
    return timing


def _no_signal(sheet: Sheet, column: int) -> str:
    """Why a column is no signal, in a word; "" if it is one."""
    if column == 0 and _is_running_number(sheet):
        return "running number"
    values, is_text = sheet.column(column), sheet.is_text(column)
    there = values[np.isfinite(values)]
    if 2 * is_text.sum() > len(values) or (is_text.any() and not there.size):
        return "text"
    if not there.size:
        return "empty"
    return "constant" if len(values) > 1 and not is_text.any() and not np.ptp(there) else ""


def _refuse_text(sheet: Sheet, column: int) -> None:
    texts, is_text = sheet.texts(column), sheet.is_text(column)
    if is_text.any():
        row = int(np.argmax(is_text))
        raise AudioError(
            f"{sheet.path}: {sheet.where(row)} holds {texts[row]!r} in column"
            f" {sheet.names[column]!r}, which is no number: repair it, or choose with --columns"
        )


def render(sheet: Sheet, columns: Sequence[int], values: Values) -> tuple[bytes, Values]:
    """Returns the bytes of the file with other values (C, R), and these as they are written."""
    rows = [row.copy() for row in sheet.rows]
    stored = np.empty_like(values)
    for i, column in enumerate(columns):
        there = sheet.column(column)[np.isfinite(sheet.column(column))]
        spread = float(there.std()) if there.size else 0.0
        style = style_of(sheet.texts(column), spread, sheet.decimal)
        for row, cells in enumerate(rows):
            text = style.text(float(values[i, row]))
            cells[column] = put(cells[column], text)
            stored[i, row] = style.value(text)
    body = "".join(_written(rows, sheet))
    return (sheet.prefix + body + sheet.suffix).encode("utf-8"), stored


def _written(rows: Sequence[Sequence[str]], sheet: Sheet) -> Iterator[str]:
    for row, end in zip(rows, sheet.ends, strict=True):
        yield sheet.delimiter.join(row) + end
