"""Checkpoints: the whole state of a run in one file, from which it goes on exactly."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from quieten.errors import ConfigError
from quieten.training.config import TrainConfig
from quieten.training.optimize import Updater
from quieten.training.tensorfile import below, load_checkpoint, read_weights, save_checkpoint


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
        source: see `read_weights`.

    Raises: ConfigError if there is no such file, or it is of another network.
    """
    tensors = read_weights(source)
    try:
        for name, updater in updaters.items():
            weights = below(f"{name}/", tensors)
            if weights or name == "net":  # judges may join a denoiser that had none
                updater.begin_with(weights)
    except RuntimeError:
        raise ConfigError(
            f"{source} holds another network: set [model] as it was when it was trained"
        ) from None
