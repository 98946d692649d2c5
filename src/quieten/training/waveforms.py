"""The ONNX form of networks from waveform to waveform: `waveform` (B, W) in, `denoised` out."""

import warnings
from pathlib import Path

import numpy as np
import torch

from quieten.runtime import open_session
from quieten.training.exportable import WaveformExportable


def waveform_metadata(exportable: WaveformExportable) -> dict[str, str]:
    """Returns what the file says about its window."""
    return {
        "kind": "waveform",
        "sample_rate": str(exportable.sample_rate),
        "window": str(exportable.example.shape[1]),
        "phase": exportable.phase,
    }


def write_waveform_graph(exportable: WaveformExportable, path: Path) -> None:
    """Writes the bare graph; the batch stays free."""
    free = {0: "batch"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the newer exporter is recommended in words
        torch.onnx.export(
            exportable.module,
            (exportable.example[:2],),
            str(path),
            input_names=["waveform"],
            output_names=["denoised"],
            dynamic_axes={"waveform": free, "denoised": free},
            opset_version=17,
            do_constant_folding=False,  # it would store a bank of waves once for each transposition
            dynamo=False,
        )


@torch.no_grad()
def waveform_difference(exportable: WaveformExportable, path: Path) -> float:
    """Returns the largest difference between torch and ONNX Runtime, for several batches.

    The differences are relative to the largest sample, since a signal has any unit.
    """
    session, largest = open_session(path), 0.0
    for noisy in (exportable.example, 1e-3 * exportable.example[:1]):
        (result,) = session.run(["denoised"], {"waveform": noisy.numpy()})
        expected = exportable.module(noisy).numpy()
        scale = max(float(np.abs(expected).max()), 1e-9)
        largest = max(largest, float(np.abs(result - expected).max()) / scale)
    return largest
