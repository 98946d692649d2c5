"""System 3's benchmark: test sets by pipelines, rows against the input, sounds that stay."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import tiny_model
from quieten import cli, runtime
from quieten.audio import write_audio
from quieten.errors import ConfigError
from quieten.reproduce.restorer import PUBLISHED, TASKS, reproduce, text_table
from quieten.reproduce.spectrograms import draw_item
from quieten.restore import TASKS as MODELS

RATE = 16_000


@pytest.fixture
def music(tmp_path, rng):
    """A folder of two tunes of 11 s."""
    time = np.arange(11 * RATE) / RATE
    for name, pitch in (("one", 220), ("two", 330)):
        tones = sum(np.sin(2 * np.pi * k * pitch * time) / k for k in (1, 2, 9, 12))
        beats = np.exp(-3 * (time % 0.5))
        sound = 0.1 * tones * beats + 1e-4 * rng.standard_normal(time.size)
        (tmp_path / "music").mkdir(exist_ok=True)
        write_audio(tmp_path / "music" / f"{name}.flac", sound.astype(np.float32), RATE)
    return tmp_path / "music"


@pytest.fixture
def rooms(tmp_path, rng):
    """A folder of two responses, one of them unseen: an echo after 50 ms."""
    (tmp_path / "rooms").mkdir()
    for name, echo in (("test_a", 0.5), ("train_b", -0.5)):
        response = np.zeros(RATE // 4, np.float32)
        response[0], response[RATE // 20] = 0.9, echo
        write_audio(tmp_path / "rooms" / f"{name}.wav", response, RATE)
    return tmp_path / "rooms"


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """The package with tiny models for two of the tasks."""
    folder = tmp_path / "weights"
    folder.mkdir()
    for task in ("denoise", "dereverb"):
        tiny_model.restorer(folder, 0.5, name=MODELS[task])
    monkeypatch.setattr(runtime, "WEIGHTS", folder)
    return folder


def test_rows_stand_beside_those_of_the_input(music, rooms, weights, tmp_path):
    extra = tiny_model.restorer(tmp_path, 0.9, name="mine")
    seen = []
    made = reproduce(
        music,
        rooms,
        tmp_path / "out",
        weights={"denoise:mine": extra},
        limit=2,
        progress=lambda *args: seen.append(args),
    )
    rows = {(row.task, row.method): row for row in made.rows}
    assert {task for task, _ in rows} == set(TASKS) and seen
    for task in TASKS:
        row = rows[task, "input"].to_json()
        assert row["snr_db"] == row["input_snr_db"] and row["lsd"] == row["input_lsd"]
    white = rows["denoise-white", "input"].to_json()
    assert white["input_snr_db"] == pytest.approx(10, abs=0.1)
    # a mask of one half leaves half of the sound as error
    half = rows["denoise-white", "ours"].to_json()
    expected = -10 * np.log10(0.25 + 0.25 * 10 ** (-white["input_snr_db"] / 10))
    assert half["snr_db"] == pytest.approx(expected, abs=0.3)
    assert half["input_snr_db"] == white["snr_db"]
    assert ("denoise-pink", "mine") in rows and ("dereverb", "mine") not in rows
    assert rows["super-resolution", "ours"].reason == "model piano-sr is not installed"
    document = made.to_json()
    assert len(document["published"]["rows"]) == len(PUBLISHED) == 3
    assert json.dumps(document, allow_nan=False)
    assert len(text_table(made.rows)) == 1 + sum(1 for row in made.rows if row.means)


def test_only_unseen_rooms_are_taken(music, rooms, weights, tmp_path):
    reproduce(music, rooms, tmp_path / "out", limit=2)
    manifest = (tmp_path / "out/dereverb/manifest.csv").read_text()
    assert "test_a" in manifest and "train_b" not in manifest
    assert "reverb drr_db=" in manifest


def test_what_is_there_is_used_again(music, rooms, weights, tmp_path):
    first = reproduce(music, rooms, tmp_path / "out", limit=1)
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.flac")}
    again = reproduce(music, rooms, tmp_path / "out", limit=1)
    assert [row.to_json() for row in again.rows] == [row.to_json() for row in first.rows]
    assert stamps == {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.flac")}


@pytest.mark.parametrize(
    ("weights_given", "words"),
    [
        ({"nonsense": "x.onnx"}, "write TASK:METHOD"),
        ({"denoise:a": "x.onnx"}, "name an .onnx file"),
    ],
)
def test_wrong_weights_are_named(music, rooms, tmp_path, weights_given, words):
    given = {name: Path(path) for name, path in weights_given.items()}
    with pytest.raises(ConfigError, match=words):
        reproduce(music, rooms, tmp_path / "out", weights=given)


def test_missing_rooms_are_named(music, weights, tmp_path):
    with pytest.raises(ConfigError, match="room responses with --rir"):
        reproduce(music, tmp_path / "none", tmp_path / "out", limit=1)


def test_the_command_line(music, rooms, weights, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    args = ["reproduce", "restorer", "--data", str(music), "--rir", str(rooms), "--limit", "1"]
    more = ["-o", "out", "--json", "r.json", "--picture", "pictures", "--report"]
    result = CliRunner().invoke(cli.app, [*args, *more], prog_name="quieten")
    assert result.exit_code == 0, result.output
    assert "denoise-white" in result.output
    rows = json.loads(Path("r.json").read_text())["rows"]
    assert {row["task"] for row in rows} == set(TASKS)
    for task in TASKS:
        assert Path("pictures", f"{task}.png").read_bytes().startswith(b"\x89PNG")
        assert "<html" in Path("out", f"{task}.html").read_text()


def test_options_of_others_are_refused(monkeypatch):
    for system, option in (("vqvae_unet", "--report"), ("restorer", "--curves=x")):
        result = CliRunner().invoke(cli.app, ["reproduce", system, option], prog_name="quieten")
        assert result.exit_code == 1 and "means nothing for" in result.output


def test_items_that_are_not_there(music, rooms, weights, tmp_path):
    pytest.importorskip("matplotlib")
    made = reproduce(music, rooms, tmp_path / "out", limit=1)
    with pytest.raises(ConfigError, match="there are 1"):
        draw_item(made.evaluations["dereverb"], "ours", tmp_path / "x.png", 3)
