"""What an evaluation is, in memory and on disk; `evaluate.py` fills one, `tables.py` sums it up.

A folder holds `evaluation.json` (test set, items, systems, metrics), `scores.jsonl` (one line for
each finished system and item, in the order they finished) and `denoised/SYSTEM/ITEM.wav`.
"""

import json
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from quieten import __version__
from quieten.errors import ConfigError
from quieten.metrics import METRICS
from quieten.testsets.pairs import Item

Kind = Literal["noisy", "model", "oracle", "command"]

FORMAT = 1
DESCRIPTION, SCORES, DENOISED = "evaluation.json", "scores.jsonl", "denoised"


@dataclass(frozen=True)
class System:
    """What is measured: the noisy files themselves, a model, the oracle, or a foreign program.

    Attributes:
        name: a plain word, unique in an evaluation.
        kind: what it is.
        spec: name or path of a model, text of a command; else empty.
    """

    name: str
    kind: Kind
    spec: str = ""


NOISY = System("noisy", "noisy")


@dataclass(frozen=True)
class Request:
    """What a user wants measured.

    Attributes:
        items: the test set.
        systems: what to measure beside the noisy files, which always come first.
        out: the folder of the evaluation.
        metrics: keys of `METRICS`.
        workers: processes at a time.
        align: whether a constant delay is taken out before scoring.
        testset: the name of the test set, for people.
        timeout_s: how long a foreign program may take for one file.
    """

    items: tuple[Item, ...]
    systems: tuple[System, ...]
    out: Path
    metrics: tuple[str, ...] = tuple(METRICS)
    workers: int = 1
    align: bool = False
    testset: str = ""
    timeout_s: float = 600.0


@dataclass(frozen=True)
class Score:
    """How one system did on one item.

    Attributes:
        system: its name.
        item: the item's name.
        values: metric -> finite number.
        missing: metric -> why there is no number.
        cpu_s: processor seconds of denoising; None for the noisy file and where it failed.
        duration_s: length of the noisy file.
        fingerprint: of all that decides the values; empty in scores made by hand.
        note: what had to be done to the result before it could be scored.
    """

    system: str
    item: str
    values: dict[str, float]
    missing: dict[str, str]
    cpu_s: float | None
    duration_s: float
    fingerprint: str = ""
    note: str = ""

    @property
    def failed(self) -> bool:
        """Whether there is no number at all, though some were asked for."""
        return not self.values and bool(self.missing)


@dataclass(frozen=True)
class Evaluation:
    """Scores of all systems on all items, as far as they are known.

    Attributes:
        folder: where it lies.
        testset: name of the test set, for people.
        items: the test set.
        systems: what was measured, the noisy files first.
        metrics: what was measured of each.
        scores: (system, item) -> score, by systems, then by items; lacks what is not finished.
        version: of quieten that measured.
        align: whether a constant delay was taken out before scoring.
    """

    folder: Path
    testset: str
    items: tuple[Item, ...]
    systems: tuple[System, ...]
    metrics: tuple[str, ...]
    scores: dict[tuple[str, str], Score]
    version: str = __version__
    align: bool = False

    def sound(self, system: str, item: str) -> Path:
        """Returns the file that was scored: the denoised one, or the noisy one of the item."""
        if system == NOISY.name:
            return next(one.noisy for one in self.items if one.name == item)
        return denoised_path(self.folder, system, item)


def denoised_path(folder: Path, system: str, item: str) -> Path:
    """Returns where an evaluation in `folder` keeps what a system made of an item."""
    return folder / DENOISED / system / f"{item}.wav"


def write_description(request: Request) -> None:
    """Writes `evaluation.json` of a request into its folder, by way of a temporary file."""
    content = {
        "format": FORMAT,
        "quieten": __version__,
        "testset": request.testset,
        "metrics": list(request.metrics),
        "align": request.align,
        "systems": [asdict(system) for system in request.systems],
        "items": [
            {
                "name": item.name,
                "noisy": str(item.noisy),
                "clean": str(item.clean) if item.clean else None,
                "labels": item.labels,
            }
            for item in request.items
        ],
    }
    replace_text(request.out / DESCRIPTION, json.dumps(content, indent=1) + "\n")


def write_scores(folder: Path, scores: Sequence[Score]) -> None:
    """Makes `scores.jsonl` hold these scores and no others, by way of a temporary file."""
    replace_text(folder / SCORES, "".join(score_line(score) for score in scores))


def score_line(score: Score) -> str:
    """Returns the line of `scores.jsonl` for a score."""
    return json.dumps(asdict(score), allow_nan=False) + "\n"


def read_scores(folder: Path) -> Iterator[Score]:
    """Yields the scores in the order they were written; a line cut short by a kill is left out."""
    try:
        text = (folder / SCORES).read_text("utf-8", errors="replace")
    except FileNotFoundError:
        return
    for line in text.split("\n"):
        try:
            yield Score(**json.loads(line))
        except (ValueError, TypeError):  # torn, or empty after the last line
            continue


def read_evaluation(folder: str | Path) -> Evaluation:
    """Returns the evaluation in a folder, finished or not.

    Raises:
        ConfigError: the folder holds no evaluation, or one of another version of the format.
    """
    folder = Path(folder)
    content = _read_description(folder)
    try:
        items = tuple(_item(one) for one in content["items"])
        systems = tuple(System(**one) for one in content["systems"])
        latest = {(score.system, score.item): score for score in read_scores(folder)}
        pairs = [(system.name, item.name) for system in systems for item in items]
        return Evaluation(
            folder=folder,
            testset=content["testset"],
            items=items,
            systems=systems,
            metrics=tuple(content["metrics"]),
            scores={pair: latest[pair] for pair in pairs if pair in latest},
            version=content["quieten"],
            align=content["align"],
        )
    except (KeyError, TypeError, AttributeError):
        raise _damaged(folder) from None


def _read_description(folder: Path) -> dict[str, Any]:
    path = folder / DESCRIPTION
    if not path.is_file():
        raise ConfigError(f"{folder}: holds no evaluation: make one with `quieten evaluate`")
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        raise _damaged(folder) from None
    if not isinstance(content, dict):
        raise _damaged(folder)
    if content.get("format") != FORMAT:
        raise ConfigError(f"{path}: is of another format than {FORMAT}: evaluate into a new folder")
    return content


def _damaged(folder: Path) -> ConfigError:
    return ConfigError(f"{folder / DESCRIPTION}: is damaged: evaluate into a new folder")


def _item(content: dict[str, Any]) -> Item:
    clean = content["clean"]
    return Item(
        name=content["name"],
        noisy=Path(content["noisy"]),
        clean=None if clean is None else Path(clean),
        labels=dict(content["labels"]),
    )


def replace_text(path: Path, text: str) -> None:
    """Writes a text file that is whole at any time, the old one or the new one."""
    temporary = path.with_name(f".{path.name}-{secrets.token_hex(4)}.part")
    try:
        temporary.write_text(text, encoding="utf-8", newline="")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
