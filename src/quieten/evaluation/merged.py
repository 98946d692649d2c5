"""Several evaluations of one test set, seen as one."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from quieten.errors import AudioError, ConfigError
from quieten.evaluation.results import NOISY, Evaluation, Score, System
from quieten.testsets.pairs import Item


@dataclass(frozen=True)
class Merged(Evaluation):
    """Several evaluations as one, over the items that all have; `sounds` says where files lie."""

    sounds: dict[tuple[str, str], Path] = field(default_factory=dict)

    def sound(self, system: str, item: str) -> Path:
        """Returns the file that was scored."""
        return self.sounds[system, item]


def merge(evaluations: Sequence[Evaluation]) -> Evaluation:
    """Returns one evaluation with the systems of all, over the items that all of them have.

    Systems of one name from different folders are told apart by the name of their folder.

    Raises:
        ConfigError: there is none, they share no item, or their noisy files differ.
    """
    if not evaluations:
        raise ConfigError("there is nothing to show: name an evaluation")
    first, *others = evaluations
    if not others:
        return first
    shared = set.intersection(*({item.name for item in one.items} for one in evaluations))
    items = tuple(item for item in first.items if item.name in shared)
    if not items:
        raise ConfigError("the evaluations share no item: compare those of one test set")
    for other in others:
        _check_same_files(first, other, items)
    systems: list[System] = [NOISY]
    scores: dict[tuple[str, str], Score] = {}
    sounds: dict[tuple[str, str], Path] = {}
    for evaluation in evaluations:
        names = _new_names(evaluation, [system.name for system in systems])
        systems += [
            replace(one, name=names[one.name]) for one in evaluation.systems if one != NOISY
        ]
        for old, item in ((one.name, item) for one in evaluation.systems for item in items):
            pair = names[old], item.name
            sounds.setdefault(pair, evaluation.sound(old, item.name))
            if score := evaluation.scores.get((old, item.name)):
                scores.setdefault(pair, replace(score, system=pair[0]))
    metrics = [metric for metric in first.metrics if all(metric in o.metrics for o in others)]
    testset = " and ".join(dict.fromkeys(one.testset for one in evaluations if one.testset))
    return Merged(
        first.folder,
        testset,
        items,
        tuple(systems),
        tuple(metrics),
        scores,
        version=" and ".join(dict.fromkeys(one.version for one in evaluations)),
        align=any(one.align for one in evaluations),
        sounds=sounds,
    )


def _new_names(evaluation: Evaluation, taken: Sequence[str]) -> dict[str, str]:
    """Returns the name that each system goes by beside those that are there already."""
    names = [system.name for system in evaluation.systems if system != NOISY]
    return {NOISY.name: NOISY.name} | {
        name: free_name(name, evaluation.folder, taken) for name in names
    }


def _check_same_files(one: Evaluation, other: Evaluation, items: Sequence[Item]) -> None:
    theirs = {item.name: item for item in other.items}
    for item in items:
        path, own = theirs[item.name].noisy, item.noisy
        if path.resolve() != own.resolve() and _content(path) != _content(own):
            raise ConfigError(
                f"{item.name}: {one.folder} and {other.folder} denoised different noisy files: "
                "compare evaluations of one test set"
            )


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        raise AudioError(f"{path}: cannot be read: put it back or evaluate again") from None


def free_name(name: str, folder: Path, taken: Sequence[str]) -> str:
    """Returns a name that is not taken: `name`, with its folder, or with a number as well."""
    candidates = [name, f"{name} ({folder.resolve().name})"]
    candidates += [f"{candidates[1]} {count}" for count in range(2, len(taken) + 3)]
    return next(candidate for candidate in candidates if candidate not in taken)
