"""pyproject.toml, the installed metadata, the changelog, CI and the demo clip agree."""

import ast
import re
import sys
import tomllib
from importlib.metadata import entry_points, metadata, requires, version
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import soundfile

import quieten

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "quieten"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS = PROJECT["project"]["optional-dependencies"]
BASE = {"numpy", "onnxruntime", "soundfile", "soxr", "pydantic", "typer", "rich"}
OPTIONAL_IN_TRAINING = {"tensorboard"}  # used where it is installed, never required


def requirement_name(requirement: str) -> str:
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert found, requirement
    return found.group().lower()


def names(requirements: list[str]) -> set[str]:
    return {requirement_name(requirement) for requirement in requirements}


def foreign_imports(path: Path) -> set[str]:
    """First parts of a file's imports that are neither ours nor the standard library's."""
    roots = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            roots |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            roots.add(node.module.partition(".")[0])
    return roots - set(sys.stdlib_module_names) - {"quieten"}


def changelog_versions() -> list[str]:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    return re.findall(r"^## \[([^\]]+)\] - \d{4}-\d{2}-\d{2}$", text, flags=re.MULTILINE)


def test_the_version_has_one_source():
    assert re.fullmatch(r"\d+\.\d+\.\d+", quieten.__version__)
    assert version("quieten") == quieten.__version__
    assert "version" in PROJECT["project"]["dynamic"] and "version" not in PROJECT["project"]


def test_the_changelog_describes_this_version():
    assert changelog_versions()[0] == quieten.__version__


def test_the_changelog_goes_from_new_to_old():
    found = [tuple(map(int, number.split("."))) for number in changelog_versions()]
    assert found == sorted(set(found), reverse=True)


def test_the_base_install_is_exactly_these_packages():
    assert names(PROJECT["project"]["dependencies"]) == BASE
    installed = [line for line in requires("quieten") or [] if "extra ==" not in line]
    assert names(installed) == BASE


@pytest.mark.parametrize("extra", ["media", "train", "eval", "pesq", "dev"])
def test_every_extra_reaches_the_installed_metadata(extra):
    assert EXTRAS[extra]
    assert extra in (metadata("quieten").get_all("Provides-Extra") or [])


def test_every_requirement_has_an_upper_bound():
    for requirement in [*PROJECT["project"]["dependencies"], *chain(*EXTRAS.values())]:
        assert "<" in requirement or requirement.startswith("quieten["), requirement


def test_no_module_imports_what_no_requirement_names():
    declared = BASE | names([line for extra in EXTRAS.values() for line in extra])
    for path in PACKAGE.rglob("*.py"):
        extra = foreign_imports(path) - declared - OPTIONAL_IN_TRAINING
        assert not extra, f"{path.name} imports {extra}, which no requirement names"


def test_no_requirement_of_the_base_is_unused():
    used = set().union(*(foreign_imports(path) for path in PACKAGE.rglob("*.py")))
    assert used >= BASE


def test_the_program_is_installed():
    (program,) = entry_points(group="console_scripts", name="quieten")
    assert program.value == "quieten.cli:app"
    assert callable(program.load())


def test_the_licence_is_mit_everywhere():
    assert PROJECT["project"]["license"] == "MIT"
    assert (ROOT / "LICENSE").read_text(encoding="utf-8").startswith("MIT License")


def test_ci_runs_every_python_version_that_we_claim():
    classifiers = PROJECT["project"]["classifiers"]
    claimed = {line.rpartition(" ")[2] for line in classifiers if re.search(r":: 3\.\d+$", line)}
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    matrix = re.search(r"^ +python: \[(.+)\]$", workflow, flags=re.MULTILINE)
    assert matrix
    assert set(re.findall(r'"([\d.]+)"', matrix.group(1))) == claimed
    assert PROJECT["project"]["requires-python"] == f">={min(claimed)}"


def test_the_ci_script_is_the_readme_commands():
    script = ROOT / ".ci" / "run"
    commands = script.read_text(encoding="utf-8").splitlines()
    assert script.stat().st_mode & 0o111
    assert [line for line in commands if line.startswith("make ")] == [
        "make demo",
        "make check",
        "make test",  # last, so that pytest's summary ends the log
    ]


def test_the_demo_clip_is_small_and_in_the_stated_format():
    files = sorted((PACKAGE / "assets").glob("demo_*.flac"))
    assert [path.name for path in files] == ["demo_clean.flac", "demo_noisy.flac"]
    assert sum(path.stat().st_size for path in files) < 400_000
    for path in files:
        info = soundfile.info(path)
        assert (info.samplerate, info.channels, info.subtype) == (16_000, 1, "PCM_16")


def test_the_demo_clip_has_the_snr_its_script_asks_for():
    clean, _ = soundfile.read(PACKAGE / "assets" / "demo_clean.flac")
    noisy, _ = soundfile.read(PACKAGE / "assets" / "demo_noisy.flac")
    assert len(clean) == len(noisy)
    snr_db = 10 * np.log10(np.sum(clean**2) / np.sum((noisy - clean) ** 2))
    script = (ROOT / "benchmarks" / "make_demo_clip.py").read_text(encoding="utf-8")
    asked = re.search(r"^SNR_DB = ([\d.]+)$", script, flags=re.MULTILINE)
    assert asked
    assert snr_db == pytest.approx(float(asked.group(1)), abs=0.01)  # 16-bit rounding
    assert np.max(np.abs(noisy)) < 0.99
