"""The demonstration: which files it leaves, and that its numbers are about them."""

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import tiny_model
from quieten import cli, demo, runtime
from quieten.audio import probe, read_audio
from quieten.errors import AudioError, ModelError
from quieten.metrics import snr_db


@pytest.fixture
def model(tmp_path: Path) -> str:
    return str(tiny_model.smoother(tmp_path, name="speech"))


def test_files_and_numbers(tmp_path: Path, model: str) -> None:
    report = demo.run(tmp_path / "out", model)
    assert sorted(report.files) == ["clean", "denoised", "noisy", "removed"]
    noisy, denoised, removed, clean = (
        read_audio(report.files[role])[0] for role in ("noisy", "denoised", "removed", "clean")
    )
    np.testing.assert_array_equal(denoised + removed, noisy)
    rate = probe(report.files["noisy"]).sample_rate
    assert report.snr_before_db == pytest.approx(snr_db(noisy[0], clean[0], rate))
    assert report.snr_after_db == pytest.approx(snr_db(denoised[0], clean[0], rate))
    assert report.result.frames == noisy.shape[1] == clean.shape[1]


def test_a_model_that_does_nothing_changes_no_number(tmp_path: Path) -> None:
    report = demo.run(tmp_path / "out", str(tiny_model.constant(tmp_path, 1.0)))
    assert report.snr_after_db == pytest.approx(report.snr_before_db, abs=0.01)
    level = report.result.level_before_dbfs
    assert report.result.level_after_dbfs == pytest.approx(level, abs=0.01)


def test_runs_again_over_its_own_files(tmp_path: Path, model: str) -> None:
    first, second = demo.run(tmp_path / "out", model), demo.run(tmp_path / "out", model)
    assert first.snr_after_db == second.snr_after_db
    assert len(list((tmp_path / "out").iterdir())) == 4


def test_unwritable_folder(tmp_path: Path, model: str) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(AudioError, match="choose another --out"):
        demo.run(tmp_path / "file" / "out", model)


def test_unknown_model_leaves_no_files(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no-such-model"):
        demo.run(tmp_path / "out", "no-such-model")
    assert not (tmp_path / "out").exists()


def test_verb_prints_what_changed(
    tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "WEIGHTS", tmp_path)
    result = CliRunner().invoke(cli.app, ["demo", "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.stderr
    level, snr, factor, *files = result.stdout.splitlines()
    assert level.startswith("level  ") and level.endswith(" dBFS")
    assert snr.startswith("SNR  ") and " -> " in snr
    assert "of sound" in factor
    assert all(Path(line.split(maxsplit=1)[1]).is_file() for line in files)
    assert len(files) == 4
