"""Sums evaluations up: means with their uncertainty, groups, differences, CSV and JSON.

What is missing is counted and never averaged in. Nothing is measured or printed here.
"""

import csv
import io
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from quieten.evaluation.results import Evaluation, Score, replace_text
from quieten.metrics import METRICS
from quieten.testsets.pairs import Item

Interval = tuple[float, float, float]  # mean, low, high
Json = dict[str, object]

RESAMPLES = 2000
CONFIDENCE = 0.95

_BLOCK = 1_000_000  # values drawn at a time: bounds the memory
_DIGITS = {"stoi": 3, "estoi": 3, "pesq_nb": 3, "pesq_wb": 3, "nsr": 3, "lsd": 3, "rtf": 4}
_MISSING = "*"


@dataclass(frozen=True)
class Row:
    """How one system did on some items.

    Attributes:
        system: its name.
        count: how many items were tried.
        means: metric -> (mean, low, high) over the items that have a number; lacks a metric
            that no item has.
        missing: metric -> how many items have no number; lacks those that all have.
        rtf: processor seconds for each second of sound; None where nothing was timed.
    """

    system: str
    count: int
    means: dict[str, Interval]
    missing: dict[str, int]
    rtf: float | None


def mean_interval(values: Sequence[float], seed: int = 0) -> Interval | None:
    """Returns (mean, low, high) with a 95 % interval of the mean; None without values.

    Percentile bootstrap with 2000 resamples: Efron, "Bootstrap methods: another look at the
    jackknife", 1979. The same values in the same order give the same interval.
    """
    if not values:
        return None
    sample = np.asarray(values, np.float64)
    rng = np.random.default_rng(seed)
    means = np.concatenate([_resampled_means(sample, rows, rng) for rows in _blocks(sample.size)])
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(means, [tail, 100 - tail])
    return float(sample.mean()), float(low), float(high)


def _blocks(length: int) -> Iterable[int]:
    """How many resamples to draw at a time."""
    rows = max(1, _BLOCK // length)
    return [min(rows, RESAMPLES - done) for done in range(0, RESAMPLES, rows)]


def _resampled_means(
    sample: NDArray[np.float64], rows: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    chosen = rng.integers(0, sample.size, (rows, sample.size))
    means: NDArray[np.float64] = sample[chosen].mean(axis=1)
    return means


def summarize(evaluation: Evaluation) -> list[Row]:
    """Returns a row for each system over all items, in the order of the systems."""
    return _rows(evaluation, evaluation.items)


def group(evaluation: Evaluation, label: str) -> dict[str, list[Row]]:
    """Returns value of a label -> rows over the items that have it.

    Values are in numeric order where all are numbers, else in that of the alphabet; items
    without the label are left out.
    """
    groups: dict[str, list[Item]] = {}
    for item in evaluation.items:
        if value := item.labels.get(label):
            groups.setdefault(value, []).append(item)
    return {value: _rows(evaluation, groups[value]) for value in sorted(groups, key=_order(groups))}


def _order(values: Iterable[str]) -> Callable[[str], float | str]:
    try:
        for value in values:
            float(value)
    except ValueError:
        return str
    return float


def _rows(evaluation: Evaluation, items: Sequence[Item]) -> list[Row]:
    return [
        _row(system.name, _scores(evaluation, system.name, items), evaluation.metrics)
        for system in evaluation.systems
    ]


def _scores(evaluation: Evaluation, system: str, items: Sequence[Item]) -> list[Score]:
    """The scores of a system, in the order of the items; those not finished are left out."""
    pairs = ((system, item.name) for item in items)
    return [evaluation.scores[pair] for pair in pairs if pair in evaluation.scores]


def _row(system: str, scores: Sequence[Score], metrics: Sequence[str]) -> Row:
    intervals = {
        name: mean_interval([score.values[name] for score in scores if name in score.values])
        for name in metrics
    }
    absent = {name: sum(name not in score.values for score in scores) for name in metrics}
    return Row(
        system=system,
        count=len(scores),
        means={name: interval for name, interval in intervals.items() if interval is not None},
        missing={name: count for name, count in absent.items() if count},
        rtf=_rtf(scores),
    )


def _rtf(scores: Iterable[Score]) -> float | None:
    timed = [(score.cpu_s, score.duration_s) for score in scores if score.cpu_s is not None]
    duration_s = sum(duration for _, duration in timed)
    return sum(cpu for cpu, _ in timed) / duration_s if duration_s else None


def difference(evaluation: Evaluation, metric: str, a: str, b: str) -> Interval | None:
    """Returns (mean, low, high) of metric of `a` minus `b`, item by item, with a 95 % interval.

    Only items where both have a number count; None where there is none. The bootstrap draws
    items, so what they share cancels out: an interval without 0 is a difference.
    """
    pairs = [
        [evaluation.scores.get((system, item.name)) for system in (a, b)]
        for item in evaluation.items
    ]
    return mean_interval(
        [
            first.values[metric] - second.values[metric]
            for first, second in pairs
            if first and second and metric in first.values and metric in second.values
        ]
    )


def text_table(rows: Sequence[Row], metrics: Sequence[str]) -> list[list[str]]:
    """Returns a header and a line for each row, as cells such as "1.608 ±0.086".

    After ± stands half the width of the 95 % interval. A star marks a mean that lacks items:
    `footnotes` says how many and why. The last column is the real-time factor, if there is one.
    """
    timed = any(row.rtf is not None for row in rows)
    table = [["system", *metrics, *(["rtf"] if timed else [])]]
    for row in rows:
        cells = [_cell(row, name) for name in metrics]
        rtf = "-" if row.rtf is None else f"{row.rtf:.{_DIGITS['rtf']}f}"
        table.append([row.system, *cells, *([rtf] if timed else [])])
    return table


def grouped_table(evaluation: Evaluation, label: str, metrics: Sequence[str]) -> list[list[str]]:
    """Returns the cells of one table over all values of a label: value, items, `text_table`."""
    table: list[list[str]] = []
    for value, rows in group(evaluation, label).items():
        heading, *lines = text_table(rows, metrics)
        table = table or [[label, "items", *heading]]
        for number, (row, line) in enumerate(zip(rows, lines, strict=True)):
            table.append([*(["", ""] if number else [value, str(row.count)]), *line])
    return table


def _cell(row: Row, metric: str) -> str:
    star = _MISSING if metric in row.missing else ""
    if metric not in row.means:
        return f"-{star}"
    mean, low, high = row.means[metric]
    digits = _DIGITS.get(metric, 2)
    single = row.count - row.missing.get(metric, 0) == 1  # one number says nothing of its spread
    spread = "" if single else f" ±{(high - low) / 2:.{digits}f}"
    return f"{mean:.{digits}f}{spread}{star}"


def footnotes(evaluation: Evaluation, metrics: Sequence[str] | None = None) -> list[str]:
    """Returns a line for each system, reason and set of metrics that are missing for it.

    For example "noisy: pesq_wb missing on 2 of 140 items: PESQ found nothing to score".
    """
    shown = evaluation.metrics if metrics is None else metrics
    lines = []
    for system in evaluation.systems:
        scores = _scores(evaluation, system.name, evaluation.items)
        reasons = [(name, score.missing.get(name)) for name in shown for score in scores]
        counted = Counter((name, reason) for name, reason in reasons if reason is not None)
        together: dict[tuple[str, int], list[str]] = {}
        for (name, reason), count in counted.items():
            together.setdefault((reason, count), []).append(name)
        lines += [
            f"{system.name}: {', '.join(names)} missing on {count} of {len(scores)} items: {reason}"
            for (reason, count), names in together.items()
        ]
    return lines


def to_json(evaluation: Evaluation) -> Json:
    """Returns {"rows": [...], "items": [...]} for `json.dump`; null where there is no number.

    All of `METRICS` are there, null where they were not asked for. A row is a system's mean of
    each metric, with "model", "rtf", "count", "missing" (metric -> how many) and "interval"
    (metric -> [low, high]). An item is one system on one item, with "item", "model", the labels,
    the metrics, "cpu_s", "duration_s" and "missing" (metric -> why). A label that is called like
    one of these, such as snr_db, is written as label_snr_db.
    """
    rows = [_json_row(row) for row in summarize(evaluation)]
    records = [_record(*pair, tuple(METRICS)) for pair in _finished(evaluation)]
    return {"rows": rows, "items": records}


def _json_row(row: Row) -> Json:
    return {
        "model": row.system,
        **{name: row.means[name][0] if name in row.means else None for name in METRICS},
        "rtf": row.rtf,
        "count": row.count,
        "missing": row.missing,
        "interval": {name: list(row.means[name][1:]) for name in row.means},
    }


def _finished(evaluation: Evaluation) -> list[tuple[Item, Score]]:
    items = {item.name: item for item in evaluation.items}
    return [(items[name], score) for (_, name), score in evaluation.scores.items()]


def _record(item: Item, score: Score, metrics: Sequence[str]) -> Json:
    fixed: Json = {"item": item.name, "model": score.system}
    timing: Json = {"cpu_s": score.cpu_s, "duration_s": score.duration_s}
    values: Json = {name: score.values.get(name) for name in metrics}
    rest = {**values, **timing, "missing": dict(score.missing)}
    labels = {
        f"label_{name}" if name in {*fixed, *timing, *METRICS, "missing"} else name: value
        for name, value in item.labels.items()
    }
    return {**fixed, **labels, **rest}


def write_csv(evaluation: Evaluation, path: str | Path) -> None:
    """Writes a line for each item and system: the columns of `to_json`'s items, as measured.

    The file is whole or not there. Cells without a number are empty; the column `missing` then
    says why.
    """
    records = [_record(*pair, evaluation.metrics) for pair in _finished(evaluation)]
    columns = list(dict.fromkeys(name for record in records for name in record))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns or ["item", "model"], lineterminator="\n")
    writer.writeheader()
    for record in records:
        missing = record["missing"]
        assert isinstance(missing, dict)
        words = "; ".join(f"{name}: {reason}" for name, reason in missing.items())
        writer.writerow({**record, "missing": words})
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_text(path, text.getvalue())
