"""What the documents tell a reader to type works: Python blocks, commands, targets, links."""

import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import typer

from quieten import write_audio
from quieten.cli import app

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [
    path for path in [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/*.md"))] if path.is_file()
]
EXECUTED = [ROOT / "README.md", ROOT / "docs" / "quickstart.md"]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)


def blocks(path: Path, *languages: str) -> list[str]:
    """Fenced blocks of a document in one of the languages."""
    found = BLOCK.findall(path.read_text(encoding="utf-8"))
    return [text for language, text in found if language in languages]


def python_blocks() -> list[pytest.ParameterSet]:
    return [
        pytest.param(text, id=f"{path.name}-{number}")
        for path in EXECUTED
        for number, text in enumerate(blocks(path, "python"))
    ]


def split_pipeline(line: str) -> list[list[str]]:
    """The words of each program in a shell line, comments left out."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|;&<>")
    lexer.whitespace_split = True
    commands: list[list[str]] = [[]]
    for word in lexer:
        if set(word) <= set("|;&"):
            commands.append([])
        else:
            commands[-1].append(word)
    return [command for command in commands if command]


def command_lines(program: str) -> list[tuple[str, list[str]]]:
    """(document, words) of every command of `program` in shell blocks and in `inline code`."""
    found = []
    for path in DOCUMENTS:
        text = path.read_text(encoding="utf-8")
        shell = "\n".join(blocks(path, "sh", "bash")).replace("\\\n", " ")
        lines = shell.splitlines()
        lines += re.findall(rf"`({program} [^`\n]+)`", BLOCK.sub("", text))
        for line in lines:
            commands = split_pipeline(line) if line.strip() else []
            found += [(path.name, words) for words in commands if Path(words[0]).name == program]
    return found


@pytest.fixture
def recordings(tmp_path: Path, speech_like: Callable[..., object], rng) -> Path:
    """A folder with the recordings that the examples name."""
    for name, sample_rate in (("talk.wav", 16_000), ("interview.flac", 48_000)):
        speech = speech_like(1.0, sample_rate)
        noisy = speech + 0.02 * rng.standard_normal(len(speech)).astype("float32")
        write_audio(tmp_path / name, noisy[None], sample_rate)
    return tmp_path


@pytest.mark.parametrize("code", python_blocks())
def test_python_blocks_run(code, recordings):
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=recordings, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_the_examples_are_there():
    for path in EXECUTED:
        assert blocks(path, "python") and blocks(path, "sh"), path.name


def test_the_readme_names_the_two_commands_first():
    first = blocks(ROOT / "README.md", "sh")[0]
    assert [line.split("#")[0].strip() for line in first.splitlines()][-2:] == [
        "make demo",
        "make test",
    ]


@pytest.mark.parametrize(("document", "words"), command_lines("quieten"))
def test_quieten_commands_exist_with_their_options(document, words):
    verbs = typer.main.get_command(app).commands
    verb = words[1]
    if verb.startswith("-"):
        assert verb in {"--help", "--version"}
        return
    assert verb in verbs, f"{document}: no such command: quieten {verb}"
    known = {flag for parameter in verbs[verb].params for flag in parameter.opts} | {"--help"}
    used = {word.partition("=")[0] for word in words[2:] if re.match(r"--?[a-z]", word)}
    assert used <= known, f"{document}: quieten {verb} has no {used - known}"


@pytest.mark.parametrize(("document", "words"), command_lines("make"))
def test_make_targets_exist(document, words):
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, flags=re.MULTILINE))
    assert {word for word in words[1:] if "=" not in word} <= targets, document


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_to_files_resolve(path):
    text = BLOCK.sub("", path.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        if "://" not in target:
            assert (path.parent / target).exists(), f"{path.name} links to {target}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_scripts_and_modules_that_are_named_exist(path):
    text = path.read_text(encoding="utf-8")
    for script in re.findall(r"\b(?:benchmarks|tests)/[\w/]+\.py\b", text):
        assert (ROOT / script).is_file(), f"{path.name} names {script}"
