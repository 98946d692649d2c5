"""Checkpoints: one safetensors file, the numbers of the run as JSON in its header; no pickle."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor

from quieten.errors import ConfigError
from quieten.runtime import WEIGHTS
from quieten.training.config import TrainConfig
from quieten.training.optimize import Updater, below


def save_checkpoint(path: Path, tensors: dict[str, Tensor], numbers: dict[str, Any]) -> None:
    """Writes a checkpoint; a kill at any moment leaves the old file or the new one, never half."""
    temporary = path.with_suffix(".part")
    contiguous = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    # not safetensors' save_file: its files can be read by their owner only
    temporary.write_bytes(to_bytes(contiguous, metadata={"quieten": json.dumps(numbers)}))
    temporary.replace(path)


def load_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Returns what `save_checkpoint` was given.

    Raises: ConfigError if the file is missing or is not a checkpoint of ours.
    """
    if not path.is_file():
        raise ConfigError(f"no checkpoint {path}: train first, or name another run folder")
    try:
        with safe_open(path, framework="pt") as file:
            numbers = json.loads((file.metadata() or {})["quieten"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (KeyError, ValueError, OSError, SafetensorError) as error:
        raise ConfigError(f"{path} is not a checkpoint of quieten: {error}") from None
    return tensors, numbers


def save(
    updaters: Mapping[str, Updater],
    path: Path,
    config: TrainConfig,
    step: int,
    best: float,
    best_step: int = 0,
) -> None:
    """Writes the state of a run after `step` steps, from which `restore` goes on exactly."""
    tensors: dict[str, Tensor] = {}
    for name, updater in updaters.items():
        tensors |= {f"{name}/{key}": value for key, value in updater.tensors().items()}
    numbers: dict[str, Any] = {
        "step": step,
        "updaters": {name: updater.numbers() for name, updater in updaters.items()},
        "config": config.model_dump(mode="json"),
    }
    if math.isfinite(best):
        numbers["best"] = best
    if best_step:
        numbers["best_step"] = best_step
    save_checkpoint(path, tensors, numbers)


def restore(updaters: Mapping[str, Updater], path: Path) -> dict[str, Any]:
    """Puts a saved state into the updaters of a family; returns its numbers: step, best, config.

    Raises: ConfigError if there is no checkpoint, or it is of another network.
    """
    tensors, numbers = load_checkpoint(path)
    try:
        for name, updater in updaters.items():
            updater.restore(below(f"{name}/", tensors), numbers["updaters"][name])
    except (KeyError, RuntimeError):
        raise ConfigError(
            f"{path} holds another network: resume with the settings in its config.json"
        ) from None
    return numbers


def start_from(updaters: Mapping[str, Updater], source: str) -> None:
    """Gives every network the weights of an exported model, as the beginning of a run.

    Args:
        source: the name of an installed model, or a .safetensors file that `export` wrote.

    Raises: ConfigError if there is no such file, or it is of another network.
    """
    path = WEIGHTS / f"{source}.safetensors"
    tensors, _ = load_checkpoint(path if path.is_file() else Path(source))
    try:
        for name, updater in updaters.items():
            updater.begin_with(below(f"{name}/", tensors))
    except RuntimeError:
        raise ConfigError(
            f"{source} holds another network: set [model] as it was when it was trained"
        ) from None
