"""Workers: one is this process, several are their own; both hand back results and errors."""

import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from quieten.baselines import load_any
from quieten.errors import ModelError, QuietenError
from quieten.evaluation.evaluate import Request, System, evaluate, read_evaluation
from quieten.evaluation.workers import open_workers
from tiny_testset import program, wait_for_end, write_items


def fail(error: BaseException) -> None:
    raise error


def test_one_worker_is_this_process() -> None:
    with open_workers(1, gc.collect) as pool:
        assert pool.submit(os.getpid).result() == os.getpid()


def test_more_are_processes_of_their_own() -> None:
    with open_workers(2, gc.collect) as pool:
        assert pool.submit(os.getpid).result() != os.getpid()
        with pytest.raises(ModelError, match="unknown model 'nonsense'"):
            pool.submit(load_any, "nonsense").result()


def test_errors_wait_for_whoever_asks_but_an_interruption_does_not() -> None:
    with open_workers(1, gc.collect) as pool:
        future = pool.submit(fail, ValueError("wrong"))
        with pytest.raises(ValueError, match="wrong"):
            future.result()
        with pytest.raises(KeyboardInterrupt):
            pool.submit(fail, KeyboardInterrupt())


def test_an_exception_ends_busy_and_idle_workers() -> None:
    with pytest.raises(KeyboardInterrupt), open_workers(3, gc.collect) as pool:
        for _ in range(2):
            pool.submit(time.sleep, 600)
        pool.submit(os.getpid).result()
        children = multiprocessing.active_children()
        raise KeyboardInterrupt
    assert len(children) == 3
    assert not any(child.is_alive() for child in children)


@pytest.mark.skipif(sys.platform == "win32", reason="ends processes by signals")
@pytest.mark.parametrize("workers", [1, 2])
def test_an_interruption_ends_the_programs_too(tmp_path: Path, workers: int) -> None:
    body = f"""
if os.path.basename(args[0]) == '0000_000.wav':
    shutil.copyfile(args[0], args[1])
else:
    open({str(tmp_path / "pid")!r}, 'w').write(str(os.getpid()))
    os.kill(int(os.environ["RUNNER"]), 2)
    time.sleep(600)
"""
    tool = program(tmp_path, body) + " {in} {out}"
    out = tmp_path / "out"
    runner = f"""
import os
from pathlib import Path
from quieten.evaluation.evaluate import Request, System, evaluate
from quieten.testsets.pairs import read_testset
if __name__ == "__main__":
    os.environ["RUNNER"] = str(os.getpid())
    items = tuple(read_testset(Path({str(tmp_path)!r})))
    systems = (System("x", "command", {tool!r}),)
    evaluate(Request(items, systems, Path({str(out)!r}), ("lsd",), {workers}))
"""
    write_items(tmp_path, 2)
    (tmp_path / "runner.py").write_text(runner, "utf-8")
    run = subprocess.run([sys.executable, tmp_path / "runner.py"], capture_output=True, timeout=120)
    assert run.returncode == -signal.SIGINT, run.stderr
    assert wait_for_end([int((tmp_path / "pid").read_text())])
    scores = read_evaluation(out).scores
    assert len(scores) >= 2  # of the three before it, one may have been at work beside it
    assert ("x", "001") not in scores
    assert not (out / ".work").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="kills the parent of a program")
def test_a_worker_that_is_killed_ends_the_run_and_what_is_done_is_kept(tmp_path: Path) -> None:
    killer = program(tmp_path, "os.kill(os.getppid(), 9)") + " {in} {out}"
    request = Request(
        write_items(tmp_path, 2), (System("x", "command", killer),), tmp_path / "out", ("lsd",)
    )
    with pytest.raises(QuietenError, match="start again with fewer workers"):
        evaluate(replace(request, workers=2))
    scores = read_evaluation(request.out).scores
    assert {system for system, _ in scores} == {"noisy"}  # at least one of the two
