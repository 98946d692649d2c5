"""The loop: exact resume after kill -9, several processes, what stops a run before it starts."""

import csv
import json
import math
import os
import subprocess
import sys

import pytest
import torch
from torch import distributed

from quieten.errors import ConfigError, MissingExtra
from quieten.training import train as loop
from quieten.training.data import load_mixer
from quieten.training.models import FAMILIES
from quieten.training.tensorfile import load_checkpoint

KILLED = """
import os, signal, sys
from pathlib import Path
from quieten.training import train
from quieten.training.models.realtime import Realtime

step_of = Realtime.step
def step(self, noisy, clean, number):
    if number == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return step_of(self, noisy, clean, number)

Realtime.step = step
train.main("realtime", None, sys.argv[2:], Path(sys.argv[1]), False)
"""


def python(*arguments, **variables):
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | variables
    return subprocess.run(
        [sys.executable, *map(str, arguments)], capture_output=True, text=True, env=environment
    )


@pytest.fixture
def run(overrides, tmp_path):
    """A function (*overrides, out="run", resume=False) -> run folder."""

    def start(*more, out="run", resume=False):
        loop.main("realtime", None, [*overrides, *more], tmp_path / out, resume)
        return tmp_path / out

    return start


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def assert_same_run(one, other):
    """Every tensor and number of both checkpoints, and every byte of the logs."""
    for name in ("last.safetensors", "best.safetensors"):
        ours, theirs = load_checkpoint(one / name), load_checkpoint(other / name)
        assert ours[1] == theirs[1]
        assert ours[0].keys() == theirs[0].keys()
        assert all(torch.equal(tensor, theirs[0][key]) for key, tensor in ours[0].items())
    for name in ("log.csv", "validation.csv"):
        assert (one / name).read_text() == (other / name).read_text()


def test_a_run_leaves_what_it_promises(run, capsys):
    out = run()
    assert sorted(f.name for f in out.iterdir()) == [
        *("best.safetensors", "config.json", "last.safetensors", "log.csv", "validation.csv")
    ]
    log = rows(out / "log.csv")
    assert [row["step"] for row in log] == ["0", "1", "2", "3"]
    assert {"magnitude", "complex", "waveform", "gradient_norm"} <= set(log[0])
    scores = rows(out / "validation.csv")
    assert [row["step"] for row in scores] == ["2", "4"] and {"stoi", "si_sdr_db"} <= set(scores[0])
    assert json.loads((out / "config.json").read_text())["steps"] == 4
    assert "step 4: " in capsys.readouterr().err


def test_best_is_the_checkpoint_with_the_highest_score(run):
    out = run("validation.every_steps=1")
    scores = {int(row["step"]): float(row["stoi"]) for row in rows(out / "validation.csv")}
    numbers = load_checkpoint(out / "best.safetensors")[1]
    assert scores[numbers["step"]] == max(scores.values())
    assert numbers["best"] == pytest.approx(max(scores.values()), rel=1e-5)  # six digits in the log


def test_the_same_settings_give_the_same_run(run):
    assert_same_run(run(out="a"), run(out="b"))


def test_another_seed_gives_another_run(run):
    a, b = (load_checkpoint(run(f"seed={s}", out=f"r{s}") / "last.safetensors")[0] for s in (1, 2))
    assert not torch.equal(a["net/net/skip1.weight"], b["net/net/skip1.weight"])


def test_killed_and_resumed_equals_uninterrupted(run, overrides, tmp_path):
    """SIGKILL at step 5: the last checkpoint is of step 4, the log is already further."""
    settings = ["steps=8", "optimizer.schedule=plateau", "optimizer.plateau_patience=0"]
    killed = python("-c", KILLED, tmp_path / "killed", *overrides, *settings)
    assert killed.returncode == -9, killed.stderr
    assert load_checkpoint(tmp_path / "killed" / "last.safetensors")[1]["step"] == 4
    assert rows(tmp_path / "killed" / "log.csv")[-1]["step"] == "4"
    run(*settings, out="killed", resume=True)
    assert_same_run(run(*settings, out="whole"), tmp_path / "killed")


def test_codebooks_are_resumed_exactly(telephone_overrides, tmp_path):
    """Killed after the books have started: their averages and use counts are in the checkpoint."""
    settings = [*telephone_overrides, "precision=bfloat16", "optimizer.ema_decay=0.5", "steps=6"]
    loop.main("vqvae_unet", None, settings, tmp_path / "whole", False)
    step_of = FAMILIES["vqvae_unet"].step

    def stop(self, noisy, clean, number):
        if number == 5:
            raise KeyboardInterrupt
        return step_of(self, noisy, clean, number)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(FAMILIES["vqvae_unet"], "step", stop)
        loop.main("vqvae_unet", None, settings, tmp_path / "cut", False)
    assert load_checkpoint(tmp_path / "cut" / "last.safetensors")[1]["step"] == 4
    loop.main("vqvae_unet", None, settings, tmp_path / "cut", True)
    assert_same_run(tmp_path / "whole", tmp_path / "cut")
    log = rows(tmp_path / "cut" / "log.csv")
    assert {"perplexity", "dead_codes", "restarts", "vq_error"} <= set(log[0])
    assert float(log[-1]["perplexity"]) > 1


def test_resuming_a_finished_run_changes_nothing(run):
    out = run()
    before = (out / "last.safetensors").read_bytes(), (out / "log.csv").read_bytes()
    run(resume=True)
    assert before == ((out / "last.safetensors").read_bytes(), (out / "log.csv").read_bytes())


def test_two_processes_train_one_network(overrides, tmp_path):
    """Through torchrun and the command line; plateau and skipping decide alike on both."""
    watcher = tmp_path / "watch.py"
    watcher.write_text(
        "import os, sys\n"
        "from safetensors.torch import save_file\n"
        "from quieten.training import train\n"
        "validate_first = train.validate\n"
        "def validate(family, items, config):\n"
        "    updater = family.updaters['net']\n"
        "    name = f'{sys.argv[1]}/rank{os.environ[\"RANK\"]}.safetensors'\n"
        "    tensors = {k: v.contiguous() for k, v in updater.tensors().items()}\n"
        "    save_file(tensors, name, {'rate': str(updater.learning_rate(9))})\n"
        "    return validate_first(family, items, config)\n"
        "train.validate = validate\n"
        "from pathlib import Path\n"
        "train.main('realtime', None, sys.argv[2:], Path(sys.argv[1], 'run'), False)\n"
    )
    settings = [*overrides, "optimizer.schedule=plateau", "optimizer.plateau_patience=0"]
    settings += [f"data.cache={json.dumps(str(tmp_path / 'cache'))}", "validation.every_steps=1"]
    done = python(
        *("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"),
        *(watcher, tmp_path, *settings),
    )
    assert done.returncode == 0, done.stderr
    paths = [tmp_path / f"rank{rank}.safetensors" for rank in (0, 1)]
    one, other = (loop_tensors(path) for path in paths)
    assert one[1] == other[1]
    assert all(torch.equal(tensor, other[0][name]) for name, tensor in one[0].items())
    assert [row["step"] for row in rows(tmp_path / "run" / "log.csv")] == ["0", "1", "2", "3"]


def loop_tensors(path):
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118


def halves(rank, config, path):
    """One process of two: the gradients after a step on its own half."""
    distributed.init_process_group(
        "gloo", init_method=f"file://{path}/meet", rank=rank, world_size=2
    )
    torch.set_num_threads(1)
    torch.save(gradients(config, rank), f"{path}/{rank}.pt")
    distributed.destroy_process_group()


def gradients(config, rank):
    """What one step on the batch of `rank` leaves in the network, by name."""
    torch.manual_seed(1)
    family = FAMILIES["realtime"](config)
    noisy, clean = load_mixer(config.data).batch(1, 0, rank)
    family.step(torch.from_numpy(noisy), torch.from_numpy(clean), 0)
    return {name: p.grad for name, p in family.updaters["net"].net.named_parameters()}


def test_shared_gradients_are_those_of_the_mean_loss(tiny, tmp_path):
    """Of the losses of both halves, each with its own batch statistics; 1e-5: order of sums."""
    config = tiny("optimizer.clip_norm=1e9")
    torch.multiprocessing.spawn(halves, (config, str(tmp_path)), nprocs=2)
    alone = [gradients(config, rank) for rank in (0, 1)]
    for rank in (0, 1):
        shared = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        for name, gradient in shared.items():
            expected = (alone[0][name] + alone[1][name]) / 2
            torch.testing.assert_close(gradient, expected, atol=1e-5, rtol=1e-4)


def test_bfloat16_runs_and_validates(run):
    scores = rows(run("precision=bfloat16") / "validation.csv")
    assert all(math.isfinite(float(value)) for value in scores[-1].values())


def test_an_existing_run_is_not_overwritten(run):
    run()
    with pytest.raises(ConfigError, match="give --resume or another folder"):
        run()


def test_nothing_to_resume_is_explained(run):
    with pytest.raises(ConfigError, match="no checkpoint"):
        run(resume=True)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("family=fast", "unknown family fast.*realtime"),
        ('validation.metrics=["mos"]', "no metric is called mos.*stoi"),
        ("validation.select=mos", "mos is none of validation.metrics.*stoi"),
        ("validation.select=lsd", "lsd is none of validation.metrics"),
        (
            ('validation.metrics=["stoi", "clipped_samples"]', "validation.select=clipped_samples"),
            "choose among stoi",
        ),
        ("data.noise=[]", "data.noise names no folder"),
        ("validation.clean=[]", r"validation.clean names no folder: --set"),
        ('data.clean=["nowhere"]', "no folder nowhere"),
    ],
)
def test_wrong_settings_stop_before_the_run(run, tmp_path, override, words):
    with pytest.raises(ConfigError, match=words):
        run(*([override] if isinstance(override, str) else override))
    assert not (tmp_path / "run").exists()


def test_a_metric_that_is_not_installed_stops_before_the_run(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "pystoi", None)
    with pytest.raises(MissingExtra, match=r"quieten\[eval\]"):
        run()


def test_findings_are_shown_before_the_run(run, capsys, folders, tmp_path, voice, write_sounds):
    extra = write_sounds(
        tmp_path / "more", {"x_1.wav": voice(1, 0.2), "x_2.wav": 0 * voice(1, 1.0)}
    )
    names = json.dumps([str(folders["clean"]), str(extra)])
    run(f"data.clean={names}", "steps=1")
    shown = capsys.readouterr().err
    assert "data: 1 short: data.clean: x_1.wav" in shown
    assert "data: 1 silent: data.clean: x_2.wav" in shown
    run(f"data.clean={names}", "steps=1", "data.lint=false", out="other")
    assert "data:" not in capsys.readouterr().err


def test_leaks_stop_the_run_unless_allowed(run, folders, capsys):
    leaking = f"data.clean={json.dumps([str(folders[k]) for k in ('clean', 'valid_clean')])}"
    with pytest.raises(ConfigError, match=r"dora_0\.wav is the same sound.*data\.allow_leaks=true"):
        run(leaking)
    assert "leaked" in capsys.readouterr().err
    run(leaking, "data.allow_leaks=true", "steps=1")


def test_a_diverging_run_stops_with_one_clear_error(run, monkeypatch):
    """A loss weight of infinity: every step is bad from the first."""
    with pytest.raises(ConfigError, match="training diverged: 2 steps in a row"):
        run("loss.waveform=inf", "optimizer.max_bad_steps=2")


def test_the_command_line_trains(overrides, tmp_path):
    settings = [word for override in overrides for word in ("--set", override)]
    out = tmp_path / "run"
    done = python("-m", "quieten", "train", "realtime", *settings, "--set", "steps=1", "--out", out)
    assert done.returncode == 0, done.stderr
    assert (out / "best.safetensors").is_file() and "step 1: " in done.stderr
    again = python("-m", "quieten", "train", "realtime", *settings, "--out", out)
    assert again.returncode == 1 and "Traceback" not in again.stderr
    assert "--resume" in again.stderr


def test_of_a_distance_the_lowest_is_the_best(run):
    """The checkpoint that is kept is the one with the lowest validation score."""
    out = run('validation.metrics=["lsd"]', "validation.select=lsd")
    scores = {int(row["step"]): float(row["lsd"]) for row in rows(out / "validation.csv")}
    _, numbers = load_checkpoint(out / "best.safetensors")
    assert numbers["step"] == min(scores, key=scores.get)
    assert numbers["best"] == pytest.approx(-min(scores.values()), abs=1e-4)
