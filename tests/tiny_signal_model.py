"""Tiny ONNX models of waveforms that fulfil the contract of `signal_models.py`."""

from pathlib import Path

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

METADATA = {
    "quieten_format": "1",
    "kind": "waveform",
    "name": "tiny-signal",
    "family": "tiny",
    "version": "1",
    "sample_rate": "256",
    "window": "64",
    "phase": "any",
    "licence": "MIT",
    "parameters": "0",
    "scores": '{"snr_db": 9.5}',
}


def gain(folder: Path, factor: float = 1.0, **metadata: str) -> Path:
    """Returns a model that multiplies every sample by `factor`: 1 is the identity."""
    nodes = [helper.make_node("Mul", ["waveform", "factor"], ["denoised"])]
    return write(folder, nodes, {"factor": np.array(factor)}, metadata)


def ramp(folder: Path, **metadata: str) -> Path:
    """Returns a model that answers 0, 1, 2, ... in every window, whatever it hears."""
    window = int((METADATA | metadata)["window"])
    nodes = [
        helper.make_node("Mul", ["waveform", "zero"], ["nothing"]),
        helper.make_node("Add", ["nothing", "ramp"], ["denoised"]),
    ]
    return write(folder, nodes, {"zero": np.array(0.0), "ramp": np.arange(window)}, metadata)


def projection(folder: Path, bins: int = 8, **metadata: str) -> Path:
    """Returns a model that keeps the lowest `bins` frequencies of a window, by one matrix.

    It removes broad noise from slow signals, and what it says of a sample depends on the window.
    """
    window = int((METADATA | metadata)["window"])
    basis = np.fft.irfft(np.eye(window // 2 + 1)[:bins], window)
    basis = np.concatenate([basis, np.fft.irfft(1j * np.eye(window // 2 + 1)[1:bins], window)])
    basis /= np.linalg.norm(basis, axis=1, keepdims=True)
    nodes = [helper.make_node("MatMul", ["waveform", "matrix"], ["denoised"])]
    return write(folder, nodes, {"matrix": basis.T @ basis}, metadata)


def write(
    folder: Path,
    nodes: list[NodeProto],
    constants: dict[str, np.ndarray],
    metadata: dict[str, str],
    input_name: str = "waveform",
) -> Path:
    """Returns the file of a graph; metadata given as "" are left out."""
    merged = METADATA | metadata
    shape: list[str | int] = ["batch", int(merged["window"] or 64)]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(input_name, TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("denoised", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(v.astype(np.float32), name) for name, v in constants.items()],
    )
    model: onnx.ModelProto = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )
    helper.set_model_props(model, {key: value for key, value in merged.items() if value})
    path = folder / f"{merged['name']}.onnx"
    path.write_bytes(model.SerializeToString())
    return path
