"""The time column of a table: which one it is, its seconds, and whether its steps are even.

Stamps are numbers, of a unit that the heading names (`time_ms`, `t [us]`; else seconds, or what
the size of a Unix time says), or ISO 8601 dates and times.
Letters: R rows, T samples.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

import numpy as np
from numpy.typing import NDArray

from quieten.tabular.cells import RowError, is_number

Seconds = NDArray[np.float64]

JITTER = 0.01  # of a step: what counts as even

_UNITS = {"s": 0, "sec": 0, "secs": 0, "second": 0, "seconds": 0}  # powers of ten of a second
_UNITS |= {"ms": -3, "msec": -3, "millisecond": -3, "milliseconds": -3, "millis": -3}
_UNITS |= {"us": -6, "µs": -6, "usec": -6, "microsecond": -6, "microseconds": -6}
_UNITS |= {"ns": -9, "nsec": -9, "nanosecond": -9, "nanoseconds": -9}
_NAMES = {"time", "timestamp", "timestamps", "datetime", "zeit"}  # of headings, as first word
_INDEX = {"index", "sample", "samples", "frame", "frames", "n", "i", "no", "nr", "row", "unnamed"}


@dataclass(frozen=True)
class Stamps:
    """The stamps of a table.

    Attributes:
        seconds: since the first one (R,).
        resolution_s: one unit of their last digit.
    """

    seconds: Seconds
    resolution_s: float


@dataclass(frozen=True)
class Timing:
    """How the rows of a table lie in time.

    Attributes:
        step_s: between samples.
        rows: where the rows lie, in samples (R,).
        n_samples: T of the even grid that they lie on; the number of rows where they are even.
        n_uneven: rows that are not one step after the one before.
    """

    step_s: float
    rows: NDArray[np.float64]
    n_samples: int
    n_uneven: int


def is_time_name(name: str, *, is_first: bool = True) -> bool:
    """Returns whether a heading says that its column, maybe the first one, holds times."""
    words = _words(name)
    if not words or words[0] in _NAMES:
        return bool(words)
    is_unit = len(words[0]) > 3 and words[0] in _UNITS  # "seconds", but not "s" or "ms"
    # behind the first column, t is rather a temperature
    return is_unit or (is_first and words[0] == "t" and all(word in _UNITS for word in words[1:]))


def is_index_name(name: str) -> bool:
    """Returns whether a heading may be that of a running number, or says nothing."""
    return all(word in _INDEX or word.isdigit() for word in _words(name))


def _words(name: str) -> list[str]:
    return [word for word in re.split(r"[^a-zµ0-9]+", name.lower().replace("μ", "µ")) if word]


def is_stamp(text: str) -> bool:
    """Returns whether a content is a number or an ISO 8601 time."""
    return is_number(text) or parse_iso(text) is not None


def parse_iso(text: str) -> datetime | None:
    """Returns an ISO 8601 date and time, or time of day; None if it is none."""
    if ":" not in text:
        return None
    for candidate in (text, f"2000-01-01T{text}"):
        try:
            return datetime.fromisoformat(candidate)
        except ValueError:
            continue
    return None


def read_stamps(texts: Sequence[str], name: str, decimal: str = ".") -> Stamps:
    """Returns the stamps of a column of contents (R,).

    Args:
        texts: its contents.
        name: its heading, which may name a unit.
        decimal: its decimal mark.

    Raises:
        RowError: one is no time, or they differ in having a time zone.
    """
    pointed = [text.replace(decimal, ".") for text in texts]
    read = _numeric if is_number(pointed[0]) else _iso
    return read(pointed, name)


def _numeric(texts: Sequence[str], name: str) -> Stamps:
    for row, text in enumerate(texts):
        if not is_number(text):
            raise RowError(row, f"{text!r} is no time")
    stamps = [Decimal(text) for text in texts]
    units = [_UNITS[word] for word in _words(name) if word in _UNITS]
    unit = Decimal(10) ** (units[-1] if units else _unit_of_size(stamps[0]))
    last_digit = min(int(stamp.as_tuple().exponent) for stamp in stamps)
    seconds = [float((stamp - stamps[0]) * unit) for stamp in stamps]
    return Stamps(np.array(seconds), float(Decimal(10) ** last_digit * unit))


def _unit_of_size(stamp: Decimal) -> int:
    """Returns the power of ten of the unit of a Unix time after 1973; 0 for seconds."""
    return next((power for power in (-9, -6, -3) if stamp >= Decimal(10) ** (8 - power)), 0)


def _iso(texts: Sequence[str], name: str) -> Stamps:
    stamps: list[datetime] = []
    for row, text in enumerate(texts):
        stamp = parse_iso(text)
        if stamp is None:
            raise RowError(row, f"{text!r} is no time (a number or ISO 8601)")
        if stamps and (stamp.tzinfo is None) != (stamps[0].tzinfo is None):
            raise RowError(row, f"{text!r} and the first row differ in having a time zone")
        stamps.append(stamp)
    digits = max(len(_bare(text).partition(".")[2]) for text in texts)
    seconds = [(stamp - stamps[0]).total_seconds() for stamp in stamps]
    return Stamps(np.array(seconds), 10.0 ** -min(digits, 6))


def _bare(text: str) -> str:
    """Returns an ISO time without its zone."""
    return re.sub(r"(Z|[+-]\d\d:?\d\d)$", "", text.replace(",", "."))


def measure_steps(stamps: Stamps) -> Timing:
    """Returns how rows lie in time.

    A step that differs from the usual one by more than 1 %, and by more than the rounding of the
    stamps, is uneven.

    Raises:
        RowError: the stamps do not increase.
    """
    seconds = stamps.seconds
    steps = np.diff(seconds)
    if (steps <= 0).any():
        row = int(np.argmax(steps <= 0)) + 1
        raise RowError(row, "its time is not after that of the row before")
    usual = float(np.median(steps))
    regular = _is_near(steps, usual, stamps.resolution_s)
    # stamps are often rounded: the mean of many steps is finer than any of them
    step_s = float(steps[regular].mean()) if regular.any() else usual
    uneven = ~_is_near(steps, step_s, stamps.resolution_s)
    if not uneven.any():
        step_s = float(seconds[-1] / len(steps))
        return Timing(step_s, np.arange(len(seconds), dtype=np.float64), len(seconds), 0)
    rows = seconds / step_s
    return Timing(step_s, rows, round(float(rows[-1])) + 1, int(uneven.sum()))


def first_uneven(stamps: Stamps, timing: Timing) -> int:
    """Returns the first row, from 0, that is not one step after the row before."""
    near = _is_near(np.diff(stamps.seconds), timing.step_s, stamps.resolution_s)
    return int(np.argmin(near)) + 1


def _is_near(steps: Seconds, step_s: float, resolution_s: float) -> NDArray[np.bool_]:
    near: NDArray[np.bool_] = np.abs(steps - step_s) <= JITTER * step_s + 1.001 * resolution_s
    return near
