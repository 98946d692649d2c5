"""Scores of methods on short signals, summed up with their intervals, as JSON and as cells.

As `rows` is for speech. B signals, T samples.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from quieten.evaluation.tables import Interval, Json
from quieten.sines import Floats, Signals

METRICS = ("l1", "snr_db", "improvement_db", "snr_db_worst5")
"""Mean distance, mean SNR of the output, how much more that is than the mixture's, and the mean
SNR of the worst 5 % of the signals."""

RESAMPLES = 1000
WORST = 0.05
_DIGITS = {"l1": 4}


@dataclass(frozen=True)
class SignalRow:
    """How one method did.

    Attributes:
        method: its name.
        count: how many signals were tried; 0 where the method could not be run.
        means: metric -> (value, low, high), with a 95 % interval.
        reason: why the method could not be run; else empty.
    """

    method: str
    count: int = 0
    means: dict[str, Interval] = field(default_factory=dict)
    reason: str = ""

    def to_json(self) -> Json:
        """Returns the row for `json.dump`: each metric's value, null where there is none."""
        return {
            "method": self.method,
            **{name: self.means[name][0] if name in self.means else None for name in METRICS},
            "interval": {name: list(mean[1:]) for name, mean in self.means.items()},
            "count": self.count,
            "reason": self.reason or None,
        }


def snr_db(denoised: Signals, clean: Signals) -> NDArray[np.float64]:
    """Returns the energy of each clean signal over that of the error, (B,) in dB, at most 200."""
    energy, error = (
        np.sum(np.square(each, dtype=np.float64), 1)
        for each in (clean, denoised.astype(np.float64) - clean)
    )
    tiny = 1e-20 * energy + 1e-30
    result: NDArray[np.float64] = 10 * np.log10((energy + tiny) / (error + tiny))
    return result


def score_signals(method: str, denoised: Signals, clean: Signals, noisy: Signals) -> SignalRow:
    """Returns the row of a method from what it made of the mixtures, (B, T) each.

    Intervals are percentiles of 1000 resamples of the signals (bootstrap: Efron, 1979); the same
    signals are drawn for every method and metric.
    """
    distances = np.abs(denoised.astype(np.float64) - clean).mean(1)
    snrs, before = snr_db(denoised, clean), snr_db(noisy, clean)
    count = len(snrs)
    chosen = np.random.default_rng(0).integers(0, count, (RESAMPLES, count))
    samples = np.concatenate([np.arange(count)[None], chosen])  # the first is what was measured
    values = {
        "l1": distances[samples].mean(1),
        "snr_db": snrs[samples].mean(1),
        "improvement_db": (snrs - before)[samples].mean(1),
        "snr_db_worst5": _worst(snrs[samples]),
    }
    return SignalRow(method, count, {name: _interval(value) for name, value in values.items()})


def _worst(snrs: NDArray[np.float64]) -> Floats:
    count = max(1, round(WORST * snrs.shape[1]))
    lowest: Floats = np.partition(snrs, count - 1, axis=1)[:, :count].mean(1)
    return lowest


def _interval(values: Floats) -> Interval:
    low, high = np.percentile(values[1:], [2.5, 97.5])
    return float(values[0]), float(low), float(high)


def text_table(rows: Sequence[SignalRow]) -> list[list[str]]:
    """Returns a header and a line for each row, as cells such as "12.77 ±0.10".

    After ± stands half the width of the 95 % interval; - is no number.
    """
    return [["method", *METRICS], *([row.method, *_cells(row)] for row in rows)]


def _cells(row: SignalRow) -> list[str]:
    cells = []
    for name in METRICS:
        if name in row.means:
            value, low, high = row.means[name]
            digits = _DIGITS.get(name, 2)
            cells.append(f"{value:.{digits}f} ±{(high - low) / 2:.{digits}f}")
        else:
            cells.append("-")
    return cells


def footnotes(rows: Sequence[SignalRow]) -> list[str]:
    """Returns a line for each method that could not be run, and why."""
    return [f"{row.method}: not measured: {row.reason}" for row in rows if row.reason]
