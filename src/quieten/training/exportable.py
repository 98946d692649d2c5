"""What a family hands over to become a model file."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor, nn

from quieten.errors import ConfigError


@dataclass(frozen=True)
class Exportable:
    """A trained network as ONNX is to have it, and what its file must say.

    Attributes:
        module: takes (spectrum, *states), gives (output, *states after), or the output alone if
            there are no states.
        sample_rate: Hz.
        n_fft: window of its spectra, samples.
        hop_length: distance of its frames, samples.
        output: what it gives, (B, N) or (B, N, F, 2).
        states: zeros for a batch of two, by name; a causal model has them.
        window_frames: frames that it sees at once; 0 for a causal model.
        margin_frames: of them, those at both edges that do not count.
        rectified: it takes the spectra of the rectified sound beside those of the sound, and gives
            what is to be added beside its mask: (B, N, F, 4) in and out.
    """

    module: nn.Module
    sample_rate: int
    n_fft: int
    hop_length: int
    output: str = "mask"
    states: Mapping[str, Tensor] = field(default_factory=dict)
    window_frames: int = 0
    margin_frames: int = 0
    rectified: bool = False

    @property
    def n_values(self) -> int:
        """Numbers that it takes for each bin."""
        return 4 if self.rectified else 2


@dataclass(frozen=True)
class WaveformExportable:
    """A trained network from waveform to waveform as ONNX is to have it.

    Attributes:
        module: takes and gives (B, W).
        sample_rate: Hz.
        example: (B, W), sounds as the network knows them; W is its window.
        phase: "zero" if a window must begin where the signals of the training began, else "any".
        settings: of the network, none left open.
    """

    module: nn.Module
    sample_rate: int
    example: Tensor
    phase: Literal["zero", "any"]
    settings: dict[str, Any]


def check_windows(window: int, margin: int) -> None:
    """Raises ConfigError if margins leave nothing of a window."""
    if window <= 2 * margin:
        raise ConfigError(
            f"model.margin_frames={margin} leaves nothing of model.window_frames={window}: "
            "choose less than half"
        )
