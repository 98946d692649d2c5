"""From a run to one ONNX file that `quieten.runtime` runs, with proof that both say the same.

Beside it goes the same network as safetensors, from which `start_from` fine-tunes.
"""

import json
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor

import quieten
from quieten.errors import ConfigError, ModelError
from quieten.runtime import FORMAT, Model
from quieten.training.checkpoint import load_checkpoint, restore, save_checkpoint
from quieten.training.config import TrainConfig, checked_section
from quieten.training.models import FAMILIES
from quieten.training.models.realtime import ExportedNet, RealtimeNet

LARGEST_DIFFERENCE = 1e-4
"""A mask that differs by more than this between torch and ONNX Runtime is a broken export."""


@dataclass(frozen=True)
class Export:
    """What came out: the file, and how far it is from torch."""

    path: Path
    parameters: int
    size_bytes: int
    largest_difference: float


def main(run_dir: Path, out: Path, name: str | None) -> Export:
    """Writes the best weights of a run as ONNX, checked against torch, and as safetensors.

    Args:
        run_dir: a run folder (its best checkpoint is taken), or a checkpoint file.
        out: the .onnx file.
        name: what the model calls itself; the stem of `out` if None.

    Raises: ConfigError if there is no run; ModelError if ONNX Runtime disagrees with torch.
    """
    checkpoint = run_dir if run_dir.is_file() else run_dir / "best.safetensors"
    _, numbers = load_checkpoint(checkpoint)
    config = checked_section(TrainConfig, numbers["config"] | {"device": "cpu"})
    family = FAMILIES[config.family](config)
    restore(family.updaters, checkpoint)
    net = family.updaters["net"].averaged
    assert isinstance(net, RealtimeNet)
    made = export(net, out, describe(config, net, name or out.stem, numbers["step"]))
    weights = {f"net/{key}": value for key, value in net.state_dict().items()}
    save_checkpoint(out.with_suffix(".safetensors"), weights, {"model": config.model})
    return made


def describe(config: TrainConfig, net: RealtimeNet, name: str, step: int) -> dict[str, str]:
    """Returns the metadata that the file carries: all that is needed to run it."""
    return {
        "quieten_format": FORMAT,
        "name": name,
        "family": config.family,
        "version": quieten.__version__,
        "sample_rate": str(net.config.sample_rate),
        "n_fft": str(net.config.n_fft),
        "hop_length": str(net.config.hop_length),
        "states": json.dumps(net.state_names()),
        "licence": config.licence,
        "parameters": str(sum(p.numel() for p in net.parameters())),
        "scores": "{}",
        "training": json.dumps({"seed": config.seed, "step": step}),
    }


def export(net: RealtimeNet, out: Path, metadata: Mapping[str, str]) -> Export:
    """Writes `net` to `out` once ONNX Runtime gives the masks that torch gives.

    Raises: ModelError if they differ by more than `LARGEST_DIFFERENCE`.
    """
    net.eval()
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent) as folder:
        draft = Path(folder) / out.name
        to_onnx(net, draft)
        add_metadata(draft, metadata)
        difference = compare(net, draft)
        if not difference <= LARGEST_DIFFERENCE:
            raise ModelError(
                f"ONNX Runtime and torch differ by {difference:.1e}: not written; "
                "try another torch or onnxruntime version"
            )
        draft.replace(out)
    return Export(out, int(metadata["parameters"]), out.stat().st_size, difference)


def to_onnx(net: RealtimeNet, path: Path) -> None:
    """Writes the bare graph; batch and frames stay free."""
    names = net.state_names()
    dynamic = {"spectrum": {0: "batch", 1: "frames"}, "mask": {0: "batch", 1: "frames"}}
    dynamic |= {n: {0: "batch"} for n in names} | {f"{n}_out": {0: "batch"} for n in names}
    example = (torch.randn(2, 5, net.config.n_fft // 2 + 1, 2), *net.initial_state(2))
    with warnings.catch_warnings():
        # The newer exporter fixes the frames of a GRU at those of the example.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            ExportedNet(net).eval(),
            example,
            str(path),
            input_names=["spectrum", *names],
            output_names=["mask", *(f"{n}_out" for n in names)],
            dynamic_axes=dynamic,
            opset_version=17,
            dynamo=False,
        )


def add_metadata(path: Path, metadata: Mapping[str, str]) -> None:
    """Writes entries into the file's metadata, replacing those of the same name."""
    model = onnx.load(str(path))
    kept = {entry.key: entry.value for entry in model.metadata_props} | dict(metadata)
    onnx.helper.set_model_props(model, kept)
    onnx.save(model, str(path))


@torch.no_grad()
def compare(net: RealtimeNet, path: Path) -> float:
    """Returns the largest difference of masks and states: 40 frames at once, then few."""
    model = Model(path)
    generator = torch.Generator().manual_seed(0)
    bins = net.config.n_fft // 2 + 1
    spectrum = 3 * torch.randn(2, 44, bins, 2, generator=generator)
    state, states = model.initial_state(2), net.initial_state(2)
    largest = 0.0
    for start, end in ((0, 40), (40, 41), (41, 42), (42, 44)):
        piece = spectrum[:, start:end]
        mask, state = model.run(piece.numpy(), state)
        expected, states = net(piece, states)
        results: list[tuple[Any, Tensor]] = [(mask, expected)]
        results += list(zip(state.values(), states, strict=True))
        largest = max(largest, *(float(np.abs(a - b.numpy()).max()) for a, b in results))
    return largest


def set_scores(path: Path, scores: Mapping[str, float]) -> None:
    """Writes measured scores into a model file, for `quieten models` to show.

    Raises: ConfigError if the file is missing.
    """
    if not path.is_file():
        raise ConfigError(f"{path}: no such model file; export it first")
    add_metadata(path, {"scores": json.dumps(dict(scores))})
