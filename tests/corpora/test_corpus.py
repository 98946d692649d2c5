"""Corpora on disk: files, folders, manifest."""

import csv
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from quieten.audio import probe, read_audio
from quieten.corpora.corpus import Layout, Recording, decode, write_corpus
from quieten.errors import AudioError, ConfigError

RATE = 8000


def wav(waveform: np.ndarray, sample_rate: int = RATE) -> bytes:
    """The bytes of a WAV file of (T,) or (T, C)."""
    file = io.BytesIO()
    soundfile.write(file, waveform, sample_rate, "FLOAT", format="WAV")
    return file.getvalue()


@pytest.fixture
def recordings(rng: np.random.Generator) -> list[Recording]:
    """Twenty noises of 0.1 s, five from each of four speakers."""
    return [
        Recording(f"{number:02d}", wav(rng.normal(0, 0.1, 800)), "abcd"[number % 4], {"mood": "x"})
        for number in range(20)
    ]


def anonymous(recordings: list[Recording]) -> list[Recording]:
    return [Recording(each.name, each.data) for each in recordings]


def files(folder: Path) -> dict[str, bytes]:
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def test_manifest_and_folders_agree(tmp_path: Path, recordings: list[Recording]):
    rows = write_corpus(recordings, tmp_path / "out", Layout(shares={"valid": 0.25}))
    with (tmp_path / "out" / "manifest.csv").open(newline="") as file:
        assert list(csv.DictReader(file)) == rows
    assert set(files(tmp_path / "out")) == {row["path"] for row in rows} | {"manifest.csv"}
    for row in rows:
        info = probe(tmp_path / "out" / row["path"])
        assert (info.sample_rate, info.channels, info.subtype) == (RATE, 1, "PCM_16")
        assert (row["rate"], row["seconds"], row["mood"]) == ("8000", "0.10", "x")
        assert row["path"].startswith(f"{row['split']}/{row['speaker']}_")


def test_samples_are_those_of_the_recording(tmp_path: Path, recordings: list[Recording]):
    rows = write_corpus(recordings, tmp_path / "out", Layout())
    row = next(row for row in rows if row["path"].endswith("a_00.flac"))
    written, _ = read_audio(tmp_path / "out" / row["path"])
    expected, _ = soundfile.read(io.BytesIO(recordings[0].data))
    np.testing.assert_allclose(written[0], expected, atol=0.6 / 32768)  # rounded to 16 bit


def test_a_speaker_is_on_one_side_only(tmp_path: Path, recordings: list[Recording]):
    layout = Layout(shares={"valid": 0.25, "test": 0.25})
    rows = write_corpus(recordings, tmp_path / "out", layout)
    sides = {(row["speaker"], row["split"]) for row in rows}
    assert len(sides) == 4
    assert sorted(split for _, split in sides) == ["test", "train", "train", "valid"]


def test_without_speakers_each_recording_is_dealt_by_itself(
    tmp_path: Path, recordings: list[Recording]
):
    layout = Layout(shares={"valid": 0.1, "test": 0.2})
    splits = [row["split"] for row in write_corpus(anonymous(recordings), tmp_path / "out", layout)]
    assert {name: splits.count(name) for name in splits} == {"train": 14, "valid": 2, "test": 4}


def test_the_seed_decides_and_the_order_does_not(tmp_path: Path, recordings: list[Recording]):
    made = {}
    for name, given, seed in (
        ("one", recordings, 0),
        ("turned", recordings[::-1], 0),
        ("other", recordings, 1),
    ):
        write_corpus(anonymous(given), tmp_path / name, Layout(seed=seed))
        made[name] = files(tmp_path / name)
    assert made["one"] == made["turned"]
    assert set(made["one"]) != set(made["other"])


def test_rates_channels_and_formats(tmp_path: Path, recordings: list[Recording]):
    seconds = np.arange(16_000) / 16_000
    tone = 0.5 * np.sin(2 * np.pi * 440 * seconds)
    stereo = Recording("tone", wav(np.stack([tone, 0 * tone], axis=1), 16_000))
    layout = Layout(suffix=".wav", shares={})
    (row,) = write_corpus([stereo], tmp_path / "out", layout)
    written, rate = read_audio(tmp_path / "out" / "train" / "tone.wav")
    assert (rate, written.shape) == (RATE, (1, RATE))
    np.testing.assert_allclose(written[0, 1000:-1000], 0.5 * tone[::2][1000:-1000], atol=2e-3)
    assert row["seconds"] == "1.00"


def test_names_become_safe_ones(tmp_path: Path, recordings: list[Recording]):
    odd = Recording("../../x y_1", recordings[0].data, "Dr. A-B")
    (row,) = write_corpus([odd], tmp_path / "out", Layout(shares={}))
    assert row["path"] == "train/DrAB_xy1.flac"  # training takes what stands before _ for a group


def test_a_recording_that_comes_twice_is_written_once(tmp_path: Path, recordings: list[Recording]):
    twice = [*recordings, recordings[3]]
    assert len(write_corpus(twice, tmp_path / "out", Layout())) == 20
    other = Recording(recordings[3].name, recordings[4].data, recordings[3].speaker)
    with pytest.raises(ConfigError, match="03: two recordings have this name"):
        write_corpus([*recordings, other], tmp_path / "again", Layout())
    assert not (tmp_path / "again").exists()


def test_an_empty_folder_is_used_and_a_full_one_is_not(tmp_path: Path, recordings: list[Recording]):
    out = tmp_path / "out"
    out.mkdir()
    write_corpus(recordings, out, Layout())
    before = files(out)
    with pytest.raises(ConfigError, match="is there already: name a new folder"):
        write_corpus(recordings, out, Layout())
    assert files(out) == before


@pytest.mark.parametrize("ending", [KeyboardInterrupt, ConfigError])
def test_an_interrupted_run_leaves_nothing(
    tmp_path: Path, recordings: list[Recording], ending: type[BaseException]
):
    def stops_half_way():
        yield from recordings[:10]
        raise ending

    with pytest.raises(ending):
        write_corpus(stops_half_way(), tmp_path / "out", Layout())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("data", [b"", b"no sound", wav(np.zeros(0))])
def test_a_recording_that_cannot_be_read_is_named(data: bytes):
    with pytest.raises(AudioError, match=r"broken: .*: get the corpus again"):
        decode(Recording("broken", data), RATE)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"sample_rate": 100}, "use 2000 to 192000"),
        ({"shares": {"valid": 0.5, "test": 0.5}}, "leave some recordings to train with"),
        ({"shares": {"valid": -0.1}}, "shares must be between 0 and 1"),
        ({"shares": {"valid": 0.9}}, "4 speakers are too few to split"),
        ({"seed": -1}, "must not be negative"),
    ],
)
def test_layouts_that_make_no_sense(
    tmp_path: Path, recordings: list[Recording], settings: dict, words: str
):
    with pytest.raises(ConfigError, match=words):
        write_corpus(recordings, tmp_path / "out", Layout(**settings))
    assert not (tmp_path / "out").exists()


def test_progress_names_each_recording(tmp_path: Path, recordings: list[Recording]):
    seen: list[tuple] = []
    write_corpus(recordings, tmp_path / "out", Layout(), lambda *step: seen.append(step))
    assert seen == [(number + 1, None, f"{number:02d}") for number in range(20)]


def test_training_finds_the_groups_again(
    tmp_path: Path, recordings: list[Recording], speech_like: Callable
):
    """The pattern of `data.group_pattern` at the start of a file's name is the speaker."""
    import re

    pattern = r"[^_-]+(?:[_-](?:\d+|[a-z]{2})(?=[_-]))?"  # the default in quieten.training.config
    rows = write_corpus(recordings, tmp_path / "out", Layout())
    for row in rows:
        match = re.match(pattern, Path(row["path"]).name)
        assert match is not None and match[0] == row["speaker"]
