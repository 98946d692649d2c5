"""Runs models: one ONNX file holds weights, settings and licence, one class runs them all.

What a file must hold: the input `spectrum` and the output `mask`, both (B, N, F, 2), the real
view of complex spectra, or of a model that restores (B, N, F, 4), see `Model.run`; for each name
in its list of states an input `state_*` and an output `state_*_out`; and the settings of
`ModelInfo` as metadata. How frames are made is in `stft.py`. A model that looks ahead has no
states and names its window; how sound is cut into windows is in `windows.py`.
"""

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from quieten.errors import ConfigError, ModelError

Array = NDArray[np.float32]
State = dict[str, Array]

FORMAT = "1"
WEIGHTS = Path(__file__).parent / "weights"
NO_DENOISERS = ("vqscore",)  # files there that answer something else than masks
WAVEFORM = "waveform"  # the kind of the models that `signals.py` runs
WAVEFORM_MODELS = ("signals", "sines", "sines-paper")  # those of the package


@dataclass(frozen=True)
class ModelInfo:
    """What a model file says about itself.

    Attributes:
        name: what it is called on the command line.
        family: the architecture, a key of the training families.
        version: version of the weights.
        sample_rate: the rate it was trained at, Hz.
        n_fft: window of its spectra, samples at its rate.
        hop_length: distance of its frames, samples at its rate.
        states: names of its recurrent state inputs.
        licence: of the weights.
        parameters: how many numbers were trained.
        scores: measured quality, by metric name.
        path: the file; None where there is none, as for a baseline.
        size_bytes: its size.
        window_frames: frames that a model which looks ahead sees at once; 0: only the past.
        margin_frames: of them, those on each side whose masks lack context and are not used.
        restores: it adds to a sound what was lost, beside its mask.
    """

    name: str
    family: str
    version: str
    sample_rate: int
    n_fft: int
    hop_length: int
    states: tuple[str, ...]
    licence: str
    parameters: int
    scores: dict[str, float]
    path: Path | None
    size_bytes: int
    window_frames: int = 0
    margin_frames: int = 0
    restores: bool = False

    @property
    def latency_hops(self) -> int:
        """Hops of input that may be missing from the output.

        A frame must be full before its first sample is final. Where the model looks ahead, the
        whole first window must be there, of later ones what lies behind their front margin.
        """
        overlap = self.n_fft // self.hop_length
        behind = self.window_frames - self.margin_frames
        return max(self.window_frames, behind + overlap - 1) if self.window_frames else overlap

    @property
    def latency_ms(self) -> float:
        """Algorithmic latency in milliseconds."""
        return 1000.0 * self.latency_hops * self.hop_length / self.sample_rate


class MaskModel(Protocol):
    """What a `Denoiser` works with: frames in, masks out. It keeps no state itself.

    Attributes:
        level_dependent: whether it must hear quiet sound lifted to the level of its training.
    """

    level_dependent: bool

    @property
    def info(self) -> ModelInfo:
        """Name, rate and frames."""

    def initial_state(self, batch: int) -> State:
        """Returns the state, by name, of `batch` signals before their first frame."""

    def run(self, spectrum: Array, state: State) -> tuple[Array, State]:
        """Returns the complex mask (B, N, F, 2) for N frames and the state after them.

        A model that restores returns (B, N, F, 4): behind the mask, the spectrum to be added.
        """


class Model:
    """One ONNX session with its settings. It keeps no state, so streams may share it.

    Args:
        path: the ONNX file.
        threads: threads inside one operator; one is the fastest for small models.

    Raises:
        ModelError: the file is missing, no ONNX model, or not one of quieten's.
        ConfigError: `threads` is less than one.
    """

    info: ModelInfo

    def __init__(self, path: str | os.PathLike[str], threads: int = 1) -> None:
        self._session = open_session(Path(path), threads)
        self.info = read_info(Path(path), self._session.get_modelmeta().custom_metadata_map)
        # one that sees whole windows levels them itself
        self.level_dependent = self.info.window_frames == 0
        shapes = {given.name: given.shape for given in self._session.get_inputs()}
        self._outputs = ["mask", *(f"{name}_out" for name in self.info.states)]
        missing = {"spectrum", *self.info.states} ^ set(shapes)
        missing |= set(self._outputs) - {given.name for given in self._session.get_outputs()}
        if missing:
            raise ModelError(
                f"{path}: inputs and outputs do not fit its metadata ({', '.join(sorted(missing))})"
                ": export it again with `quieten export`"
            )
        self._state_shapes = {name: shapes[name] for name in self.info.states}

    def initial_state(self, batch: int) -> State:
        """Returns the zero state, by name, for `batch` signals."""
        return {
            name: np.zeros([size if isinstance(size, int) else batch for size in shape], np.float32)
            for name, shape in self._state_shapes.items()
        }

    def run(self, spectrum: Array, state: State) -> tuple[Array, State]:
        """Returns the complex mask for N frames and the state after them.

        A model that restores sees the frames and, behind them, what `rectify` makes of them; it
        returns (B, N, F, 4): behind the mask, the spectrum to be added.

        Args:
            spectrum: (B, N, F, 2) float32, the real view of the spectra, N >= 1.
            state: from `initial_state` or from the call for the frames before.

        Raises:
            ModelError: the model gave NaN or infinity.
        """
        if self.info.restores:
            spectrum = np.concatenate([spectrum, rectify(spectrum, self.info.n_fft)], axis=-1)
        mask, *states = self._session.run(self._outputs, {"spectrum": spectrum, **state})
        if not np.isfinite(mask).all():
            raise ModelError(
                f"model {self.info.name!r} gave values that are no numbers: use another model"
            )
        return mask, dict(zip(self.info.states, states, strict=True))


def rectify(spectrum: Array, n_fft: int) -> Array:
    """Returns the spectra (B, N, F, 2) of frames without their signs.

    The window is nowhere negative, so these are the frames of the rectified sound: it has the
    harmonics that the sound itself may lack.

    Args: spectrum (B, N, F, 2), the real view of the spectra of frames of `n_fft` samples.
    """
    frames = np.fft.irfft(np.ascontiguousarray(spectrum).view(np.complex64)[..., 0], n_fft)
    rectified = np.fft.rfft(np.abs(frames)).astype(np.complex64, copy=False)
    return rectified.view(np.float32).reshape(*rectified.shape, 2)


def available() -> dict[str, Path]:
    """Returns the denoisers of sound that come with the package, name -> file."""
    files = sorted(WEIGHTS.glob("*.onnx"))
    others = NO_DENOISERS + WAVEFORM_MODELS
    return {path.stem: path for path in files if path.stem not in others}


def available_waveform() -> dict[str, Path]:
    """Returns the denoisers of 1-D signals that come with the package, name -> file."""
    paths = {name: WEIGHTS / f"{name}.onnx" for name in WAVEFORM_MODELS}
    return {name: path for name, path in paths.items() if path.is_file()}


def load(
    name_or_path: str | os.PathLike[str], threads: int = 1, *, others: Iterable[str] = ()
) -> Model:
    """Returns the model of that name, or in that file.

    Args:
        name_or_path: one of `available`, or an .onnx file.
        threads: threads inside one operator.
        others: names that the caller knows besides, for the message of an unknown one.

    Raises:
        ModelError: the name is unknown, or the file is not a model of quieten for spectra.
        ConfigError: `threads` is less than one.
    """
    known = available()
    name = os.fspath(name_or_path)
    if path := known.get(name) or available_waveform().get(name):  # the latter says what it is
        return Model(path, threads)
    if Path(name).is_file():
        return Model(name, threads)
    if name.endswith(".onnx") or len(Path(name).parts) > 1:
        raise ModelError(f"{name}: no such model file; check the path")
    names = ", ".join([*known, *others]) or "none is installed"
    raise ModelError(f"unknown model {name!r}; known: {names}; or give the path of an .onnx file")


def check_threads(threads: int) -> None:
    """Raises ConfigError if `threads` is less than one."""
    if threads < 1:
        raise ConfigError(f"threads is {threads}: use 1 or more")


def open_session(path: Path, threads: int = 1) -> Any:
    """Returns an ONNX Runtime session for a file, on the CPU.

    Raises:
        ModelError: the file is missing or no ONNX model.
        ConfigError: `threads` is less than one.
    """
    check_threads(threads)
    if not path.is_file():
        raise ModelError(f"{path}: no such model file; check the path")
    import onnxruntime as ort  # here, since it takes a third of a second that --help need not pay

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # not session.set_denormal_as_zero: it would change the arithmetic of the caller's thread
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has a dozen classes for "cannot read this"
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(
            f"{path}: not an ONNX model that can run here ({reason}); check or replace the file"
        ) from error


def read_info(path: Path, metadata: dict[str, str]) -> ModelInfo:
    """Returns what the metadata of a file says.

    Raises:
        ModelError: they are missing, broken or contradict each other.
    """
    if metadata.get("quieten_format") != FORMAT:
        raise ModelError(
            f"{path}: lacks the metadata of quieten (quieten_format = {FORMAT}):"
            " export it with `quieten export`"
        )
    if metadata.get("kind") == WAVEFORM:
        raise ModelError(
            f"{path}: is a waveform model, for 1-D signals, not for spectra of sound:"
            " use it with `quieten denoise --model`, or signals.load_signal_model"
        )
    try:
        info = ModelInfo(
            name=metadata["name"],
            family=metadata["family"],
            version=metadata["version"],
            sample_rate=int(metadata["sample_rate"]),
            n_fft=int(metadata["n_fft"]),
            hop_length=int(metadata["hop_length"]),
            states=tuple(cast(list[str], json.loads(metadata["states"]))),
            licence=metadata["licence"],
            parameters=int(metadata["parameters"]),
            scores={key: float(value) for key, value in json.loads(metadata["scores"]).items()},
            path=path,
            size_bytes=path.stat().st_size,
            window_frames=int(metadata.get("window_frames", 0)),
            margin_frames=int(metadata.get("margin_frames", 0)),
            restores=metadata.get("restores") == "1",
        )
        _check_window(info)
        return info
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelError(
            f"{path}: broken metadata ({type(error).__name__}: {error}): export it again"
        ) from error


def _check_window(info: ModelInfo) -> None:
    """Raises ValueError for windows that do not fit together."""
    window, margin = info.window_frames, info.margin_frames
    if margin < 0 or window < 0 or 2 * margin >= max(window, 1):
        raise ValueError(f"margins of {margin} leave nothing of a window of {window} frames")
    if window and info.states:
        raise ValueError("a model with windows has no states")
