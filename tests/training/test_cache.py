"""Recordings are decoded once; changed files are noticed; broken ones are left out, aloud."""

import logging
import os

import numpy as np
import pytest
import soundfile

from quieten.errors import ConfigError
from quieten.training import cache as cache_module
from quieten.training.cache import group_name, load_recordings
from quieten.training.config import DataConfig

RATE = 16_000


@pytest.fixture
def tones(tmp_path, write_sounds):
    """Two files of known samples, exact in 16 bits."""
    ramp = np.arange(-400, 400, dtype=np.float32) / 32768
    return write_sounds(tmp_path / "tones", {"a_1.wav": ramp, "b_1.wav": ramp[::-1][:500]})


@pytest.fixture
def decoded(monkeypatch):
    """Counts the files that are decoded."""
    names = []
    original = cache_module.decode_blocks

    def counting(file, sample_rate):
        names.append(file.name)
        return original(file, sample_rate)

    monkeypatch.setattr(cache_module, "decode_blocks", counting)
    return names


def test_samples_come_back_exactly(tones, tmp_path):
    recordings = load_recordings([tones], tmp_path / "cache", RATE, ".*")
    assert recordings.names == ("a_1.wav", "b_1.wav") and len(recordings) == 2
    for i, name in enumerate(recordings.names):
        expected, _ = soundfile.read(tones / name, dtype="float32")
        np.testing.assert_array_equal(recordings.read(i), expected)
        assert recordings.length(i) == expected.size


def test_pieces_end_where_the_recording_ends(tones, tmp_path):
    recordings = load_recordings([tones], tmp_path / "cache", RATE, ".*")
    whole = recordings.read(0)
    np.testing.assert_array_equal(recordings.read(0, 100, 50), whole[100:150])
    np.testing.assert_array_equal(recordings.read(0, 790, 50), whole[790:])
    assert recordings.read(0, 900, 50).size == 0


def test_each_file_is_decoded_once(tones, tmp_path, decoded):
    first = load_recordings([tones], tmp_path / "cache", RATE, ".*")
    second = load_recordings([tones], tmp_path / "cache", RATE, ".*")
    assert decoded == ["a_1.wav", "b_1.wav"]
    np.testing.assert_array_equal(first.samples, second.samples)


def test_a_changed_file_is_noticed(tones, tmp_path, decoded):
    load_recordings([tones], tmp_path / "cache", RATE, ".*")
    soundfile.write(tones / "b_1.wav", np.full(500, 0.25, np.float32), RATE, subtype="PCM_16")
    os.utime(tones / "b_1.wav", ns=(1, 1))
    recordings = load_recordings([tones], tmp_path / "cache", RATE, ".*")
    assert len(decoded) == 4
    np.testing.assert_array_equal(recordings.read(1), np.float32(0.25))


def test_another_rate_is_another_cache(tones, tmp_path):
    recordings = load_recordings([tones], tmp_path / "cache", 8000, ".*")
    assert recordings.length(0) == 400
    assert load_recordings([tones], tmp_path / "cache", RATE, ".*").length(0) == 800


def test_channels_become_one(tmp_path):
    (tmp_path / "in").mkdir()
    stereo = np.stack([np.full(400, 0.5), np.full(400, -0.25)], axis=1)
    soundfile.write(tmp_path / "in" / "s.wav", stereo, RATE, subtype="PCM_16")
    recordings = load_recordings([tmp_path / "in"], tmp_path / "cache", RATE, ".*")
    np.testing.assert_array_equal(recordings.read(0), np.float32(0.125))


def test_unreadable_files_are_left_out_with_a_warning(tones, tmp_path, caplog):
    (tones / "broken.wav").write_text("this is no sound")
    with caplog.at_level(logging.WARNING):
        recordings = load_recordings([tones], tmp_path / "cache", RATE, ".*")
    assert recordings.names == ("a_1.wav", "b_1.wav")
    assert "left out" in caplog.text and "broken.wav" in caplog.text


def test_files_below_and_beside_other_files_are_found(tones, tmp_path):
    (tones / "deep").mkdir()
    (tones / "a_1.wav").rename(tones / "deep" / "a_1.WAV")
    (tones / "notes.txt").write_text("no audio")
    assert set(load_recordings([tones], tmp_path / "c", RATE, ".*").names) == {"a_1.WAV", "b_1.wav"}
    assert load_recordings([tones / "b_1.wav"], tmp_path / "c", RATE, ".*").names == ("b_1.wav",)


@pytest.mark.parametrize("content", [None, {}, {"only.wav": "broken"}])
def test_folders_without_audio_are_an_error_every_time(tmp_path, content):
    folder = tmp_path / "in"
    if content is not None:
        folder.mkdir()
        for name, text in content.items():
            (folder / name).write_text(text)
    for _ in range(2):  # a cache of nothing is no audio either
        with pytest.raises(ConfigError, match=str(folder)):
            load_recordings([folder], tmp_path / "cache", RATE, ".*")


def test_no_folder_at_all_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match="empty list"):
        load_recordings([], tmp_path, RATE, ".*")


def test_nothing_half_written_stays(tones, tmp_path):
    load_recordings([tones], tmp_path / "cache", RATE, ".*")
    assert sorted(f.suffix for f in (tmp_path / "cache").iterdir()) == [".i16", ".json"]


def test_an_interrupted_decoding_is_done_again(tones, tmp_path, monkeypatch):
    def interrupt(file, sample_rate):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(cache_module, "decode_blocks", interrupt)
        load_recordings([tones], tmp_path / "cache", RATE, ".*")
    assert len(load_recordings([tones], tmp_path / "cache", RATE, ".*")) == 2


@pytest.mark.parametrize(
    ("name", "speaker"),
    [
        ("p225_001.wav", "p225"),
        ("84-121123-0000.flac", "84-121123"),
        ("kathleen_arctic_b0465.opus", "kathleen"),
        ("kerstin_de_rhasspy-0104.opus", "kerstin_de"),
        ("libri_19-198-0000.opus", "libri_19"),
        ("001.wav", "001.wav"),
    ],
)
def test_speakers_by_the_default_pattern(name, speaker):
    assert group_name(name, DataConfig().group_pattern) == speaker


@pytest.mark.parametrize(
    ("name", "kind"),
    [("es_baby_cry_151080.opus", "es_baby_cry"), ("fan-3.wav", "fan"), ("rain.wav", "rain.wav")],
)
def test_noise_types_by_the_default_pattern(name, kind):
    assert group_name(name, DataConfig().noise_group_pattern) == kind


def test_groups_hold_every_file_once(folders):
    config = DataConfig()
    recordings = load_recordings([folders["clean"]], folders["cache"], RATE, config.group_pattern)
    assert [len(group) for group in recordings.groups] == [2, 2, 2]
    assert sorted(np.concatenate(recordings.groups)) == list(range(6))


def test_blocks_are_as_the_whole_file(tmp_path, write_sounds, monkeypatch, rng):
    """Also where the rate changes: the resampler goes on from block to block."""
    sound = rng.uniform(-0.5, 0.5, 48_000).astype(np.float32)
    (file,) = write_sounds(tmp_path / "long", {"a.wav": sound}).iterdir()
    whole = np.concatenate(list(cache_module.decode_blocks(file, 11_025)))
    monkeypatch.setattr(cache_module, "BLOCK_S", 1)
    pieces = list(cache_module.decode_blocks(file, 11_025))
    assert len(pieces) > 3 and whole.size == round(sound.size * 11_025 / RATE)
    np.testing.assert_array_equal(np.concatenate(pieces), whole)
