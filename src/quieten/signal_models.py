"""Models of 1-D signals of any kind: they take a window of samples and give it back clean.

What a file must hold: the input `waveform` and the output `denoised`, both (B, W) float32 with a
fixed W, and the settings of `SignalInfo` as metadata, `kind` = `waveform` among them. How longer
signals are cut into windows is in `signals.py`.
Letters: B batch, W window length.
"""

import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, cast

import numpy as np

from quieten import runtime
from quieten.errors import AudioError, ModelError
from quieten.runtime import Array

Phase = Literal["zero", "any"]


@dataclass(frozen=True)
class SignalInfo:
    """What a waveform model's file says about itself.

    Attributes:
        name: what it is called on the command line.
        family: the architecture, a key of the training families.
        version: version of the weights.
        sample_rate: the rate it was trained at, Hz; may be a fraction.
        window: W, samples that it sees at once.
        phase: "zero" if time counts from the start of a window, else "any".
        licence: of the weights.
        parameters: how many numbers were trained.
        scores: measured quality, by metric name.
        path: the file.
        size_bytes: its size.
    """

    name: str
    family: str
    version: str
    sample_rate: float
    window: int
    phase: Phase
    licence: str
    parameters: int
    scores: dict[str, float]
    path: Path
    size_bytes: int

    @property
    def latency_ms(self) -> float:
        """Length of a window in milliseconds: nothing is final before one is full."""
        return 1000.0 * self.window / self.sample_rate


def read_signal_info(path: Path, metadata: dict[str, str]) -> SignalInfo:
    """Returns what the metadata of a waveform model's file says.

    Raises:
        ModelError: they are missing or broken, or the file holds another kind of model.
    """
    if metadata.get("quieten_format") != runtime.FORMAT:
        raise ModelError(
            f"{path}: lacks the metadata of quieten (quieten_format = {runtime.FORMAT}):"
            " export it with `quieten export`"
        )
    if metadata.get("kind") != runtime.WAVEFORM:
        raise ModelError(
            f"{path}: is a model of spectra for sound, not of waveforms: load it with runtime.load"
        )
    try:
        phase = metadata["phase"]
        info = SignalInfo(
            name=metadata["name"],
            family=metadata["family"],
            version=metadata["version"],
            sample_rate=float(metadata["sample_rate"]),
            window=int(metadata["window"]),
            phase=cast(Phase, phase),
            licence=metadata["licence"],
            parameters=int(metadata["parameters"]),
            scores={key: float(value) for key, value in json.loads(metadata["scores"]).items()},
            path=path,
            size_bytes=path.stat().st_size,
        )
        if phase not in ("zero", "any") or info.window < 1:
            raise ValueError(f"phase {phase}, window {info.window}")
        if not (math.isfinite(info.sample_rate) and info.sample_rate > 0):
            raise ValueError(f"a rate of {info.sample_rate} Hz")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelError(
            f"{path}: broken metadata ({type(error).__name__}: {error}): export it again"
        ) from error
    return info


class WaveformModel(Protocol):
    """What a `SignalStream` works with: windows in, windows out."""

    @property
    def info(self) -> SignalInfo:
        """Rate, window and phase."""

    def run(self, waveform: Array) -> Array:
        """Returns the windows (B, W) of what (B, W) become."""


class SignalModel:
    """One ONNX session of a waveform model, with its settings.

    Args:
        path: the ONNX file.
        threads: threads inside one operator; one is the fastest for small models.

    Raises:
        ModelError: the file is missing, no ONNX model, or no waveform model of quieten.
        ConfigError: `threads` is less than one.
    """

    info: SignalInfo

    def __init__(self, path: str | os.PathLike[str], threads: int = 1) -> None:
        self._session = runtime.open_session(Path(path), threads)
        metadata = self._session.get_modelmeta().custom_metadata_map
        self.info = read_signal_info(Path(path), metadata)
        inputs = [(given.name, given.shape[1:]) for given in self._session.get_inputs()]
        outputs = [given.name for given in self._session.get_outputs()]
        if inputs != [("waveform", [self.info.window])] or outputs != ["denoised"]:
            raise ModelError(
                f"{path}: inputs and outputs do not fit its metadata ({inputs}, {outputs}):"
                " export it again with `quieten export`"
            )

    def run(self, waveform: Array) -> Array:
        """Returns the denoised windows (B, W) of noisy ones (B, W), float32.

        Raises:
            AudioError: the shape or the dtype is another.
            ModelError: the model gave NaN or infinity.
        """
        window = self.info.window
        if waveform.ndim != 2 or waveform.shape[1] != window or waveform.dtype != np.float32:
            raise AudioError(
                f"windows of shape {waveform.shape} and type {waveform.dtype}:"
                f" pass (batch, {window}), float32"
            )
        (denoised,) = self._session.run(["denoised"], {"waveform": waveform})
        if not np.isfinite(denoised).all():
            raise ModelError(
                f"model {self.info.name!r} gave values that are no numbers: use another model"
            )
        return cast(Array, denoised)


def is_signal_model(name_or_path: str | os.PathLike[str]) -> bool:
    """Returns whether that name or file is a waveform model; False where there is none.

    Raises:
        ModelError: the file is no ONNX model.
    """
    name = os.fspath(name_or_path)
    if name in runtime.available_waveform():
        return True
    if name in runtime.available() or not Path(name).is_file():
        return False
    metadata = runtime.open_session(Path(name)).get_modelmeta().custom_metadata_map
    return bool(metadata.get("kind") == runtime.WAVEFORM)


def load_signal_model(name_or_path: str | os.PathLike[str], threads: int = 1) -> SignalModel:
    """Returns the waveform model of that name, or in that file.

    Args:
        name_or_path: one of `runtime.available_waveform`, or an .onnx file.
        threads: threads inside one operator.

    Raises:
        ModelError: the name is unknown, or the file is no waveform model of quieten.
        ConfigError: `threads` is less than one.
    """
    known = runtime.available_waveform()
    name = os.fspath(name_or_path)
    path = known.get(name) or runtime.available().get(name)  # the latter says what it is
    if path is None and (name.endswith(".onnx") or len(Path(name).parts) > 1):
        path = Path(name)
    if path is None:
        names = ", ".join(known) or "none is installed"
        raise ModelError(
            f"unknown waveform model {name!r}; known: {names}; or give the path of an .onnx file"
        )
    return SignalModel(path, threads)
