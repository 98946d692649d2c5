"""Pictures of a run: they are there, they show what they should, they need matplotlib."""

import sys

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="needs matplotlib (extra eval)")

from PIL import Image

from quieten.errors import MissingExtra
from quieten.training import pictures, train


@pytest.fixture
def run_dir(tmp_path):
    (tmp_path / "log.csv").write_text("step,magnitude,perplexity\n0,3.5,10\n20,2.5,12\n")
    (tmp_path / "validation.csv").write_text("step,stoi\n20,0.7\n")
    return tmp_path


def test_every_column_of_both_logs_is_a_curve(run_dir):
    curves = pictures.read_curves(run_dir / "log.csv")
    assert curves == {"magnitude": ([0, 20], [3.5, 2.5]), "perplexity": ([0, 20], [10, 12])}
    path = pictures.draw_curves(run_dir)
    with Image.open(path) as image:
        assert path.name == "curves.png" and image.size[0] == 1200
    assert not list(run_dir.glob("*.part"))


def test_spectrograms_are_on_one_scale(tmp_path):
    """A loud tone and the same 60 dB lower: the second picture is darker."""
    tone = np.sin(2 * np.pi * 1000 * np.arange(8000) / 8000).astype(np.float32)
    sounds = {"loud": tone, "quiet": 1e-3 * tone}
    path = pictures.draw_spectrograms(sounds, 8000, tmp_path / "x.png")
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"), dtype=float)
    drawn = np.ptp(pixels, axis=2) > 10  # the frame around the pictures is grey
    halves = np.split(np.arange(pixels.shape[0] // 2 * 2), 2)
    brightest = [pixels[rows][drawn[rows]].mean(axis=1).max() for rows in halves]
    assert brightest[0] > brightest[1] + 30


def test_a_run_draws_where_it_is_told_to(overrides, tmp_path):
    train.main("realtime", None, [*overrides, "pictures=true"], tmp_path / "run", False)
    drawn = sorted(path.name for path in (tmp_path / "run").glob("*.png"))
    assert drawn == ["curves.png", "spectrograms.png"]


def test_without_matplotlib_the_run_does_not_start(overrides, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtra, match=r"quieten\[eval\]"):
        train.main("realtime", None, [*overrides, "pictures=true"], tmp_path / "run", False)
    assert not (tmp_path / "run").exists()
