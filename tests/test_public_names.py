"""The public names are frozen, typed for checkers, and cost nothing until they are used."""

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import quieten

PUBLIC = ["Denoiser", "Restorer", "Stream", "__version__", "read_audio", "write_audio"]
SOURCE = Path(quieten.__file__)


def modules_after(statement: str) -> set[str]:
    """Names of the modules that a fresh interpreter has loaded after a statement."""
    code = f"import sys\n{statement}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_the_public_names_are_exactly_these():
    assert sorted(quieten.__all__) == PUBLIC
    assert set(PUBLIC) <= set(dir(quieten))


@pytest.mark.parametrize("name", sorted(set(PUBLIC) - {"__version__"}))
def test_a_public_name_is_the_object_at_its_home(name):
    home = import_module(quieten._HOMES[name])
    assert getattr(quieten, name) is getattr(home, name)
    assert vars(quieten)[name] is getattr(home, name)  # kept: looked up once only


def test_every_public_name_has_a_docstring():
    for name in set(PUBLIC) - {"__version__"}:
        assert getattr(quieten, name).__doc__, name


def test_type_checkers_see_the_same_names_as_the_lazy_table():
    tree = ast.parse(SOURCE.read_text(encoding="utf-8"))
    guarded = next(node for node in tree.body if isinstance(node, ast.If))
    imports = [node for node in guarded.body if isinstance(node, ast.ImportFrom)]
    seen = {alias.asname: node.module for node in imports for alias in node.names}
    assert seen == quieten._HOMES


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Denoizer'"):
        _ = quieten.Denoizer
    assert not hasattr(quieten, "numpy")


def test_importing_the_package_loads_nothing_heavy():
    heavy = {"numpy", "onnxruntime", "soundfile", "soxr", "typer", "rich", "pydantic", "torch"}
    assert modules_after("import quieten") & heavy == set()


def test_importing_the_command_line_loads_no_engine():
    heavy = {"onnxruntime", "av", "torch", "scipy"}
    assert modules_after("import quieten.cli") & heavy == set()


def test_reading_audio_needs_no_model_engine():
    assert "onnxruntime" not in modules_after("from quieten import read_audio")


def test_the_package_is_typed():
    assert SOURCE.with_name("py.typed").is_file()
