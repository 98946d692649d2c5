"""Scores of short signals: values that follow from their definition, intervals that hold."""

import json

import numpy as np
import pytest

from quieten.reproduce.signal_rows import (
    METRICS,
    SignalRow,
    footnotes,
    score_signals,
    snr_db,
    text_table,
)


@pytest.fixture
def clean(rng: np.random.Generator) -> np.ndarray:
    return rng.standard_normal((100, 256)).astype(np.float32)


def test_snr_of_a_share_of_the_signal(clean: np.ndarray):
    for share, expected_db in ((0.0, 0.0), (0.9, 20.0), (1.1, 20.0), (-1.0, -6.0206)):
        np.testing.assert_allclose(snr_db(np.float32(share) * clean, clean), expected_db, atol=1e-4)


def test_snr_is_a_number_even_for_perfection_and_silence(clean: np.ndarray):
    assert snr_db(clean, clean) == pytest.approx(np.full(100, 200.0))
    silence = np.zeros_like(clean)
    assert np.isfinite(snr_db(silence, silence)).all()
    assert np.isfinite(snr_db(clean, silence)).all()


def test_metrics_follow_their_definition(clean: np.ndarray):
    """Four signals of a hundred are worse: with one of the others they are the worst 5 %."""
    share = np.full((100, 1), 0.9, np.float32)
    share[:4] = 0.0
    row = score_signals("mine", share * clean, clean, 2 * clean)
    values = {name: mean[0] for name, mean in row.means.items()}
    assert values == {
        "l1": pytest.approx(np.abs((1 - share) * clean).mean(), rel=1e-5),
        "snr_db": pytest.approx(0.96 * 20, abs=1e-3),
        "improvement_db": pytest.approx(0.96 * 20, abs=1e-3),  # the mixtures are at 0 dB
        "snr_db_worst5": pytest.approx(20 / 5, abs=1e-3),
    }
    assert (row.method, row.count, tuple(row.means)) == ("mine", 100, METRICS)


def test_intervals_cover_the_truth_as_often_as_they_say(rng: np.random.Generator):
    """The mean of the L1 of 50 signals, drawn 60 times: 95 % of the intervals hold it."""
    held = 0
    for _ in range(60):
        level = rng.uniform(0, 1, (50, 1)).astype(np.float32)
        clean = np.ones((50, 4), np.float32)
        _, low, high = score_signals("x", clean + level, clean, clean).means["l1"]
        held += low <= 0.5 <= high
    assert 51 <= held <= 60


def test_intervals_are_the_same_every_time_and_hold_the_value(clean: np.ndarray):
    noisy = clean + np.float32(0.1) * clean[::-1]
    row, again = (score_signals("x", noisy, clean, noisy) for _ in range(2))
    assert row == again
    for name, (value, low, high) in row.means.items():
        assert low <= value <= high, name
    assert row.means["improvement_db"] == (0, 0, 0)


def test_one_signal_is_a_row_as_well(clean: np.ndarray):
    row = score_signals("x", 0.9 * clean[:1], clean[:1], clean[:1])
    assert row.means["snr_db_worst5"][0] == row.means["snr_db"][0] == pytest.approx(20, abs=1e-3)


def test_json_has_every_metric_and_null_where_there_is_no_number(clean: np.ndarray):
    row = score_signals("x", 0.9 * clean, clean, clean).to_json()
    assert row["snr_db"] == pytest.approx(20, abs=1e-3)
    assert set(row["interval"]) == set(METRICS)
    missing = SignalRow("ours", reason="no weights").to_json()
    assert [missing[name] for name in METRICS] == [None] * 4
    assert (missing["reason"], missing["count"], missing["interval"]) == ("no weights", 0, {})
    json.dumps([row, missing], allow_nan=False)


def test_cells_and_footnotes(clean: np.ndarray):
    rows = [score_signals("x", 0.9 * clean, clean, clean), SignalRow("ours", reason="no weights")]
    heading, first, second = text_table(rows)
    assert heading == ["method", *METRICS]
    assert first[0] == "x" and first[2] == "20.00 ±0.00"
    assert second == ["ours", "-", "-", "-", "-"]
    assert footnotes(rows) == ["ours: not measured: no weights"]
