"""The wheel holds what a user needs and nothing else, and works from an empty folder, offline."""

import subprocess
import sys
import zipfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

import quieten

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "quieten"
MAX_MEGABYTES = 50

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("hatchling") is None, reason="needs hatchling (dev extra)"),
]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    """The wheel, built from this checkout without the network."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (path,) = folder.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        yield archive


@pytest.fixture(scope="module")
def unpacked(wheel: zipfile.ZipFile, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    wheel.extractall(folder)
    return folder


def run_from(unpacked: Path, folder: Path, code: str) -> str:
    """Runs code that sees the wheel's files and not the checkout's; returns what it prints."""
    preface = (
        "import socket, sys\n"
        f"sys.path.insert(0, {str(unpacked)!r})\n"
        "def refuse(*_): raise OSError('no network here')\n"
        "socket.socket.connect = refuse\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", preface + code], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_its_name_carries_the_version(wheel):
    assert Path(wheel.filename).name == f"quieten-{quieten.__version__}-py3-none-any.whl"


def test_every_file_of_the_package_is_in(wheel):
    expected = {
        path.relative_to(PACKAGE.parent).as_posix()
        for path in PACKAGE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.name != ".DS_Store"
    }
    assert expected <= set(wheel.namelist())


@pytest.mark.parametrize(
    "name",
    [
        "quieten/py.typed",
        "quieten/weights/speech.onnx",
        "quieten/assets/demo_noisy.flac",
        "quieten/assets/demo_clean.flac",
        "quieten/report/assets/report.html",
        "quieten/training/configs/realtime.toml",
    ],
)
def test_the_data_files_are_in(wheel, name):
    assert wheel.getinfo(name).file_size >= (0 if name.endswith("py.typed") else 1)


def test_nothing_else_is_in(wheel):
    allowed = ("quieten/", f"quieten-{quieten.__version__}.dist-info/")
    assert [name for name in wheel.namelist() if not name.startswith(allowed)] == []
    unwanted = ("__pycache__", ".pyc", "/tests/", ".cache", ".ckpt", ".log")
    assert [name for name in wheel.namelist() if any(part in name for part in unwanted)] == []
    # weights for fine-tuning belong to a model; anything else is a stray checkpoint
    tensors = [name for name in wheel.namelist() if name.endswith(".safetensors")]
    shipped = ("signals", "sines", "sines-paper", "speech", "telephone", "vqscore")
    shipped += ("telephone-no-vq", "telephone-paper")  # for `quieten reproduce`
    shipped += ("piano", "piano-denoise", "piano-dereverb", "piano-sr")
    assert sorted(tensors) == sorted(f"quieten/weights/{name}.safetensors" for name in shipped)


def test_it_stays_small(wheel):
    assert Path(wheel.filename).stat().st_size < MAX_MEGABYTES * 1e6


def test_its_licence_travels_with_it(wheel):
    licence = next(name for name in wheel.namelist() if name.endswith("licenses/LICENSE"))
    assert wheel.read(licence) == (ROOT / "LICENSE").read_bytes()


def test_it_cleans_its_own_clip_without_the_network(unpacked, tmp_path):
    code = (
        "from pathlib import Path\n"
        "import numpy, quieten\n"
        "folder = Path(quieten.__file__).parent\n"
        "noisy, rate = quieten.read_audio(folder / 'assets' / 'demo_noisy.flac')\n"
        "clean, _ = quieten.read_audio(folder / 'assets' / 'demo_clean.flac')\n"
        "denoised = quieten.Denoiser()(noisy, rate)\n"
        "before, after = (float(((x - clean) ** 2).sum()) for x in (noisy, denoised))\n"
        "print(folder, after / before, 'torch' in sys.modules, 'scipy' in sys.modules)\n"
    )
    folder, ratio, torch, scipy = run_from(unpacked, tmp_path, code).split()
    assert Path(folder) == unpacked / "quieten"
    assert float(ratio) < 0.6  # more than 2 dB of the error went
    assert (torch, scipy) == ("False", "False")


def test_its_program_runs(unpacked, tmp_path):
    code = "from quieten.cli import app\nsys.argv = ['quieten', 'models', '--json']\napp()\n"
    assert '"speech"' in run_from(unpacked, tmp_path, code)
