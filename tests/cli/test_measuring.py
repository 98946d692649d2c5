"""`quieten evaluate`, `compare` and `degrade` as a user types them."""

import csv
import json
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner, Result

import tiny_model
from quieten import cli, runtime
from quieten.audio import write_audio
from quieten.metrics import si_sdr_db, snr_db
from tiny_testset import program, write_items

Quieten = Callable[..., Result]
RATE = 16_000
QUICK = ("--metric", "snr_db,si_sdr_db", "--workers", "1")
COPY = "shutil.copy(args[0], args[1])\n"


@pytest.fixture
def quieten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Quieten:
    """A function that runs `quieten ARGS` in an empty folder; a tiny model is called `speech`."""
    weights = tmp_path / "weights"
    weights.mkdir()
    tiny_model.smoother(weights, name="speech")
    monkeypatch.setattr(runtime, "WEIGHTS", weights)
    monkeypatch.chdir(tmp_path)

    def run(*args: object) -> Result:
        return CliRunner().invoke(cli.app, [str(arg) for arg in args], prog_name="quieten")

    return run


@pytest.fixture
def testset(tmp_path: Path) -> Path:
    """Three pairs with a manifest."""
    folder = tmp_path / "set"
    items = write_items(folder)
    with (folder / "manifest.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", *items[0].labels])
        writer.writerows([item.name, *item.labels.values()] for item in items)
    return folder


def cells(line: str) -> list[str]:
    """The columns of a printed table: two spaces lie between them."""
    return [cell.strip() for cell in line.split("  ") if cell]


def test_table_json_and_csv_agree_with_the_closed_forms(quieten: Quieten, testset: Path) -> None:
    result = quieten(
        "evaluate", testset, "--model", "identity", *QUICK, "--json", "s.json", "--csv", "s.csv"
    )
    assert result.exit_code == 0, result.stderr
    expected = []
    for name in ("000", "001", "002"):
        noisy, clean = (
            soundfile.read(testset / part / f"{name}.wav")[0] for part in ("noisy", "clean")
        )
        expected.append((snr_db(noisy, clean), si_sdr_db(noisy, clean)))
    rows = json.loads(Path("s.json").read_text())["rows"]
    assert [row["model"] for row in rows] == ["noisy", "identity"]
    for row in rows:
        assert [row["snr_db"], row["si_sdr_db"]] == pytest.approx(np.mean(expected, 0), abs=1e-9)
    assert rows[0]["rtf"] is None and rows[1]["rtf"] > 0 and rows[1]["pesq_wb"] is None
    with Path("s.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [float(line["snr_db"]) for line in lines] == pytest.approx([e[0] for e in expected] * 2)
    printed = result.stdout.splitlines()
    assert cells(printed[1]) == ["system", "snr_db", "si_sdr_db", "rtf"]
    assert cells(printed[2])[0] == "noisy"
    assert cells(printed[2])[2].startswith(f"{np.mean(expected, 0)[1]:.2f} ±")


def test_tables_for_each_label_of_the_manifest(quieten: Quieten, testset: Path) -> None:
    tables = quieten("evaluate", testset, *QUICK).stdout.split("\n\n")
    assert [cells(table.splitlines()[0])[0] for table in tables[1:]] == ["snr_db", "noise_type"]
    levels = [cells(line)[0] for line in tables[1].splitlines()[1:] if line[0] != " "]
    assert levels == ["0", "5", "10"]
    assert cells(tables[2].splitlines()[1])[:3] == ["hiss", "3", "noisy"]


def test_by_and_where_choose(quieten: Quieten, testset: Path) -> None:
    result = quieten("evaluate", testset, *QUICK, "--by", "snr_db", "--where", "snr_db=5")
    assert result.stdout.startswith("1 items")
    assert result.stdout.count("\n\n") == 1
    assert "±" not in result.stdout.split("\n", 1)[1]  # one item says nothing of its spread


def test_a_command_with_spaces_in_its_names(quieten: Quieten, testset: Path) -> None:
    folder = testset.with_name("my tools")
    folder.mkdir()
    command = f"copy={program(folder, COPY)} {{in}} {{out}}"
    result = quieten("evaluate", testset, "--command", command, *QUICK, "--json", "s.json")
    assert result.exit_code == 0, result.stderr
    noisy, copy = json.loads(Path("s.json").read_text())["rows"]
    assert copy["model"] == "copy"
    assert copy["si_sdr_db"] == pytest.approx(noisy["si_sdr_db"], abs=1e-9)


def test_a_second_run_computes_only_what_is_new(quieten: Quieten, testset: Path) -> None:
    body = "open('calls', 'a').write('x')\n" + COPY
    command = f"copy={program(testset.parent, body)} {{in}} {{out}}"
    out = ("--out", "kept", *QUICK)
    assert quieten("evaluate", testset, "--command", command, *out).exit_code == 0
    first = quieten("evaluate", testset, "--command", command, *out).stdout
    assert Path("calls").read_text() == "xxx"
    more = quieten("evaluate", testset, "--command", command, "--model", "identity", *out).stdout
    assert Path("calls").read_text() == "xxx"
    assert cells(first.splitlines()[3]) == cells(more.splitlines()[4])  # the row of `copy`


def test_the_oracle_and_a_model_file_by_path(quieten: Quieten, testset: Path) -> None:
    model = tiny_model.smoother(testset.parent, name="mine")
    result = quieten(
        "evaluate", testset, "--model", "oracle-mask", "--model", model, *QUICK, "--json", "s.json"
    )
    assert result.exit_code == 0, result.stderr
    noisy, oracle, mine = json.loads(Path("s.json").read_text())["rows"]
    assert oracle["snr_db"] > noisy["snr_db"] + 3
    assert mine["model"] == Path(model).stem


def test_mix_builds_the_test_set_first(quieten: Quieten, speech_like: Callable) -> None:
    rng = np.random.default_rng(1)
    for number in range(2):
        path = Path("speech", f"{number}.wav")
        path.parent.mkdir(exist_ok=True)
        write_audio(path, speech_like(1.0, seed=number)[None], RATE)
    Path("noise").mkdir()
    write_audio("noise/hiss.wav", rng.normal(0, 0.1, (1, RATE)).astype(np.float32), RATE)
    mix = ("--mix", "speech", "noise", "--snr", "0,10", "--snr", "-5", "--seed", "3")
    result = quieten("evaluate", "mixed", *mix, *QUICK)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith("6 items")
    again = quieten("evaluate", "mixed", *mix, *QUICK)
    assert again.stdout == result.stdout  # nothing mixed or measured anew
    assert "another" in quieten("evaluate", "mixed", *mix[:-1], "4", *QUICK).stderr


def test_degrade_writes_pairs_with_a_manifest(quieten: Quieten, speech_like: Callable) -> None:
    Path("speech").mkdir()
    write_audio("speech/a.wav", speech_like(1.0)[None], RATE)
    write_audio("hiss.wav", np.random.default_rng(2).normal(0, 0.1, (1, RATE)), RATE)
    result = quieten(
        "degrade", "speech", "-o", "pairs", "--noise", "hiss.wav", "--snr", "5", "--codec", "mulaw"
    )
    assert (result.exit_code, result.stdout) == (0, "pairs  1 pairs\n")
    with Path("pairs", "manifest.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["snr_db"], row["noise_type"]) == ("5", "hiss")
    assert Path("pairs", "noisy", f"{row['id']}.flac").is_file()


def test_compare_tells_the_difference_and_writes_a_page(quieten: Quieten, testset: Path) -> None:
    for system in ("identity", "oracle-mask"):
        quieten("evaluate", testset, "--model", system, *QUICK, "--out", system)
    result = quieten(
        "compare", "identity", "oracle-mask", "--metric", "snr_db", "--count", "1", "-o", "c.html"
    )
    assert result.exit_code == 0, result.stderr
    line = result.stdout.splitlines()[-1]
    assert line.startswith("snr_db, oracle-mask minus identity: +")
    assert "<html" in Path("c.html").read_text("utf-8")


def test_compare_takes_sound_files(quieten: Quieten, testset: Path) -> None:
    noisy, clean = testset / "noisy" / "000.wav", testset / "clean" / "000.wav"
    result = quieten("compare", noisy, clean, "--clean", clean, "-o", "files.html")
    assert result.exit_code == 0, result.stderr
    assert Path("files.html").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("evaluate", "nowhere"), "nowhere"),
        (("evaluate", "set", "--model", "spech"), "unknown model 'spech'"),
        (("evaluate", "set", "--report", "set/manifest.csv"), "is no report: choose another name"),
        (("evaluate", "set", "--metric", "mos"), "metric 'mos' is unknown"),
        (("evaluate", "set", "--by", "weather"), "--by weather: no such column; there are noise"),
        (("evaluate", "set", "--where", "weather=1"), "weather"),
        (("evaluate", "set", "--command", "sox {in}"), "write NAME='PROGRAM {in} {out}'"),
        (("evaluate", "set", "--command", "x=no-such-program {in} {out}"), "no-such-program"),
        (("evaluate", "set", "--mix", "a", "b"), "noise without a level: add --snr"),
        (("evaluate", "set", "--mix", "a", "b", "--snr", "loud"), "--snr loud: give decibels"),
        (("degrade", "set", "-o", "x", "--snr", "5"), "--snr without noise"),
        (("compare", "set", "set/noisy/000.wav"), "folders and sound files together"),
        (("compare", "set/noisy/000.wav"), "one sound file: name the noisy one"),
        (("compare", "set"), "holds no evaluation"),
        (("compare", "set", "--clean", "x.wav"), "--clean goes with sound files"),
    ],
)
def test_mistakes_end_in_one_line(
    quieten: Quieten, testset: Path, arguments: tuple[str, ...], words: str
) -> None:
    result = quieten(*arguments)
    assert result.exit_code == 1
    assert words in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not Path("evaluations").exists()


def test_a_program_that_fails_is_missing_and_explained(quieten: Quieten, testset: Path) -> None:
    failing = f"{shlex.quote(sys.executable)} -c 'raise SystemExit(3)' {{in}} {{out}}"
    result = quieten("evaluate", testset, "--command", f"broken={failing}", *QUICK)
    assert result.exit_code == 1
    assert "broken: snr_db, si_sdr_db missing on 3 of 3 items: " in result.stderr
    assert cells(result.stdout.splitlines()[3])[:2] == ["broken", "-*"]
