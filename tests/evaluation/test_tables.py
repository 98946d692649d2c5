"""Tables: intervals that cover, gaps that are counted, JSON and CSV that hold every number."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from quieten.evaluation.results import NOISY, Evaluation, Score, System
from quieten.evaluation.tables import (
    difference,
    footnotes,
    group,
    grouped_table,
    mean_interval,
    summarize,
    text_table,
    to_json,
    write_csv,
)
from quieten.metrics import METRICS
from quieten.testsets.pairs import Item

SPEECH = System("speech", "model", "speech")
LABELS = (
    {"snr_db": "10", "speaker": "ann"},
    {"snr_db": "-5", "speaker": "bob"},
    {"snr_db": "0", "speaker": "ann"},
    {"snr_db": "-5", "speaker": ""},
)


def make_evaluation(
    noisy: Sequence[float | None], speech: Sequence[float | None], lsd: float = 1.5
) -> Evaluation:
    """An evaluation with these PESQ scores; None is missing."""
    items = tuple(
        Item(f"{number:03d}", Path(f"{number}.wav"), None, LABELS[number % len(LABELS)])
        for number in range(len(noisy))
    )
    scores = {}
    for system, values in ((NOISY, noisy), (SPEECH, speech)):
        for number, (item, value) in enumerate(zip(items, values, strict=True)):
            known = {"lsd": lsd} | ({} if value is None else {"pesq_wb": value})
            missing = {"pesq_wb": "no utterance found"} if value is None else {}
            cpu_s = None if system == NOISY else 0.1 * (number + 1)
            scores[system.name, item.name] = Score(
                system.name, item.name, known, missing, cpu_s, duration_s=2.0
            )
    return Evaluation(Path("x"), "set", items, (NOISY, SPEECH), ("pesq_wb", "lsd"), scores)


def test_interval_is_as_wide_as_theory_says(rng: np.random.Generator) -> None:
    values = rng.normal(3.0, 1.0, 400).tolist()
    interval = mean_interval(values)
    assert interval is not None
    mean, low, high = interval
    assert mean == pytest.approx(np.mean(values), abs=1e-12)
    width = 1.96 * np.std(values) / np.sqrt(400)  # normal approximation, good for 400 values
    assert high - mean == pytest.approx(width, rel=0.1)
    assert mean - low == pytest.approx(width, rel=0.1)


def test_interval_covers_the_truth_about_as_often_as_it_says(rng: np.random.Generator) -> None:
    hits = 0
    for _ in range(200):
        interval = mean_interval(rng.exponential(1.0, 60).tolist())
        assert interval is not None
        hits += interval[1] <= 1.0 <= interval[2]
    # 95 % of 200, less what the percentile bootstrap loses on 60 skewed values; 4 sigma is 12
    assert 176 <= hits <= 200


def test_interval_depends_on_values_and_seed_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    values = [1.0, 2.0, 4.0, 8.0, 16.0]
    first = mean_interval(values)
    np.random.default_rng(99).random(7)
    assert mean_interval(values) == first
    monkeypatch.setattr("quieten.evaluation.tables._BLOCK", 7)  # drawn in small blocks
    assert mean_interval(values) == first
    assert mean_interval(values, seed=1) != first


def test_interval_of_one_value_is_that_value_and_of_none_nothing() -> None:
    assert mean_interval([2.5]) == (2.5, 2.5, 2.5)
    assert mean_interval([]) is None


def test_means_leave_missing_items_out_and_count_them() -> None:
    noisy, speech = summarize(make_evaluation([1.0, 2.0, None, 3.0], [2.0, None, None, 4.0]))
    assert (noisy.system, noisy.count, noisy.missing) == ("noisy", 4, {"pesq_wb": 1})
    assert noisy.means["pesq_wb"][0] == pytest.approx(2.0)
    assert (speech.system, speech.missing) == ("speech", {"pesq_wb": 2})
    assert speech.means["pesq_wb"] == mean_interval([2.0, 4.0])
    assert noisy.means["lsd"] == (1.5, 1.5, 1.5)


def test_a_metric_that_no_item_has_is_no_mean() -> None:
    noisy, _ = summarize(make_evaluation([None, None], [1.0, 1.0]))
    assert "pesq_wb" not in noisy.means
    assert noisy.missing == {"pesq_wb": 2}


def test_real_time_factor_is_total_over_total() -> None:
    noisy, speech = summarize(make_evaluation([1.0] * 4, [1.0] * 4))
    assert noisy.rtf is None
    assert speech.rtf == pytest.approx((0.1 + 0.2 + 0.3 + 0.4) / 8.0)


def test_what_is_not_finished_is_not_counted() -> None:
    evaluation = make_evaluation([1.0, 2.0], [3.0, 4.0])
    del evaluation.scores["speech", "001"]
    noisy, speech = summarize(evaluation)
    assert (noisy.count, speech.count) == (2, 1)
    assert speech.means["pesq_wb"] == (3.0, 3.0, 3.0)
    assert speech.missing == {}


def test_groups_are_in_numeric_order_and_hold_their_items() -> None:
    evaluation = make_evaluation([1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0])
    groups = group(evaluation, "snr_db")
    assert list(groups) == ["-5", "0", "10"]
    assert [row.count for row in groups["-5"]] == [2, 2]
    assert groups["-5"][1].means["pesq_wb"] == mean_interval([6.0, 8.0])
    assert groups["10"][0].means["pesq_wb"][0] == 1.0


def test_groups_of_words_leave_out_items_without_one() -> None:
    groups = group(make_evaluation([1.0] * 4, [1.0] * 4), "speaker")
    assert {value: rows[0].count for value, rows in groups.items()} == {"ann": 2, "bob": 1}
    assert group(make_evaluation([1.0], [1.0]), "no such label") == {}


def test_difference_is_paired() -> None:
    noisy = [1.0, 2.0, 3.0, 4.0, 1.5, 2.5]
    evaluation = make_evaluation(noisy, [value + 0.25 for value in noisy])
    # the items spread by 3, the difference not at all
    assert difference(evaluation, "pesq_wb", "speech", "noisy") == pytest.approx((0.25,) * 3)
    assert difference(evaluation, "pesq_wb", "noisy", "speech") == pytest.approx((-0.25,) * 3)


def test_difference_takes_items_that_both_have() -> None:
    evaluation = make_evaluation([1.0, None, 3.0], [2.0, 9.0, None])
    assert difference(evaluation, "pesq_wb", "speech", "noisy") == (1.0, 1.0, 1.0)
    assert difference(evaluation, "stoi", "speech", "noisy") is None
    assert difference(evaluation, "pesq_wb", "speech", "unknown") is None


def test_text_table_marks_gaps_and_footnotes_explain_them() -> None:
    evaluation = make_evaluation([1.0, None], [None, None])
    assert text_table(summarize(evaluation), ("pesq_wb", "lsd")) == [
        ["system", "pesq_wb", "lsd", "rtf"],
        ["noisy", "1.000*", "1.500 ±0.000", "-"],
        ["speech", "-*", "1.500 ±0.000", "0.0750"],
    ]
    assert footnotes(evaluation) == [
        "noisy: pesq_wb missing on 1 of 2 items: no utterance found",
        "speech: pesq_wb missing on 2 of 2 items: no utterance found",
    ]
    assert footnotes(evaluation, ["lsd"]) == []


def test_footnotes_put_metrics_of_one_reason_on_one_line() -> None:
    evaluation = make_evaluation([1.0], [1.0])
    gone = dict.fromkeys(evaluation.metrics, "exit status 1")
    evaluation.scores["speech", "000"] = Score("speech", "000", {}, gone, None, 2.0)
    assert footnotes(evaluation) == [
        "speech: pesq_wb, lsd missing on 1 of 1 items: exit status 1",
    ]


def test_a_table_without_timing_has_no_column_for_it() -> None:
    evaluation = make_evaluation([1.0], [1.0])
    header, *_ = text_table(summarize(evaluation)[:1], ("lsd",))
    assert header == ["system", "lsd"]


def test_json_has_a_row_for_each_system_and_null_for_what_is_not_there() -> None:
    content = to_json(make_evaluation([1.0, None], [2.0, 4.0]))
    content = json.loads(json.dumps(content, allow_nan=False))
    assert list(content) == ["rows", "items"]
    noisy, speech = content["rows"]
    assert (noisy["model"], noisy["rtf"], noisy["count"]) == ("noisy", None, 2)
    assert (noisy["pesq_wb"], noisy["missing"]) == (1.0, {"pesq_wb": 1})
    assert (speech["model"], speech["pesq_wb"], speech["lsd"]) == ("speech", 3.0, 1.5)
    assert speech["interval"]["pesq_wb"] == list(mean_interval([2.0, 4.0]) or ())[1:]
    assert speech["rtf"] == pytest.approx(0.075)
    assert noisy.keys() >= METRICS.keys()
    assert noisy["stoi"] is None


def test_json_items_hold_labels_and_metrics_side_by_side() -> None:
    content = to_json(make_evaluation([1.0, None], [2.0, 4.0]))
    items = content["items"]
    assert isinstance(items, list)
    pairs = [(one["model"], one["item"]) for one in items]
    assert pairs == [("noisy", "000"), ("noisy", "001"), ("speech", "000"), ("speech", "001")]
    gap = items[1]
    assert (gap["pesq_wb"], gap["missing"]) == (None, {"pesq_wb": "no utterance found"})
    assert (gap["speaker"], gap["label_snr_db"], gap["snr_db"]) == ("bob", "-5", None)


def test_csv_has_a_line_for_each_item_and_system(tmp_path: Path) -> None:
    path = tmp_path / "new" / "items.csv"
    write_csv(make_evaluation([1.25, None], [2.0, 4.0]), path)
    with path.open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert [line["item"] for line in lines] == ["000", "001", "000", "001"]
    assert float(lines[0]["pesq_wb"]) == 1.25
    assert (lines[1]["pesq_wb"], lines[1]["missing"]) == ("", "pesq_wb: no utterance found")
    assert (lines[2]["cpu_s"], lines[2]["speaker"], lines[2]["label_snr_db"]) == (
        "0.1",
        "ann",
        "10",
    )
    assert "stoi" not in lines[0]
    assert [entry.name for entry in path.parent.iterdir()] == ["items.csv"]


def test_csv_of_nothing_is_a_header(tmp_path: Path) -> None:
    evaluation = make_evaluation([], [])
    write_csv(evaluation, tmp_path / "items.csv")
    assert (tmp_path / "items.csv").read_text("utf-8") == "item,model\n"


def test_a_grouped_table_names_each_value_once() -> None:
    evaluation = make_evaluation([1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0])
    heading, *lines = grouped_table(evaluation, "snr_db", ["pesq_wb"])
    assert heading == ["snr_db", "items", "system", "pesq_wb", "rtf"]
    assert [line[:3] for line in lines[:2]] == [["-5", "2", "noisy"], ["", "", "speech"]]
    assert [line[0] for line in lines if line[0]] == ["-5", "0", "10"]
    low, high = mean_interval([2.0, 4.0])[1:]  # type: ignore[index]
    assert lines[0][3] == f"3.000 ±{(high - low) / 2:.3f}"
    assert lines[2][3] == "3.000"  # one item says nothing of its spread
    assert grouped_table(evaluation, "no such label", ["pesq_wb"]) == []
