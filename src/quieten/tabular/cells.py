"""The text of a table: lines, cells, numbers, and how a number is written like its neighbours.

A cell is kept as it stands, with its blanks and quotes; `content` is what it says.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quieten.errors import AudioError

DELIMITERS = ("\t", ";", ",")  # the last one where none is seen
MISSING = frozenset({"", "nan", "na", "n/a", "null", "none", "-", "?", "inf", "-inf", "+inf"})
LEAST_DIGITS = 4  # significant, of a cleaned value
MOST_DECIMALS = 17


class RowError(AudioError):
    """Something is wrong with one row; who knows the file makes a whole message of it.

    Attributes:
        row: counted from 0, without the heading.
    """

    def __init__(self, row: int, reason: str) -> None:
        super().__init__(reason)
        self.row = row


_LINE_END = re.compile(r"(\r\n|\n|\r)")
_NUMBER = re.compile(r"[+-]?(\d+[.]?\d*|[.]\d+)([eE][+-]?\d+)?")
_COMMA_NUMBER = re.compile(r"[+-]?\d+,\d+([eE][+-]?\d+)?")


def split_lines(text: str) -> tuple[list[str], list[str]]:
    """Returns the lines of a text and how each one ends; the last one's end may be empty."""
    pieces = _LINE_END.split(text)
    lines, ends = pieces[0::2], [*pieces[1::2], ""]
    if not lines[-1]:
        lines, ends = lines[:-1], ends[:-1]
    return lines, ends


def split_cells(line: str, delimiter: str) -> list[str]:
    """Returns the cells of a line as they stand; a delimiter inside quotes does not count.

    Raises:
        AudioError: a quote is not closed.
    """
    if '"' not in line:
        return line.split(delimiter)
    cells: list[str] = []
    pending: str | None = None
    for piece in line.split(delimiter):
        cell = piece if pending is None else pending + delimiter + piece
        pending = cell if cell.count('"') % 2 else None
        if pending is None:
            cells.append(cell)
    if pending is not None:
        raise AudioError("a quote is not closed: put a whole row on one line")
    return cells


def content(cell: str) -> str:
    """Returns what a cell says, without blanks and quotes around it."""
    text = cell.strip()
    if len(text) >= 2 and text[0] == text[-1] == '"':
        text = text[1:-1].strip()
    return text


def put(cell: str, text: str) -> str:
    """Returns the cell with another content, blanks and quotes kept."""
    old = content(cell)
    if old:
        return cell.replace(old, text, 1)
    return f'"{text}"' if '"' in cell else text


def is_missing(text: str) -> bool:
    """Returns whether a content stands for a value that is not there."""
    return text.lower() in MISSING


def is_number(text: str, decimal: str = ".") -> bool:
    """Returns whether a content is a finite number with that decimal mark."""
    point = text if decimal == "." else text.replace(decimal, ".")
    return _NUMBER.fullmatch(point) is not None and math.isfinite(float(point))


def numbers(texts: Sequence[str], decimal: str) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Returns the values of contents (R,), NaN where there is none, and where text stands (R,)."""
    values = np.full(len(texts), np.nan)
    is_text = np.zeros(len(texts), np.bool_)
    for i, text in enumerate(texts):
        if is_number(text, decimal):
            values[i] = float(text.replace(decimal, "."))
        else:
            is_text[i] = not is_missing(text)
    return values, is_text


def sniff_delimiter(lines: Sequence[str]) -> str:
    """Returns what parts the cells of these lines: it stands equally often in each."""
    for delimiter in DELIMITERS:
        try:
            counts = {len(split_cells(line, delimiter)) for line in lines}
        except AudioError:
            continue
        if len(counts) == 1 and counts != {1}:
            return delimiter
    # none does: the one that all know, so that the error names the row that differs
    seen = [mark for mark in DELIMITERS if lines and all(mark in line for line in lines)]
    return seen[0] if seen else DELIMITERS[-1]


def sniff_decimal(texts: Sequence[str], delimiter: str) -> str:
    """Returns the decimal mark of contents: a comma if some number has one, and none a point."""
    has_comma = any(_COMMA_NUMBER.fullmatch(text) for text in texts)
    has_point = any("." in text and is_number(text) for text in texts)
    return "," if has_comma and not has_point and delimiter != "," else "."


@dataclass(frozen=True)
class NumberStyle:
    """How the numbers of a column are written.

    Attributes:
        decimals: digits behind the decimal mark.
        has_exponent: written as 1.5e-05.
        decimal: the decimal mark.
    """

    decimals: int
    has_exponent: bool
    decimal: str

    def text(self, value: float) -> str:
        """Returns the number as text."""
        kind = "e" if self.has_exponent else "f"
        text = f"{value:.{self.decimals}{kind}}"
        if text.startswith("-") and not text.strip("-0.e+"):
            text = text[1:]  # no minus before a zero
        return text.replace(".", self.decimal)

    def value(self, text: str) -> float:
        """Returns the number that a text stands for."""
        return float(text.replace(self.decimal, "."))


def style_of(texts: Sequence[str], spread: float, decimal: str) -> NumberStyle:
    """Returns the style of a column: as many decimals as it has, and four digits at least.

    Args:
        texts: its contents.
        spread: the size of what varies in it, in its unit; 0 if nothing does.
        decimal: its decimal mark.
    """
    parts = [
        text.lower().replace(decimal, ".").partition("e") for text in texts if not is_missing(text)
    ]
    decimals = max((len(mantissa.partition(".")[2]) for mantissa, _, _ in parts), default=0)
    if any(exponent for _, exponent, _ in parts):
        return NumberStyle(max(decimals, LEAST_DIGITS - 1), True, decimal)
    if spread > 0:
        decimals = max(decimals, LEAST_DIGITS - 1 - math.floor(math.log10(spread)))
    return NumberStyle(min(decimals, MOST_DECIMALS), False, decimal)
