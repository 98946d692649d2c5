"""Scores of methods on clips, summed up: means with their intervals, as JSON and as cells.

What could not be measured stays empty and says why; no figure is made up.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from quieten.errors import AudioError
from quieten.evaluation.scoring import score_sounds
from quieten.evaluation.tables import Interval, Json, mean_interval

Waveform = NDArray[np.float32]
Method = Callable[[Waveform, Waveform], Waveform]
"""Takes a noisy sound and the clean one, which only bounds look at, to the denoised one."""

METRICS = ("stoi", "pesq_nb", "nsr", "nsr_db")

_DIGITS = {"stoi": 3, "pesq_nb": 2, "nsr": 3, "nsr_db": 1}


@dataclass(frozen=True)
class Pair:
    """A sound to be denoised and the clean one that it was made from, (T,) each."""

    noisy: Waveform
    clean: Waveform
    sample_rate: int


@dataclass(frozen=True)
class Row:
    """How one method did under one condition.

    Attributes:
        condition: its name.
        method: its name.
        count: how many clips were tried; 0 where the method could not be run.
        means: metric -> (mean, low, high) over the clips that have a number.
        missing: why there is no number -> how many clips and metrics that holds for.
        reason: why the method could not be run; else empty.
    """

    condition: str
    method: str
    count: int = 0
    means: dict[str, Interval] = field(default_factory=dict)
    missing: dict[str, int] = field(default_factory=dict)
    reason: str = ""

    def to_json(self) -> Json:
        """Returns the row for `json.dump`: each metric's mean, null where there is no number."""
        return {
            "condition": self.condition,
            "method": self.method,
            **{name: self.means[name][0] if name in self.means else None for name in METRICS},
            "interval": {name: list(mean[1:]) for name, mean in self.means.items()},
            "count": self.count,
            "missing": self.missing,
            "reason": self.reason or None,
        }


def measure(
    condition: str,
    name: str,
    method: Method,
    pairs: Iterable[Pair],
    advance: Callable[[], None] | None = None,
) -> Row:
    """Returns the row of a method over pairs of noisy and clean sounds.

    Args:
        condition: name of what was done to the clean sounds.
        name: that of the method.
        method: what is measured.
        pairs: what it is measured on.
        advance: called after each of them.

    Raises:
        AudioError: the method gave a sound of another length.
    """
    values: dict[str, list[float]] = {metric: [] for metric in METRICS}
    missing: Counter[str] = Counter()
    count = 0
    for pair in pairs:
        count += 1
        scores, reasons = _scores(name, method(pair.noisy, pair.clean), pair)
        for metric, score in scores.items():
            values[metric].append(score)
        missing.update(reasons.values())
        if advance:
            advance()
    intervals = {metric: mean_interval(scores) for metric, scores in values.items()}
    means = {metric: mean for metric, mean in intervals.items() if mean is not None}
    return Row(condition, name, count, means, dict(missing))


def _scores(name: str, denoised: Waveform, pair: Pair) -> tuple[dict[str, float], dict[str, str]]:
    shape = pair.clean.shape
    if denoised.shape != shape:
        raise AudioError(f"{name} gave shape {denoised.shape} for {shape}: check its weights")
    return score_sounds(denoised[None], pair.clean[None], pair.sample_rate, METRICS)


def text_table(rows: Sequence[Row], with_condition: bool = False) -> list[list[str]]:
    """Returns a header and a line for each row, as cells such as "1.24 ±0.03".

    After ± stands half the width of the 95 % interval of the mean; - is no number.

    Args:
        rows: in their order.
        with_condition: the condition stands behind the name of the method.
    """
    header = ["method", *METRICS]
    names = (f"{row.method}, {row.condition}" if with_condition else row.method for row in rows)
    cells = ([_cell(row, name) for name in METRICS] for row in rows)
    return [header, *([name, *values] for name, values in zip(names, cells, strict=True))]


def _cell(row: Row, metric: str) -> str:
    if metric not in row.means:
        return "-"
    mean, low, high = row.means[metric]
    digits = _DIGITS.get(metric, 2)
    spread = f" ±{(high - low) / 2:.{digits}f}" if row.count > 1 else ""
    return f"{mean:.{digits}f}{spread}"


def footnotes(rows: Sequence[Row]) -> list[str]:
    """Returns a line for each method and reason why numbers are missing, each once."""
    notes: dict[str, None] = {}
    for row in rows:
        if row.reason:
            notes[f"{row.method}: not measured: {row.reason}"] = None
        for reason, count in row.missing.items():
            notes[f"{row.method}, {row.condition}: {count} numbers missing: {reason}"] = None
    return list(notes)
