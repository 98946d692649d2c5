"""The import graph keeps its direction, and torch stays behind the wall of quieten.training."""

import ast
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "quieten"
TRAINING = PACKAGE / "training"
TORCH_ONLY = {"torch", "safetensors", "tensorboard", "onnx"}
SOURCES = sorted(PACKAGE.rglob("*.py"))
BASE = [path for path in SOURCES if TRAINING not in path.parents]
CODE = [*SOURCES, *sorted((ROOT / "tests").rglob("*.py")), *(ROOT / "benchmarks").glob("*.py")]
MAX_LINES = 400


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imported_roots(path: Path) -> set[str]:
    """First parts of all absolute imports in a file, lazy ones too."""
    roots = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            roots |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            roots.add(node.module.partition(".")[0])
    return roots


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


@pytest.mark.skipif(find_spec("importlinter") is None, reason="needs import-linter (dev extra)")
def test_import_contracts_are_kept():
    """In a process of its own: import-linter sets up logging anew and mutes the other loggers."""
    config = str(ROOT / "pyproject.toml")
    call = f"lint_imports(config_filename={config!r}, no_cache=True)"
    done = python(f"import sys; from importlinter.cli import lint_imports; sys.exit({call})")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", BASE, ids=name_of)
def test_base_modules_never_name_torch(path):
    assert imported_roots(path) & TORCH_ONLY == set()


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_no_star_and_no_relative_imports(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.names[0].name != "*", ast.unparse(node)


def test_all_base_modules_load_without_torch_and_scipy():
    """With torch, scipy and the extras blocked, as after a plain `pip install quieten`."""
    names = [".".join(path.relative_to(ROOT / "src").with_suffix("").parts) for path in BASE]
    names = [name for name in names if not name.endswith(("__init__", "__main__"))]
    code = (
        "import sys\n"
        "for blocked in ('torch', 'scipy', 'av', 'onnx', 'safetensors', 'pystoi', 'pesq'):\n"
        "    sys.modules[blocked] = None\n"
        f"for name in {names!r}:\n"
        "    __import__(name)\n"
    )
    done = python(code)
    assert done.returncode == 0, done.stderr


def test_training_without_torch_names_the_extra():
    code = (
        "import sys\n"
        "sys.modules['torch'] = None\n"
        "from quieten.errors import MissingExtra\n"
        "try:\n"
        "    import quieten.training.train\n"
        "except MissingExtra as error:\n"
        "    print(error)\n"
    )
    done = python(code)
    assert done.returncode == 0, done.stderr
    assert 'pip install "quieten[train]"' in done.stdout


def test_importing_the_base_changes_nothing_around_it():
    """No side effects of the library: warnings filters, working directory, thread settings."""
    code = (
        "import os, warnings\n"
        "before = (list(warnings.filters), os.getcwd(), dict(os.environ))\n"
        "import quieten.denoise, quieten.batch\n"
        "after = (list(warnings.filters), os.getcwd(), dict(os.environ))\n"
        "ours = [f for f in after[0] if f not in before[0] and 'quieten' in str(f)]\n"
        "assert before[1:] == after[1:] and not ours, ours\n"
    )
    done = python(code)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", CODE, ids=name_of)
def test_no_file_is_too_long_to_read(path):
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= MAX_LINES


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_every_module_says_what_it_is(path):
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


def test_no_machine_paths_in_the_repository():
    home = os.path.expanduser("~").rstrip("/")  # noqa: PTH111 (the string is what counts)
    needles = [str(ROOT)] + ([home + "/"] if len(home) > 1 else [])
    for path in [*CODE, *ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), ROOT / "pyproject.toml"]:
        text = path.read_text(encoding="utf-8")
        assert not [needle for needle in needles if needle in text], path
