"""Evaluations: right figures, nothing measured twice, nothing lost, whatever fails or is killed."""

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import tiny_model
from quieten.audio import probe, read_audio, write_audio
from quieten.denoise import Denoiser
from quieten.errors import ConfigError, ModelError
from quieten.evaluation import evaluate as module
from quieten.evaluation.evaluate import Evaluation, Request, System, evaluate, read_evaluation
from quieten.metrics import METRICS
from quieten.testsets.pairs import Item
from tiny_testset import RATE, program, wait_for_end, write_items

CHEAP = ("si_sdr_db", "nsr", "lsd", "clipped_samples")
IDENTITY, LOWPASS = System("identity", "model", "identity"), System("lowpass", "model", "lowpass")
COPY = "shutil.copyfile(args[0], args[1])"


@pytest.fixture
def request_(tmp_path: Path) -> Request:
    """Three items, one baseline, in `out`."""
    return Request(write_items(tmp_path), (LOWPASS,), tmp_path / "out", CHEAP, testset="tiny")


def values(evaluation: Evaluation) -> dict[tuple[str, str], dict[str, float]]:
    return {pair: score.values for pair, score in evaluation.scores.items()}


def measured(request: Request) -> list[str]:
    """Evaluates and returns what was measured anew, such as "noisy 000"."""
    calls: list[str] = []
    evaluate(request, lambda done, total, what: calls.append(what))
    return calls[1:]


def command(folder: Path, body: str, name: str = "tool") -> System:
    return System(name, "command", program(folder, body, name) + " {in} {out}")


def test_scores_are_those_of_the_metrics_and_the_denoiser(request_: Request) -> None:
    evaluation = evaluate(request_)
    assert [system.name for system in evaluation.systems] == ["noisy", "lowpass"]
    for item in request_.items:
        noisy, _ = read_audio(item.noisy)
        clean, _ = read_audio(item.clean or "")
        denoised = Denoiser("lowpass")(noisy, RATE)
        for name, sound in (("noisy", noisy), ("lowpass", denoised)):
            score = evaluation.scores[name, item.name]
            assert score.values == {m: METRICS[m](sound[0], clean[0], RATE) for m in CHEAP}
            assert score.missing == {}
            assert score.duration_s == noisy.shape[1] / RATE
        kept = evaluation.sound("lowpass", item.name)
        np.testing.assert_array_equal(read_audio(kept)[0], denoised)
        assert probe(kept).subtype == "FLOAT"
        assert evaluation.sound("noisy", item.name) == item.noisy


def test_models_are_timed_and_the_noisy_files_are_not(request_: Request) -> None:
    scores = evaluate(request_).scores
    assert scores["noisy", "000"].cpu_s is None
    assert (scores["lowpass", "000"].cpu_s or 0) > 0


def test_what_is_read_back_is_what_was_returned(request_: Request) -> None:
    evaluation = evaluate(request_)
    assert read_evaluation(request_.out) == evaluation
    assert evaluation.items == request_.items
    assert (evaluation.testset, evaluation.metrics) == ("tiny", CHEAP)


def test_worker_processes_give_the_same(request_: Request, tmp_path: Path) -> None:
    systems = (LOWPASS, System("oracle-mask", "oracle"), command(tmp_path, COPY))
    one = evaluate(replace(request_, systems=systems))
    two = evaluate(replace(request_, systems=systems, out=tmp_path / "two", workers=2))
    assert list(one.scores) == list(two.scores)
    assert values(one) == values(two)
    assert {pair: s.fingerprint for pair, s in one.scores.items()} == {
        pair: s.fingerprint for pair, s in two.scores.items()
    }


def test_progress_counts_to_the_end(request_: Request) -> None:
    calls: list[tuple[int, int, str]] = []
    evaluate(request_, lambda *call: calls.append(call))
    assert [call[:2] for call in calls] == [(done, 6) for done in range(7)]
    assert {call[2] for call in calls[1:]} == {
        f"{system} {item.name}" for system in ("noisy", "lowpass") for item in request_.items
    }


def test_a_finished_evaluation_measures_nothing(request_: Request) -> None:
    evaluate(request_)
    before = (request_.out / "scores.jsonl").read_bytes()
    assert measured(request_) == []
    assert (request_.out / "scores.jsonl").read_bytes() == before


def test_a_new_system_adds_only_its_own_rows(request_: Request) -> None:
    first = evaluate(request_)
    wider = replace(request_, systems=(LOWPASS, IDENTITY))
    assert measured(wider) == ["identity 000", "identity 001", "identity 002"]
    both = read_evaluation(request_.out)
    assert {pair: both.scores[pair] for pair in first.scores} == first.scores
    assert measured(request_) == []  # fewer again: the table is what was asked for
    assert read_evaluation(request_.out).scores == first.scores
    assert measured(wider) == []


def test_a_changed_model_file_is_measured_anew(request_: Request, tmp_path: Path) -> None:
    path = tiny_model.constant(tmp_path, 0.5)
    request = replace(request_, systems=(System("mine", "model", str(path)),))
    half = evaluate(request)
    tiny_model.constant(tmp_path, 0.25)
    assert measured(request) == ["mine 000", "mine 001", "mine 002"]
    quarter = read_evaluation(request_.out)
    assert quarter.scores["mine", "000"].values != half.scores["mine", "000"].values
    sounds = [
        read_audio(folder)[0] for folder in (half.sound("mine", "000"), request.items[0].noisy)
    ]
    np.testing.assert_allclose(sounds[0], 0.25 * sounds[1], atol=1e-6)


def test_whatever_decides_a_score_makes_it_anew(request_: Request, tmp_path: Path) -> None:
    tool = command(tmp_path, COPY)
    request = replace(request_, systems=(tool,))
    everything = [f"{name} {item.name}" for name in ("noisy", "tool") for item in request.items]
    assert measured(request) == everything
    other = replace(request, systems=(replace(tool, spec=tool.spec + " --more"),))
    assert measured(other) == everything[3:]
    shorter = replace(other, metrics=("lsd",))
    assert measured(shorter) == everything
    assert measured(replace(shorter, align=True)) == everything
    again = replace(shorter, align=True, metrics=("lsd", "nsr"))
    assert measured(again) == everything
    assert measured(replace(again, metrics=("nsr", "lsd"))) == []  # order decides nothing


def test_a_changed_sound_is_measured_anew(request_: Request) -> None:
    evaluate(request_)
    sound, _ = read_audio(request_.items[1].noisy)
    write_audio(request_.items[1].noisy, 0.9 * sound, RATE, subtype="FLOAT")
    assert measured(request_) == ["noisy 001", "lowpass 001"]
    assert request_.items[2].clean
    write_audio(request_.items[2].clean, read_audio(request_.items[2].clean)[0], RATE)  # 16 bit
    assert measured(request_) == ["noisy 002", "lowpass 002"]


def test_a_sound_that_was_removed_is_made_again(request_: Request) -> None:
    evaluation = evaluate(request_)
    evaluation.sound("lowpass", "001").unlink()
    assert measured(request_) == ["lowpass 001"]
    assert evaluation.sound("lowpass", "001").is_file()


def test_a_torn_line_is_measured_again(request_: Request) -> None:
    whole = evaluate(request_)
    path = request_.out / "scores.jsonl"
    path.write_bytes(path.read_bytes()[:-30])
    assert len(read_evaluation(request_.out).scores) == 5
    assert measured(request_) == ["lowpass 002"]
    assert values(read_evaluation(request_.out)) == values(whole)


def test_what_failed_is_tried_again(request_: Request, tmp_path: Path) -> None:
    tool = command(tmp_path, "print('not yet'); sys.exit(1)")
    request = replace(request_, systems=(tool,))
    score = evaluate(request).scores["tool", "001"]
    assert (score.values, score.cpu_s) == ({}, None)
    assert score.missing == dict.fromkeys(CHEAP, "exit status 1: not yet")
    command(tmp_path, COPY)
    assert measured(request) == ["tool 000", "tool 001", "tool 002"]
    assert read_evaluation(request.out).scores["tool", "001"].missing == {}


RUN = """
import os, signal, sys
from pathlib import Path
from multiprocessing import active_children
from quieten.evaluation.evaluate import Request, System, evaluate
from quieten.testsets.pairs import read_testset

def progress(done, total, what):
    print(done, flush=True)
    if done == 4:
        Path(out, "pids").write_text(" ".join(str(child.pid) for child in active_children()))
        os.kill(os.getpid(), getattr(signal, sys.argv[4]))

if __name__ == "__main__":
    testset, out, workers = sys.argv[1:4]
    systems = (System("lowpass", "model", "lowpass"), System("identity", "model", "identity"))
    metrics = ("si_sdr_db", "nsr", "lsd", "clipped_samples")
    items = tuple(read_testset(Path(testset)))
    evaluate(Request(items, systems, Path(out), metrics, workers=int(workers)), progress)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="sends signals")
@pytest.mark.parametrize(("kill", "workers"), [("SIGKILL", 1), ("SIGKILL", 2), ("SIGINT", 2)])
def test_a_killed_run_goes_on_and_gives_the_same(
    request_: Request, tmp_path: Path, kill: str, workers: int
) -> None:
    script = tmp_path / "run.py"
    script.write_text(RUN, "utf-8")
    systems = (LOWPASS, IDENTITY)
    arguments = [sys.executable, str(script), str(tmp_path), str(request_.out), str(workers), kill]
    run = subprocess.run(arguments, capture_output=True, text=True, timeout=120)
    assert run.returncode == -getattr(signal, kill), run.stderr
    assert run.stdout.split() == ["0", "1", "2", "3", "4"]
    half = read_evaluation(request_.out)
    assert len(half.scores) == 4
    workers_then = [int(pid) for pid in (request_.out / "pids").read_text().split()]
    assert len(workers_then) == (0 if workers == 1 else workers)
    assert wait_for_end(workers_then), "workers outlive their parent"

    request = replace(request_, systems=systems)
    assert len(measured(request)) == 9 - 4
    resumed = read_evaluation(request.out)
    whole = evaluate(replace(request, out=tmp_path / "whole"))
    assert list(resumed.scores) == list(whole.scores)
    assert values(resumed) == values(whole)
    assert {pair: resumed.scores[pair] for pair in half.scores} == half.scores
    assert not (request.out / ".work").exists()


def test_an_interruption_keeps_what_is_done(request_: Request) -> None:
    def interrupt(done: int, total: int, what: str) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(request_, interrupt)
    assert list(read_evaluation(request_.out).scores) == [("noisy", "000"), ("noisy", "001")]
    assert not (request_.out / ".work").exists()
    assert len(measured(request_)) == 4


def test_two_at_once_in_one_folder_are_refused(request_: Request) -> None:
    def again(done: int, total: int, what: str) -> None:
        with pytest.raises(ConfigError, match=f"at work in it .process {os.getpid()}"):
            evaluate(request_)

    evaluate(request_, again)
    assert measured(request_) == []


def test_the_lock_of_a_dead_process_is_no_hindrance(request_: Request) -> None:
    request_.out.mkdir()
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    (request_.out / ".lock").write_text(f"{child.pid}\n")
    assert len(measured(request_)) == 6


def test_a_folder_with_other_files_is_left_alone(request_: Request) -> None:
    request_.out.mkdir()
    (request_.out / "thesis.txt").write_text("all of it")
    with pytest.raises(ConfigError, match="holds something else"):
        evaluate(request_)
    assert [path.name for path in request_.out.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [("{", "damaged"), ("[]", "damaged"), ('{"format": 1}', "damaged"), ("{}", "another format")],
)
def test_a_folder_with_another_evaluation_is_left_alone(
    request_: Request, content: str, reason: str
) -> None:
    request_.out.mkdir()
    path = request_.out / "evaluation.json"
    path.write_text(content)
    for work in (lambda: evaluate(request_), lambda: read_evaluation(request_.out)):
        with pytest.raises(ConfigError, match=reason):
            work()
    assert path.read_text() == content


def test_reading_what_is_no_evaluation_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no evaluation: make one"):
        read_evaluation(tmp_path)


def test_the_description_is_plain_json(request_: Request) -> None:
    evaluate(request_)
    content = json.loads((request_.out / "evaluation.json").read_text("utf-8"))
    assert content["systems"][1] == {"name": "lowpass", "kind": "model", "spec": "lowpass"}
    assert content["items"][0]["labels"] == {"snr_db": "10", "noise_type": "hiss"}


def wrong(request: Request, **changes: object) -> Request:
    return replace(request, **changes)  # type: ignore[arg-type]


def test_requests_without_sense_are_refused_before_anything_is_written(request_: Request) -> None:
    item = request_.items[0]
    cases = {
        "test set is empty": {"items": ()},
        "two items are called '000'": {"items": (item, item)},
        r"'\.\./x' is no name for an item": {"items": (replace(item, name="../x"),)},
        "two systems are called 'noisy'": {"systems": (System("noisy", "model", "lowpass"),)},
        "two systems are called 'lowpass'": {"systems": (LOWPASS, replace(LOWPASS, spec="wiener"))},
        "'a/b' is no name for a system": {"systems": (System("a/b", "model", "lowpass"),)},
        "metric 'mos' is unknown: use some of snr_db": {"metrics": ("lsd", "mos")},
        "there is no metric": {"metrics": ()},
        "workers is 0": {"workers": 0},
        "no program nowhere": {"systems": (System("x", "command", "nowhere {in} {out}"),)},
    }
    for reason, changes in cases.items():
        with pytest.raises(ConfigError, match=reason):
            evaluate(wrong(request_, **changes))
    with pytest.raises(ModelError, match="unknown model 'nonsense'"):
        evaluate(replace(request_, systems=(System("x", "model", "nonsense"),)))
    assert not request_.out.exists()


def test_names_of_items_may_hold_folders(request_: Request) -> None:
    items = tuple(Item(f"rooms/{one.name}", one.noisy, one.clean) for one in request_.items)
    evaluation = evaluate(replace(request_, items=items))
    assert evaluation.sound("lowpass", "rooms/001") == (
        request_.out / "denoised" / "lowpass" / "rooms" / "001.wav"
    )
    assert evaluation.sound("lowpass", "rooms/001").is_file()


def test_versions_decide_too(request_: Request, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluate(request_)
    monkeypatch.setattr(module, "__version__", "99")
    assert len(measured(request_)) == 6


def test_an_evaluation_can_be_moved(request_: Request, tmp_path: Path) -> None:
    evaluation = evaluate(request_)
    moved = shutil.move(request_.out, tmp_path / "elsewhere")
    again = read_evaluation(moved)
    assert again.scores == evaluation.scores
    assert again.sound("lowpass", "000").is_file()
