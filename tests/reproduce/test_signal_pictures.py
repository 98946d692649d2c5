"""Pictures of signals and of training runs."""

import sys
from pathlib import Path

import numpy as np
import pytest

from quieten.errors import ConfigError, MissingExtra
from quieten.reproduce.signal_pictures import draw_curves, draw_signals, new_figure, read_curves

pytest.importorskip("matplotlib")

LOG = """step,l1,adversarial,discriminator,discriminator_accuracy
0,0.30,,,
1,0.20,0.7,1.4,0.5
2,0.10,0.6,1.3,0.6
"""


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The folder of a run with a log."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "log.csv").write_text(LOG)
    return tmp_path / "run"


def size_of(path: Path) -> tuple[int, int]:
    """Width and height of a PNG in pixels."""
    head = path.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    return int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")


def test_signals_become_a_picture(tmp_path: Path, rng: np.random.Generator):
    """One line of one kind; more of either make it taller or wider."""
    signals = rng.standard_normal((3, 64)).astype(np.float32)
    sizes = []
    for rows, columns in ((1, 1), (2, 1), (1, 2)):
        path = tmp_path / "new" / f"{rows}{columns}.png"
        draw_signals({str(column): signals[:rows] for column in range(columns)}, 64, path)
        sizes.append(size_of(path))
    (width, height), (_, taller), (wider, _) = sizes
    assert taller > height and wider > width
    assert len(list((tmp_path / "new").iterdir())) == 3  # nothing unfinished


def test_curves_are_read_without_empty_cells(run: Path):
    curves = read_curves(run / "log.csv")
    assert curves["l1"] == ([0, 1, 2], [0.3, 0.2, 0.1])
    assert curves["discriminator_accuracy"] == ([1, 2], [0.5, 0.6])


def test_numbers_that_are_none_are_left_out(run: Path):
    (run / "log.csv").write_text("step,l1\n0,nan\n1,0.5\n2,inf\n")
    assert read_curves(run / "log.csv") == {"l1": ([1], [0.5])}


def test_a_run_becomes_a_picture_with_and_without_a_discriminator(run: Path, tmp_path: Path):
    (run / "validation.csv").write_text("step,l1\n2,0.15\n")
    draw_curves(run, tmp_path / "curves.png")
    assert size_of(tmp_path / "curves.png") == (800, 800)
    (run / "log.csv").write_text("step,l1\n0,0.5\n")
    draw_curves(run, tmp_path / "alone.png")
    assert size_of(tmp_path / "alone.png") == (800, 800)


def test_long_runs_are_drawn_as_means(run: Path, tmp_path: Path):
    lines = [f"{step},{step % 2}" for step in range(10_000)]
    (run / "log.csv").write_text("\n".join(["step,l1", *lines]) + "\n")
    draw_curves(run, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size < 200_000


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "no such file: name the folder of a run"),
        ("", "has none of l1, adversarial"),
        ("step,loss\n1,2\n", "has none of l1, adversarial"),
        ("a,b\n1,2\n", "is no log of a training run"),
        ("step,l1\n1,many\n", "is no log of a training run"),
        ("step,l1\n1,2,3\n", "is no log of a training run"),
    ],
)
def test_folders_that_are_no_run(run: Path, tmp_path: Path, text: str | None, words: str):
    if text is None:
        (run / "log.csv").unlink()
    else:
        (run / "log.csv").write_text(text)
    with pytest.raises(ConfigError, match=words):
        draw_curves(run, tmp_path / "curves.png")
    assert not (tmp_path / "curves.png").exists()


def test_without_matplotlib_the_extra_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtra, match=r'drawing a picture needs: pip install "quieten\[eval'):
        new_figure(1, 1)
