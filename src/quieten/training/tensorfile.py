"""Files of tensors: safetensors with numbers as JSON in the header; no pickle."""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from quieten.errors import ConfigError
from quieten.runtime import WEIGHTS


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


def read_weights(source: str) -> dict[str, Tensor]:
    """Returns the tensors of a model: NETWORK/NAME -> tensor.

    Args:
        source: the name of an installed model, a .safetensors file that `export` wrote, or the
            checkpoint of a run, of which the averaged weights count.

    Raises: ConfigError if there is no such file.
    """
    path = WEIGHTS / f"{source}.safetensors"
    tensors, numbers = load_checkpoint(path if path.is_file() else Path(source))
    if "updaters" not in numbers:
        return tensors
    averaged = {name: below(f"{name}/averaged/", tensors) for name in numbers["updaters"]}
    return {f"{name}/{key}": value for name, net in averaged.items() for key, value in net.items()}


def load_weights(net: nn.Module, name: str, source: str) -> None:
    """Gives a network the weights that a model has under a name.

    Args: source: see `read_weights`.

    Raises: ConfigError if there is no such file, or it is of another network.
    """
    try:
        net.load_state_dict(below(f"{name}/", read_weights(source)))
    except RuntimeError:
        raise ConfigError(
            f"{source} holds another network: set [model] as it was when it was trained"
        ) from None


def below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Returns the tensors whose names start with `prefix`, without it."""
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
