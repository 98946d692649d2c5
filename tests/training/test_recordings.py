"""Recordings of any signal become channels; what does not fit is explained."""

import logging
from pathlib import Path

import numpy as np
import pytest
import soundfile

from quieten.errors import ConfigError
from quieten.training.recordings import read_signal, read_signals, signal_files

RATE = 200
WAVE = np.sin(np.arange(400) / 7)


def write_csv(path: Path, rate: float = RATE, broken: str = "") -> Path:
    rows = [f"{i / rate:.6f},{value:.5f},{2 * value:.5f}" for i, value in enumerate(WAVE)]
    if broken:
        rows[7] = f"{7 / rate:.6f},{broken},0"
    path.write_text("\n".join(["time,x,y", *rows]) + "\n")
    return path


def test_csv_npy_and_wav_are_found_and_read_alike(tmp_path):
    write_csv(tmp_path / "a.csv")
    np.save(tmp_path / "b.npy", WAVE)
    (tmp_path / "deep").mkdir()
    soundfile.write(tmp_path / "deep" / "c.wav", 0.5 * WAVE, RATE, subtype="FLOAT")
    (tmp_path / "notes.md").write_text("no recording")
    channels = read_signals([tmp_path], RATE)
    assert [channel.shape for channel in channels] == [(400,)] * 4
    for channel, gain in zip(channels, (1, 2, 1, 0.5), strict=True):
        np.testing.assert_allclose(channel, gain * WAVE, atol=1e-4)  # as many decimals as written
        assert channel.dtype == np.float32


def test_a_single_file_stands_for_a_folder(tmp_path):
    file = write_csv(tmp_path / "a.csv")
    assert signal_files(file) == [file]


def test_another_rate_is_explained(tmp_path):
    file = write_csv(tmp_path / "a.csv", rate=250)
    with pytest.raises(ConfigError, match=r"250 samples a second: set data\.sample_rate=250"):
        read_signal(file, RATE)


@pytest.mark.parametrize("broken", ["", "nan", "many"])
def test_what_cannot_be_read_names_the_file(tmp_path, broken):
    file = write_csv(tmp_path / "a.csv", broken=broken or " ")
    with pytest.raises(ConfigError, match=r"a\.csv.*take it out of the folder") as error:
        read_signals([tmp_path], RATE)
    assert "\n" not in str(error.value) and str(file) in str(error.value)


def test_an_npy_file_of_objects_is_never_loaded(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{"x": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ConfigError, match=r"a\.npy"):
        read_signals([tmp_path], RATE)


@pytest.mark.parametrize(("name", "words"), [("none", "no folder"), ("", "no recordings in")])
def test_nothing_to_read_is_explained(tmp_path, name, words):
    with pytest.raises(ConfigError, match=words):
        read_signals([tmp_path / name], RATE)


def test_what_a_table_leaves_out_is_logged(tmp_path, caplog):
    rows = [f"{i / RATE},{value},ok" for i, value in enumerate(WAVE)]
    (tmp_path / "a.csv").write_text("\n".join(["time,x,state", *rows]) + "\n")
    with caplog.at_level(logging.WARNING):
        assert len(read_signals([tmp_path], RATE)) == 1
