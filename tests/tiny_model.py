"""Tiny ONNX models that fulfil the contract of `runtime.py`, so tests need no trained weight."""

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

SPECTRUM = ["batch", "frames", 257, 2]
AVERAGE = ["batch", 257]
METADATA = {
    "quieten_format": "1",
    "name": "tiny",
    "family": "tiny",
    "version": "1",
    "sample_rate": "16000",
    "n_fft": "512",
    "hop_length": "256",
    "states": "[]",
    "licence": "MIT",
    "parameters": "0",
    "scores": json.dumps({"pesq": 1.5}),
}


def constant(folder: Path, gain: complex = 1.0, **metadata: str) -> Path:
    """Returns a model whose mask is `gain` everywhere: 1 is the identity, 0 silence."""
    nodes = [
        helper.make_node("Mul", ["spectrum", "zero"], ["nothing"]),
        helper.make_node("Add", ["nothing", "gain"], ["mask"]),
    ]
    pair = np.array([complex(gain).real, complex(gain).imag])
    return _write(folder, nodes, {"zero": np.array(0.0), "gain": pair}, metadata)


def gate(folder: Path, threshold: float, closed: float = 0.0, **metadata: str) -> Path:
    """Returns a model that passes bins louder than `threshold` and scales the rest by `closed`."""
    nodes = [
        *_magnitude(),
        helper.make_node("Greater", ["magnitude", "threshold"], ["open"]),
        helper.make_node("Where", ["open", "one", "closed"], ["gain"]),
        *_real_mask(),
    ]
    values = {"threshold": threshold, "closed": closed, "one": 1.0}
    constants = {name: np.array(value) for name, value in values.items()}
    return _write(folder, nodes, constants | _REAL_MASK, metadata)


def smoother(folder: Path, memory: float = 0.9, **metadata: str) -> Path:
    """Returns a model with a state: a Wiener-like mask from each bin's average so far."""
    nodes = [
        *_magnitude(),
        helper.make_node(
            "Scan",
            ["state_average", "magnitude"],
            ["state_average_out", "average"],
            body=_one_pole(memory),
            num_scan_inputs=1,
            scan_input_axes=[1],
            scan_output_axes=[1],
        ),
        helper.make_node("Mul", ["magnitude", "magnitude"], ["power"]),
        helper.make_node("Mul", ["average", "average"], ["noise"]),
        helper.make_node("Add", ["power", "noise"], ["sum"]),
        helper.make_node("Add", ["sum", "tiny"], ["divisor"]),
        helper.make_node("Div", ["power", "divisor"], ["gain"]),
        *_real_mask(),
    ]
    metadata = {"states": json.dumps(["state_average"])} | metadata
    return _write(folder, nodes, {"tiny": np.array(1e-9)} | _REAL_MASK, metadata, state=True)


def averager(folder: Path, window: int = 12, margin: int = 3, **metadata: str) -> Path:
    """Returns a model that looks ahead: a Wiener-like mask from each bin's mean over the window."""
    nodes = [
        *_magnitude(),
        helper.make_node("Mul", ["magnitude", "magnitude"], ["power"]),
        helper.make_node("ReduceMean", ["power"], ["noise"], axes=[1], keepdims=1),
        helper.make_node("Add", ["power", "noise"], ["sum"]),
        helper.make_node("Add", ["sum", "tiny"], ["divisor"]),
        helper.make_node("Div", ["power", "divisor"], ["gain"]),
        *_real_mask(),
    ]
    return _write(
        folder, nodes, {"tiny": np.array(1e-9)} | _REAL_MASK, _windows(window, margin) | metadata
    )


def restorer(
    folder: Path,
    gain: float = 1.0,
    added: float = 0.0,
    share: float = 0.0,
    window: int = 12,
    **metadata: str,
) -> Path:
    """Returns a model that restores: mask `gain`, and `added` times the rectified sound on top.

    `share` of the mean over all frames that it sees comes with it.
    """
    nodes = [
        helper.make_node("Split", ["spectrum", "halves"], ["sound", "rectified"], axis=3),
        helper.make_node("Mul", ["sound", "zero"], ["nothing"]),
        helper.make_node("Add", ["nothing", "gain"], ["gains"]),
        helper.make_node("ReduceMean", ["rectified"], ["mean"], axes=[1], keepdims=1),
        helper.make_node("Mul", ["mean", "share"], ["context"]),
        helper.make_node("Mul", ["rectified", "added"], ["part"]),
        helper.make_node("Add", ["part", "context"], ["more"]),
        helper.make_node("Concat", ["gains", "more"], ["mask"], axis=3),
    ]
    constants = {
        "halves": np.array([2, 2], np.int64),
        "zero": np.array(0.0),
        "gain": np.array([gain, 0.0]),
        "added": np.array(added),
        "share": np.array(share),
    }
    metadata = {"restores": "1"} | _windows(window, 3) | metadata
    shape = ["batch", "frames", 257, 4]
    return _write(folder, nodes, constants, metadata, output=("mask", shape), values=4)


def counter(folder: Path, window: int, margin: int, step: float, **metadata: str) -> Path:
    """Returns a model whose mask is `step` in the first frame it sees, twice that in the second."""
    nodes = [
        *_magnitude(),
        helper.make_node("Mul", ["magnitude", "zero"], ["nothing"]),
        helper.make_node("Add", ["nothing", "step"], ["steps"]),
        helper.make_node("CumSum", ["steps", "time"], ["gain"]),
        *_real_mask(),
    ]
    constants = {"zero": np.array(0.0), "step": np.array(step), "time": np.array(1, np.int64)}
    return _write(folder, nodes, constants | _REAL_MASK, _windows(window, margin) | metadata)


def scorer(
    folder: Path, offset: float = 0.25, slope: float = 0.0, window: int = 1000, **metadata: str
) -> Path:
    """Returns a model for `quieten.score`: a frame's distance is offset + slope * its RMS."""
    nodes = [
        helper.make_node("ReduceL2", ["spectrum"], ["size"], axes=[2, 3], keepdims=0),
        helper.make_node("Mul", ["size", "slope"], ["rising"]),
        helper.make_node("Add", ["rising", "offset"], ["distance"]),
    ]
    constants = {"slope": np.array(slope / 256), "offset": np.array(offset)}
    metadata = {"name": "vqscore"} | _windows(window, 0) | metadata
    return _write(folder, nodes, constants, metadata, output=("distance", ["batch", "frames"]))


def _windows(window: int, margin: int) -> dict[str, str]:
    return {"window_frames": str(window), "margin_frames": str(margin)}


_REAL_MASK = {
    "last": np.array([3], np.int64),
    "right": np.array([0, 0, 0, 0, 0, 0, 0, 1], np.int64),
}


def _magnitude() -> list[NodeProto]:
    return [helper.make_node("ReduceL2", ["spectrum"], ["magnitude"], axes=[3], keepdims=0)]


def _real_mask() -> list[NodeProto]:
    """Returns the nodes from `gain` (B, N, F) to `mask` (B, N, F, 2) without an imaginary part."""
    return [
        helper.make_node("Unsqueeze", ["gain", "last"], ["real"]),
        helper.make_node("Pad", ["real", "right"], ["mask"]),
    ]


def _one_pole(memory: float) -> onnx.GraphProto:
    """Returns the body of a scan: average = memory * average + (1 - memory) * magnitude."""
    nodes = [
        helper.make_node("Mul", ["before", "memory"], ["old"]),
        helper.make_node("Mul", ["frame", "share"], ["new"]),
        helper.make_node("Add", ["old", "new"], ["after"]),
        helper.make_node("Identity", ["after"], ["collected"]),
    ]
    inputs, outputs = ["before", "frame"], ["after", "collected"]
    constants = {"memory": np.array(memory), "share": np.array(1 - memory)}
    return helper.make_graph(
        nodes,
        "one_pole",
        [_value(name, AVERAGE) for name in inputs],
        [_value(name, AVERAGE) for name in outputs],
        _initializers(constants),
    )


def _value(name: str, shape: list[str | int]) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def _initializers(constants: dict[str, np.ndarray]) -> list[TensorProto]:
    return [
        numpy_helper.from_array(
            value if value.dtype == np.int64 else value.astype(np.float32), name
        )
        for name, value in constants.items()
    ]


def _write(
    folder: Path,
    nodes: list[NodeProto],
    constants: dict[str, np.ndarray],
    metadata: dict[str, str],
    state: bool = False,
    output: tuple[str, list[str | int]] = ("mask", SPECTRUM),
    values: int = 2,
) -> Path:
    inputs, outputs = [_value("spectrum", [*SPECTRUM[:3], values])], [_value(*output)]
    if state:
        inputs.append(_value("state_average", AVERAGE))
        outputs.append(_value("state_average_out", AVERAGE))
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, _initializers(constants))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    merged = METADATA | metadata
    helper.set_model_props(model, {key: value for key, value in merged.items() if value})
    path = folder / f"{merged['name']}.onnx"
    path.write_bytes(model.SerializeToString())
    return path
