"""What the benchmarks share: sections of a page, which peers are here, a training that goes on.

The words of the page are written by hand. A section NAME stands between `<!-- NAME:start -->` and
`<!-- NAME:end -->`; one command owns it and replaces it whole.
"""

import importlib.metadata
import json
import os
import platform
import re
import secrets
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from itertools import starmap
from pathlib import Path

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "benchmarks.md"
ONE_THREAD = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")}

Inventory = dict[str, dict[str, str]]  # peer -> about, source, version


def write_section(page: Path, name: str, text: str) -> None:
    """Replaces what stands between the markers of a section; the file is swapped at once.

    Raises:
        ValueError: the markers are not there, or not once each and in order.
    """
    start, end = f"<!-- {name}:start -->", f"<!-- {name}:end -->"
    before, *rest = page.read_text(encoding="utf-8").split(start)
    after = rest[0].split(end) if len(rest) == 1 else []
    if len(after) != 2 or end in before:
        raise ValueError(f"{page.name}: put {start} and {end} into it, once each")
    temporary = page.with_name(f".{secrets.token_hex(6)}.part")
    temporary.write_text(f"{before}{start}\n\n{text.strip()}\n\n{end}{after[1]}", encoding="utf-8")
    temporary.replace(page)


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Returns a Markdown table: the first column to the left, the others to the right."""
    lines = [header, ["---", *["--:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def processor() -> str:
    """Returns the name of the processor as the system tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text(encoding="utf-8") if cpuinfo.is_file() else ""
    found = re.search(r"model name\s*:\s*(.+)", text)
    return found[1].strip() if found else platform.processor() or platform.machine()


def measured(others: Sequence[str] = ()) -> str:
    """Returns the line that says when, on what and with which versions was measured.

    Args:
        others: versions of what else was measured, such as "ffmpeg 5.1".
    """
    ours = [f"{name} {importlib.metadata.version(name)}" for name in ("quieten", "onnxruntime")]
    ours = [*ours, f"numpy {importlib.metadata.version('numpy')}", *others]
    return (
        f"Measured on {date.today().isoformat()}: {processor()} ({os.cpu_count()} cores, one"
        f" thread), {platform.system()}, Python {platform.python_version()}, {', '.join(ours)}."
    )


def peers_here(python: str) -> Inventory:
    """Returns the peers that an interpreter can run; says on stderr what the others lack."""
    command = [python, str(HERE / "peers.py"), "--list", "--json"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: Inventory = json.loads(done.stdout)
    for name, peer in found.items():
        if peer["missing"]:
            print(f"not measured: {name}: {peer['missing']}", file=sys.stderr)
    return {name: peer for name, peer in found.items() if not peer["missing"]}


def choose(
    models: Sequence[str] | None, peers: Sequence[str] | None, ours: Sequence[str], found: Inventory
) -> tuple[list[str], list[str]]:
    """Returns (models, peers) that were named; all that there are where nothing was.

    Raises:
        SystemExit: a named peer is not here.
    """
    if not models and not peers:
        return list(ours), list(found)
    if lacking := set(peers or ()) - set(found):
        raise SystemExit(f"not here: {', '.join(sorted(lacking))}")
    return list(models or ()), list(peers or ())


def versions(peers: Sequence[str], found: Inventory) -> list[str]:
    """Returns what the peers are made of, such as "ffmpeg 5.1", each once and sorted."""
    return sorted({f"{found[name]['source']} {found[name]['version']}" for name in peers})


def quieten_train(
    family: str,
    changes: Mapping[str, str],
    run: Path,
    folders: Sequence[str],
    program: Sequence[str] = ("-m", "quieten"),
) -> None:
    """Runs `quieten train`, or goes on with it; a finished run is left as it is.

    Args:
        changes: key -> value, as `--set` takes it.
        folders: the options that name the recordings.
        program: what python runs; its command line is that of quieten.
    """
    if (run / "done").exists():
        return
    command = [sys.executable, *program, "train", family, "--out", str(run), *folders]
    changes = {**changes, "data.cache": f"{run.parent}/cache"}
    command += [
        part for pair in starmap("{}={}".format, changes.items()) for part in ("--set", pair)
    ]
    command += ["--resume"] if (run / "last.safetensors").exists() else []
    subprocess.run(command, check=True, env=os.environ | ONE_THREAD)
    (run / "done").touch()
