"""Reports as files: what they hold, that nothing in a name becomes markup, merging, weight."""

import base64
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import tiny_evaluation
from quieten.audio import write_audio
from quieten.errors import AudioError, ConfigError
from quieten.evaluation.results import Score
from quieten.report import document as report
from quieten.report.document import merge, write_comparison, write_report
from quieten.report.page import Cell, SummaryRow, label_name, number, summary_table

NASTY = "<img src=x onerror=alert(1)>\"'&</script>"


class Page(HTMLParser):
    """Counts elements, keeps attributes and texts of those that matter."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.text = path.read_text("utf-8")
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.inside: dict[str, str] = {}
        self._open = ""
        self.feed(self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._open = tag + (dict(attrs).get("id") or "")

    def handle_data(self, data: str) -> None:
        self.inside[self._open] = self.inside.get(self._open, "") + data

    def all(self, tag: str, **wanted: str) -> list[dict[str, str | None]]:
        """Attributes of all elements of a kind whose attributes are those wanted."""
        wanted = {name.rstrip("_"): value for name, value in wanted.items()}
        return [
            attrs
            for name, attrs in self.elements
            if name == tag and wanted.items() <= attrs.items()
        ]

    @property
    def data(self) -> dict:
        return json.loads(self.inside["scriptdata"])


def report_of(tmp_path: Path, evaluation, **options) -> Page:
    return Page(write_report([evaluation], tmp_path / "report.html", **options))


def test_a_page_holds_tables_cards_and_sounds(tmp_path):
    page = report_of(tmp_path, tiny_evaluation.make(tmp_path), count=1)
    assert len(page.all("article")) == 3
    assert len(page.all("audio")) == len(page.all("img")) == 3 * 4  # noisy, speech, removed, clean
    assert page.inside["title"].strip() == "speech on tones"
    assert page.data["items"] == ["000", "001", "002", "003"]
    assert page.data["scores"]["pesq_wb"] == [[1, 1, 1, 1], [1, 2, 3, 4]]
    assert page.data["labels"] == {
        "snr_db": {"name": "SNR (dB)", "values": ["-5", "0", "-5", "0"]}
    }  # the type of noise has one value only: no groups
    assert page.data["differences"]["pesq_wb"]["noisy"][0] == pytest.approx(-1.5)
    assert "raises PESQ wb by <strong>1.50" in page.text


def test_nothing_is_loaded_from_elsewhere(tmp_path):
    page = report_of(tmp_path, tiny_evaluation.make(tmp_path), count=1)
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page.text).group(1)
    assert policy.startswith("default-src 'none';") and "unsafe" not in policy
    for kind, tag in (("style", "style"), ("script", "script")):
        code = re.search(rf"<{tag}>(.*?)</{tag}>", page.text, re.S).group(1)
        digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    addresses = [
        value for _, attrs in page.elements for key, value in attrs.items() if key == "src"
    ]
    assert addresses and all(value.startswith("data:") for value in addresses)
    assert not page.all("link") and not [a for _, a in page.elements if "style" in a]
    assert "http://www.w3.org/2000/svg" in page.text  # a name, not an address
    assert len(re.findall(r"https?://", page.text)) == 1


def test_names_never_become_markup(tmp_path):
    evaluation = tiny_evaluation.make(tmp_path, count=2)
    renamed = [replace(item, labels={NASTY: NASTY}) for item in evaluation.items]
    renamed[0] = replace(renamed[0], name=NASTY)
    scores = {
        (system, NASTY if item == "000" else item): score
        for (system, item), score in evaluation.scores.items()
    }
    sound = evaluation.sound("speech", "000")
    evaluation = replace(evaluation, items=tuple(renamed), scores=scores, testset=NASTY)
    system = replace(evaluation.systems[1], spec=NASTY)
    evaluation = replace(evaluation, systems=(evaluation.systems[0], system))
    evaluation.sound("speech", NASTY).parent.mkdir(parents=True, exist_ok=True)
    write_audio(evaluation.sound("speech", NASTY), tiny_evaluation.tone(500, 0.1), 16_000)
    page = report_of(tmp_path, evaluation, title=NASTY)
    assert sound.is_file()
    assert not [attrs for _, attrs in page.elements if "onerror" in attrs]
    assert not page.all("img", src="x") and len(page.all("script")) == 2
    assert page.data["items"][0] == NASTY
    assert NASTY in page.inside["title"]


def test_the_same_input_gives_the_same_page(tmp_path):
    evaluation = tiny_evaluation.make(tmp_path)
    first = write_report([evaluation], tmp_path / "a.html").read_bytes()
    assert write_report([evaluation], tmp_path / "b.html").read_bytes() == first


def test_only_reports_are_replaced(tmp_path):
    evaluation = tiny_evaluation.make(tmp_path, count=1)
    path = write_report([evaluation], tmp_path / "a.html", title="before")
    write_report([evaluation], path, title="after")
    assert "after" in path.read_text("utf-8")[:3000]
    (tmp_path / "mine.html").write_text("<p>dear diary</p>")
    for taken in (tmp_path / "mine.html", tmp_path):
        with pytest.raises(ConfigError, match="no report"):
            write_report([evaluation], taken)
    assert (tmp_path / "mine.html").read_text() == "<p>dear diary</p>"
    assert not list(tmp_path.glob(".quieten-*"))


def test_a_page_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(AudioError, match="cannot be written"):
        write_report([tiny_evaluation.make(tmp_path, count=1)], tmp_path / "file" / "a.html")


def test_a_failed_result_is_told_and_left_out(tmp_path):
    evaluation = tiny_evaluation.make(tmp_path, count=2, systems=("speech", "other"))
    evaluation.sound("other", "001").unlink()
    missing = dict.fromkeys(evaluation.metrics, "the program gave up")
    evaluation.scores["other", "001"] = Score("other", "001", {}, missing, None, 2.0)
    page = report_of(tmp_path, evaluation, named=["001"], count=0)
    assert len(page.all("audio")) == 4
    assert "No sound of other: the program gave up." in page.text
    assert "1 missing" in page.text
    assert page.data["scores"]["pesq_wb"][2] == [1.1, None]


def test_without_the_wanted_metric_another_one_ranks(tmp_path):
    evaluation = replace(tiny_evaluation.make(tmp_path), metrics=("lsd",))
    for pair, score in evaluation.scores.items():
        evaluation.scores[pair] = replace(score, values={"lsd": score.values["lsd"]})
    page = report_of(tmp_path, evaluation, count=1)
    assert page.data["metric"] == "lsd"
    assert "speech lowers LSD by <strong>1.00" in page.text


def test_weight_is_kept_by_leaving_items_out(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "MAX_BYTES", 900_000)
    evaluation = tiny_evaluation.make(tmp_path)
    path = write_report([evaluation], tmp_path / "a.html", count=4)
    page = Page(path)
    assert path.stat().st_size < 900_000
    shown = len(page.all("article"))
    assert 1 <= shown < 4 and len(page.data["cards"]) == shown
    assert f"{4 - shown} items were left out" in page.text and "48&nbsp;kbit/s" in page.text


def test_merging_keeps_common_items_and_tells_systems_apart(tmp_path):
    one = tiny_evaluation.make(tmp_path / "monday", count=3, systems=("speech", "gate"))
    two = tiny_evaluation.make(tmp_path / "friday", count=2)
    two = replace(two, folder=two.folder.rename(tmp_path / "friday" / "late"))
    merged = merge([one, two])
    assert [item.name for item in merged.items] == ["000", "001"]
    assert [system.name for system in merged.systems] == [
        "noisy",
        "speech",
        "gate",
        "speech (late)",
    ]
    assert merged.scores["speech (late)", "001"].values == two.scores["speech", "001"].values
    assert merged.sound("speech (late)", "001") == two.sound("speech", "001")
    page = Page(write_report([one, two], tmp_path / "a.html", count=1))
    assert [system["name"] for system in page.data["systems"]][3] == "speech (late)"


def test_what_cannot_be_merged(tmp_path):
    one = tiny_evaluation.make(tmp_path / "one", count=1)
    other = tiny_evaluation.make(tmp_path / "other", count=1)
    write_audio(other.items[0].noisy, np.zeros(32_000, np.float32), 16_000)
    with pytest.raises(ConfigError, match="different noisy files"):
        merge([one, other])
    with pytest.raises(ConfigError, match="share no item"):
        merge([one, tiny_evaluation.make(tmp_path / "third", names=["x"])])
    with pytest.raises(ConfigError, match="nothing to show"):
        merge([])
    assert merge([one]) is one


def test_own_files_get_one_card_and_scores(tmp_path):
    evaluation = tiny_evaluation.make(tmp_path, count=1)
    item = evaluation.items[0]
    sounds = [evaluation.sound("speech", "000"), item.clean]
    page = Page(write_comparison(item.noisy, sounds, item.clean, tmp_path / "files.html"))
    assert len(page.all("article")) == 1 and len(page.all("audio")) == 6
    assert page.all("section", id="listen") and not page.all("section", id="summary")
    shown = re.findall(
        r'<kbd>\d</kbd><span>([^<]+)</span>.*?</div>\n<div class="axis"', page.text, re.S
    )
    assert shown == ["Noisy", "000", "clean", "Removed by 000", "Removed by clean", "Clean"]
    assert "<dt>SI-SDR</dt>" in page.text


def test_a_comparison_needs_something_to_compare(tmp_path):
    with pytest.raises(ConfigError, match="one sound"):
        write_comparison(tmp_path / "a.wav", [], None, tmp_path / "a.html")


def test_the_best_mean_is_marked_where_one_way_is_better():
    rows = [
        SummaryRow("a", 0, {"lsd": Cell(2.0, 1.5, 2.5), "delay_ms": Cell(1.0)}),
        SummaryRow("b", 1, {"lsd": Cell(1.0, 0.5, 1.5, missing=3), "delay_ms": Cell(2.0)}),
    ]
    table = summary_table(rows, ["lsd", "delay_ms", "stoi"])
    assert re.findall(r"<strong>([\d.]+)", table) == ["1.00"]
    assert "0.50 to 1.50" in table and "3 missing" in table
    assert table.count("–") == 2  # neither has a STOI


@pytest.mark.parametrize(
    ("label", "words"),
    [("snr_db", "SNR (dB)"), ("noise_type", "Noise type"), ("speaker", "Speaker"), ("_", "_")],
)
def test_columns_become_words(label, words):
    assert label_name(label) == words


def test_numbers_have_a_true_minus_and_a_dash_for_nothing():
    assert [number(-1.25, 1), number(None, 1), number(1.0, 2, True)] == ["\u22121.2", "–", "+1.00"]
