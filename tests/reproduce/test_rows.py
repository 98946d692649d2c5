"""Means of methods over clips, with what is missing and why."""

import json
from collections.abc import Callable

import numpy as np
import pytest

from quieten.errors import AudioError
from quieten.metrics import nsr
from quieten.reproduce.rows import METRICS, Pair, Row, footnotes, measure, text_table

RATE = 8000


@pytest.fixture
def pairs(speech_like: Callable, rng: np.random.Generator) -> list[Pair]:
    """Three sounds in noise that grows from one to the next."""
    made = []
    for number in range(3):
        clean = speech_like(2.0, RATE, seed=number)
        noise = rng.normal(0, 0.02 * (number + 1), clean.size).astype(np.float32)
        made.append(Pair(clean + noise, clean, RATE))
    return made


def noisy_itself(noisy: np.ndarray, clean: np.ndarray) -> np.ndarray:
    return noisy


def test_means_are_those_of_the_metrics(pairs: list[Pair]):
    row = measure("E", "noisy", noisy_itself, pairs)
    values = [nsr(pair.noisy, pair.clean) for pair in pairs]
    mean, low, high = row.means["nsr"]
    assert mean == pytest.approx(np.mean(values))
    assert min(values) <= low < mean < high <= max(values)
    assert row.means["nsr_db"][0] == pytest.approx(np.mean(10 * np.log10(values)))
    assert (row.condition, row.method, row.count) == ("E", "noisy", 3)


def test_the_same_sounds_give_the_same_row(pairs: list[Pair]):
    assert measure("E", "a", noisy_itself, pairs) == measure("E", "a", noisy_itself, pairs)


def test_every_clip_is_reported(pairs: list[Pair]):
    calls: list[int] = []
    measure("E", "noisy", noisy_itself, iter(pairs), lambda: calls.append(1))
    assert len(calls) == 3


def test_what_a_metric_refuses_is_counted_not_made_up(pairs: list[Pair]):
    """A method that gives silence once: PESQ has no number there, NSR has."""
    results = iter([pairs[0].noisy, np.zeros_like(pairs[1].noisy), pairs[2].noisy])
    row = measure("H", "broken", lambda noisy, clean: next(results), pairs)
    assert row.count == 3
    assert row.means["nsr"][0] == pytest.approx(
        np.mean([nsr(pairs[0].noisy, pairs[0].clean), 1, nsr(pairs[2].noisy, pairs[2].clean)])
    )
    assert any("PESQ" in reason for reason in row.missing)
    (note,) = (line for line in footnotes([row]) if "PESQ" in line)
    assert note.startswith("broken, H: ")


def test_a_result_of_another_length_is_an_error(pairs: list[Pair]):
    with pytest.raises(AudioError, match="cut gave shape"):
        measure("E", "cut", lambda noisy, clean: noisy[1:], pairs)


def test_a_row_that_could_not_be_measured_is_null_with_its_reason():
    row = Row("H", "paper", reason="no weights")
    written = json.loads(json.dumps(row.to_json(), allow_nan=False))
    assert {written[name] for name in METRICS} == {None}
    assert (written["reason"], written["count"], written["interval"]) == ("no weights", 0, {})
    assert text_table([row])[1] == ["paper", "-", "-", "-", "-"]
    again = Row("E", "paper", reason="no weights")
    assert footnotes([row, again]) == ["paper: not measured: no weights"]


def test_cells_hold_mean_and_half_of_the_interval():
    means = {"stoi": (0.8, 0.79, 0.82), "nsr_db": (-9.7, -9.7, -9.7)}
    row = Row("E", "noisy", count=5, means=means)
    assert text_table([row]) == [
        ["method", "stoi", "pesq_nb", "nsr", "nsr_db"],
        ["noisy", "0.800 ±0.015", "-", "-", "-9.7 ±0.0"],
    ]
    single = Row("E", "noisy", count=1, means={"stoi": (0.8, 0.8, 0.8)})
    assert text_table([single])[1][1] == "0.800"  # one clip says nothing of the spread
    written = row.to_json()
    assert (written["stoi"], written["reason"]) == (0.8, None)
    assert written["interval"] == {"stoi": [0.79, 0.82], "nsr_db": [-9.7, -9.7]}
