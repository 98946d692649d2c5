"""The health check: what it reports, and that it notices what is broken."""

import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import tiny_model
from quieten import __version__, cli, doctor, runtime
from quieten.audio import readable_formats


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands for the weights of the package, with one model."""
    monkeypatch.setattr(runtime, "WEIGHTS", tmp_path)
    tiny_model.smoother(tmp_path, name="speech")
    return tmp_path


def test_healthy_installation(weights: Path) -> None:
    report = doctor.examine()
    assert report.healthy
    assert report.problem == ""
    assert list(report.real_time_factors) == ["speech"]
    assert report.real_time_factors["speech"] > 0


def test_versions_are_those_installed(weights: Path) -> None:
    versions = doctor.examine().versions
    assert versions["quieten"] == __version__
    assert versions["numpy"] == np.__version__
    assert versions["onnxruntime"] == version("onnxruntime")


def test_missing_packages_are_no_error(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "PACKAGES", ("numpy", "no-such-package-at-all"))
    assert doctor.examine().versions["no-such-package-at-all"] == "not installed"


def test_every_suffix_is_listed_once(weights: Path) -> None:
    formats = doctor.examine().formats
    listed = [suffix for suffixes in formats.values() for suffix in suffixes]
    assert sorted(listed) == sorted(readable_formats())
    assert ".wav" in formats["soundfile"]


def test_no_models(weights: Path) -> None:
    (weights / "speech.onnx").unlink()
    report = doctor.examine()
    assert not report.healthy
    assert "no models are installed" in report.problem
    assert report.real_time_factors == {}


def test_a_model_that_does_nothing_is_noticed(weights: Path) -> None:
    tiny_model.constant(weights, 1.0, name="speech")
    assert "nothing sensible" in doctor.examine().problem


def test_a_broken_model_is_noticed(weights: Path) -> None:
    (weights / "speech.onnx").write_bytes(b"no model")
    report = doctor.examine()
    assert not report.healthy
    assert "speech.onnx" in report.problem


def test_one_broken_model_beside_a_good_one(weights: Path) -> None:
    (weights / "other.onnx").write_bytes(b"no model")
    assert "other.onnx" in doctor.examine().problem


def test_verb(weights: Path) -> None:
    result = CliRunner().invoke(cli.app, ["doctor"])
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["quieten", __version__]
    assert lines[-1] == "self-test: passed"
    assert any(line.startswith("model speech: real-time factor") for line in lines)
    assert any(line.startswith("soundfile:") and ".flac" in line for line in lines)


def test_verb_fails_with_the_self_test(weights: Path) -> None:
    (weights / "speech.onnx").write_bytes(b"no model")
    result = CliRunner().invoke(cli.app, ["doctor"])
    assert result.exit_code == 1
    assert result.stdout.splitlines()[-1].startswith("self-test: ")


def test_json(weights: Path) -> None:
    result = CliRunner().invoke(cli.app, ["doctor", "--json"])
    report = json.loads(result.stdout)
    assert report["healthy"] is True
    assert sorted(report) == ["formats", "healthy", "problem", "real_time_factors", "versions"]
