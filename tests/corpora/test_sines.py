"""The folders of signals that the lightweight GAN denoiser trains from."""

import csv
from pathlib import Path

import numpy as np
import pytest

from quieten.audio import probe, read_audio
from quieten.corpora.sines import (
    KINDS,
    SinesLayout,
    draw_sets,
    kinds_of,
    pick_examples,
    write_sines,
)
from quieten.errors import ConfigError

SMALL = SinesLayout(train=5, validation=2)


def files(folder: Path) -> dict[str, bytes]:
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def test_the_layout_is_that_of_the_original(tmp_path: Path):
    assert write_sines(tmp_path / "out", SMALL) == 21
    expected = {
        f"{folder}/{kind}/{number:04d}.wav"
        for folder, count in (("train", 5), ("validation", 2))
        for kind in ("clean", "noise", "mixed")
        for number in range(count)
    }
    assert set(files(tmp_path / "out")) == expected | {"manifest.csv"}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]  # nothing unfinished


@pytest.mark.parametrize("suffix", [".wav", ".npy"])
def test_files_hold_exactly_what_was_drawn(tmp_path: Path, suffix: str):
    layout = SinesLayout(5, 2, suffix=suffix)
    write_sines(tmp_path / "out", layout)
    for folder, mixtures in draw_sets(layout).items():
        for kind, signals in zip(KINDS, kinds_of(mixtures), strict=True):
            for number, signal in enumerate(signals):
                path = tmp_path / "out" / folder / kind / f"{number:04d}{suffix}"
                if suffix == ".npy":
                    written = np.load(path, allow_pickle=False)
                    assert written.dtype == np.float32
                else:
                    info = probe(path)
                    assert (info.sample_rate, info.subtype) == (256, "FLOAT")
                    written = read_audio(path)[0][0]
                assert np.array_equal(written, signal)


def test_mixed_files_are_made_of_the_clean_and_noise_beside_them(tmp_path: Path):
    write_sines(tmp_path / "out", SinesLayout(5, 2, suffix=".npy"))
    with (tmp_path / "out" / "manifest.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 7
    for row in rows:
        clean, noise, mixed = (
            np.load(tmp_path / "out" / row["split"] / kind / row["file"]) for kind in KINDS
        )
        gain = float(row["gain"])
        np.testing.assert_allclose(mixed, gain * clean + np.sqrt(1 - gain**2) * noise, atol=1e-4)
        time_s = np.arange(256) / 256
        frequency_hz = np.array([float(text) for text in row["frequencies_hz"].split()])
        expected = np.sin(2 * np.pi * frequency_hz[:, None] * time_s).mean(0)
        np.testing.assert_allclose(clean, expected, atol=1e-3)  # the manifest has 4 decimals


def test_one_seed_gives_the_same_files_and_another_others(tmp_path: Path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        write_sines(tmp_path / name, SinesLayout(5, 2, seed))
    first, again, other = (files(tmp_path / name) for name in "abc")
    assert first == again
    assert all(first[name] != other[name] for name in first)


def test_no_signal_of_training_comes_back_in_validation():
    train, validation = draw_sets(SinesLayout(50, 50)).values()
    assert not np.intersect1d(train.frequency_hz, validation.frequency_hz).size


def test_examples_are_one_of_each_folder_and_belong_together():
    examples = pick_examples(SMALL)
    assert list(examples) == list(KINDS)
    sets = draw_sets(SMALL)
    for row, mixtures in enumerate(sets.values()):
        (number,) = np.flatnonzero((mixtures.clean == examples["clean"][row]).all(1))
        assert np.array_equal(examples["mixed"][row], mixtures.noisy[number])
    assert len(pick_examples(SinesLayout(3, 0))["noise"]) == 1


def test_progress_counts_files(tmp_path: Path):
    seen: list[tuple[int, int]] = []
    write_sines(tmp_path / "out", SMALL, lambda done, total, name: seen.append((done, total)))
    assert seen == [(number, 21) for number in range(1, 22)]


@pytest.mark.parametrize(
    ("layout", "words"),
    [
        (SinesLayout(0, 0), "no signals: ask for 1 or more"),
        (SinesLayout(-1, 5), "no signals"),
        (SinesLayout(1, 1, seed=-1), "must not be negative"),
        (SinesLayout(1, 1, suffix=".flac"), "signals as .flac: choose wav or npy"),
    ],
)
def test_layouts_that_make_no_sense(tmp_path: Path, layout: SinesLayout, words: str):
    with pytest.raises(ConfigError, match=words):
        write_sines(tmp_path / "out", layout)
    assert not list(tmp_path.iterdir())


def test_what_is_there_is_left_alone(tmp_path: Path):
    (tmp_path / "out").mkdir()
    write_sines(tmp_path / "out", SMALL)  # an empty folder may be there
    before = files(tmp_path / "out")
    with pytest.raises(ConfigError, match="is there already: name a new folder"):
        write_sines(tmp_path / "out", SinesLayout(1, 1))
    assert files(tmp_path / "out") == before


def test_an_interrupted_run_leaves_nothing(tmp_path: Path):
    def stop(done: int, total: int, name: str) -> None:
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_sines(tmp_path / "out", SMALL, stop)
    assert not list(tmp_path.iterdir())
