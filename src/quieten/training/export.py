"""From a run to one ONNX file that `quieten.runtime` runs, with proof that both say the same.

Beside it goes the same network as safetensors, from which `start_from` fine-tunes.
"""

import json
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch

import quieten
from quieten.errors import ConfigError, ModelError
from quieten.runtime import FORMAT, open_session, read_info
from quieten.training.checkpoint import restore
from quieten.training.config import TrainConfig, checked_section
from quieten.training.exportable import Exportable, WaveformExportable
from quieten.training.models import FAMILIES, Family
from quieten.training.tensorfile import load_checkpoint, save_checkpoint
from quieten.training.waveforms import (
    waveform_difference,
    waveform_metadata,
    write_waveform_graph,
)

LARGEST_DIFFERENCE = 1e-4
"""An output that differs by more than this between torch and ONNX Runtime is a broken export."""


@dataclass(frozen=True)
class Export:
    """What came out: the file, and how far ONNX Runtime is from torch; None for weights alone."""

    path: Path
    parameters: int
    size_bytes: int
    largest_difference: float | None


def main(run_dir: Path, out: Path, name: str | None, half: bool = False) -> Export:
    """Writes the best weights of a run as ONNX, checked against torch, and as safetensors.

    Args:
        run_dir: a run folder (its best checkpoint is taken), or a checkpoint file.
        out: the .onnx file; a .safetensors file gets the weights alone.
        name: what the model calls itself; the stem of `out` if None.
        half: weights alone in float16, to be compared with rather than to go on from.

    Raises: ConfigError if there is no run, its family has no ONNX form, or `half` and the suffix
        disagree; ModelError if ONNX Runtime disagrees with torch.
    """
    if half and out.suffix != ".safetensors":
        raise ConfigError(f"--half is for weights alone: name a .safetensors file, not {out.name}")
    checkpoint = run_dir if run_dir.is_file() else run_dir / "best.safetensors"
    _, numbers = load_checkpoint(checkpoint)
    config = checked_section(TrainConfig, numbers["config"] | {"device": "cpu"})
    if config.family not in FAMILIES:
        raise ConfigError(f"{checkpoint}: unknown family {config.family}: update quieten")
    family = FAMILIES[config.family](config)
    restore(family.updaters, checkpoint)
    if out.suffix == ".safetensors":
        out.parent.mkdir(parents=True, exist_ok=True)
        return save_weights(family, config, out, half)
    exportable = family.exportable()
    made = export(exportable, out, describe(config, exportable, name or out.stem, numbers["step"]))
    if isinstance(exportable, WaveformExportable):  # the data said some of its settings
        config = config.model_copy(update={"model": exportable.settings})
    save_weights(family, config, out.with_suffix(".safetensors"))
    return made


def save_weights(family: Family, config: TrainConfig, path: Path, half: bool = False) -> Export:
    """Writes the averaged weights of all networks, from which `start_from` fine-tunes.

    Args:
        family: that was trained.
        config: of its run.
        path: the file.
        half: matrices in float16; what statistics count stays as it is.
    """
    weights = {
        f"{name}/{key}": value
        for name, updater in family.updaters.items()
        for key, value in updater.averaged.state_dict().items()
    }
    if half:
        weights = {k: v.half() if v.ndim > 1 else v for k, v in weights.items()}
    save_checkpoint(path, weights, {"family": config.family, "model": config.model})
    nets = [updater.averaged for updater in family.updaters.values()]
    parameters = sum(p.numel() for net in nets for p in net.parameters())
    return Export(path, parameters, path.stat().st_size, None)


def describe(
    config: TrainConfig, exportable: Exportable | WaveformExportable, name: str, step: int
) -> dict[str, str]:
    """Returns the metadata that the file carries: all that is needed to run it."""
    values = {
        "quieten_format": FORMAT,
        "name": name,
        "family": config.family,
        "version": quieten.__version__,
        "licence": config.licence,
        "parameters": str(sum(p.numel() for p in exportable.module.parameters())),
        "scores": "{}",
        "training": json.dumps({"seed": config.seed, "step": step}),
    }
    if isinstance(exportable, WaveformExportable):
        return values | waveform_metadata(exportable)
    values |= {
        "sample_rate": str(exportable.sample_rate),
        "n_fft": str(exportable.n_fft),
        "hop_length": str(exportable.hop_length),
        "states": json.dumps(list(exportable.states)),
    }
    if exportable.window_frames:
        values["window_frames"] = str(exportable.window_frames)
        values["margin_frames"] = str(exportable.margin_frames)
    if exportable.rectified:
        values["restores"] = "1"
    return values


def export(
    exportable: Exportable | WaveformExportable, out: Path, metadata: Mapping[str, str]
) -> Export:
    """Writes the network to `out` once ONNX Runtime gives what torch gives.

    Raises: ModelError if they differ by more than `LARGEST_DIFFERENCE`.
    """
    exportable.module.eval()
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent) as folder:
        draft = Path(folder) / out.name
        if isinstance(exportable, WaveformExportable):
            write_waveform_graph(exportable, draft)
            add_metadata(draft, metadata)
            difference = waveform_difference(exportable, draft)
        else:
            to_onnx(exportable, draft)
            add_metadata(draft, metadata)
            read_info(draft, dict(metadata))  # whoever loads the file reads it so
            difference = compare(exportable, draft)
        if not difference <= LARGEST_DIFFERENCE:
            raise ModelError(
                f"ONNX Runtime and torch differ by {difference:.1e}: not written; "
                "try another torch or onnxruntime version"
            )
        draft.replace(out)
    return Export(out, int(metadata["parameters"]), out.stat().st_size, difference)


def to_onnx(exportable: Exportable, path: Path) -> None:
    """Writes the bare graph; batch and frames stay free."""
    names = list(exportable.states)
    free = {0: "batch", 1: "frames"}
    dynamic = {"spectrum": free, exportable.output: free}
    dynamic |= {n: {0: "batch"} for n in names} | {f"{n}_out": {0: "batch"} for n in names}
    example = torch.randn(2, 5, exportable.n_fft // 2 + 1, exportable.n_values)
    with warnings.catch_warnings():
        # The newer exporter fixes the frames of a GRU at those of the example.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            exportable.module,
            (example, *exportable.states.values()),
            str(path),
            input_names=["spectrum", *names],
            output_names=[exportable.output, *(f"{n}_out" for n in names)],
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


def compare(exportable: Exportable, path: Path) -> float:
    """Returns the largest difference between torch and ONNX Runtime.

    A causal model gets 40 frames at once, then few with the states of those before. One with
    windows gets windows of several lengths; a code whose vector lies between two entries may fall
    to the other by rounding, so each length is tried with three sounds, and the best counts.
    """
    if not exportable.window_frames:
        return difference_of(exportable, path, (40, 1, 1, 2), seed=0)
    lengths = (1, 2, 7, exportable.window_frames)
    return max(
        min(difference_of(exportable, path, (length,), seed) for seed in range(3))
        for length in lengths
    )


@torch.no_grad()
def difference_of(exportable: Exportable, path: Path, lengths: tuple[int, ...], seed: int) -> float:
    """Returns the largest difference of outputs and states over pieces of so many frames."""
    session, generator = open_session(path), torch.Generator().manual_seed(seed)
    bins, largest = exportable.n_fft // 2 + 1, 0.0
    names, states = list(exportable.states), list(exportable.states.values())
    given = [state.numpy() for state in states]
    for length in lengths:
        piece = 3 * torch.randn(2, length, bins, exportable.n_values, generator=generator)
        inputs = dict(zip(["spectrum", *names], [piece.numpy(), *given], strict=True))
        results = session.run([exportable.output, *(f"{n}_out" for n in names)], inputs)
        expected = exportable.module(piece, *states)
        expected = list(expected) if isinstance(expected, tuple) else [expected]
        for result, tensor in zip(results, expected, strict=True):
            largest = max(largest, float(np.abs(result - tensor.numpy()).max()))
        given, states = results[1:], expected[1:]
    return largest


def set_scores(path: Path, scores: Mapping[str, float]) -> None:
    """Writes measured scores into a model file, for `quieten models` to show.

    Raises: ConfigError if the file is missing.
    """
    if not path.is_file():
        raise ConfigError(f"{path}: no such model file; export it first")
    add_metadata(path, {"scores": json.dumps(dict(scores))})
