"""A trained network in torch again, for what its ONNX file cannot do: run with a part missing."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import quieten
from quieten.errors import ConfigError
from quieten.runtime import Model
from quieten.signal_models import SignalInfo
from quieten.training.checkpoint import restore, start_from
from quieten.training.config import TrainConfig, checked_section, load_config
from quieten.training.models import FAMILIES
from quieten.training.models.restorer import Restorer
from quieten.training.tensorfile import load_checkpoint

Waveform = NDArray[np.float32]


def open_denoiser(path: Path, ablation: str = "") -> Callable[[Waveform], Waveform]:
    """Returns a function from a noisy (T,), at the rate of the model, to the denoised (T,).

    Args:
        path: a .safetensors file of `quieten export`, or a checkpoint of a run.
        ablation: the part of the network that is to be missing, by the name that the family's
            `denoise` knows it by; "" for none.

    Raises:
        ConfigError: the file is missing or broken, or the family has no such part.
    """
    family = _family(path)
    parts = {"ablation": ablation} if ablation else {}
    if parts.keys() - inspect.signature(family.denoise).parameters.keys():
        raise ConfigError(f"{path}: there is no {ablation} for this network: it has no such part")

    def denoise(noisy: Waveform) -> Waveform:
        batch = torch.from_numpy(np.ascontiguousarray(noisy))[None]
        denoised: Waveform = family.denoise(batch, **parts)[0].numpy()
        return denoised

    denoise(np.zeros(1000, np.float32))  # an unknown part is known as such before any work
    return denoise


@dataclass(frozen=True)
class CollaborativeModel:
    """A restorer whose discriminator refines every window, as a model of waveforms.

    Attributes:
        family: with its weights.
        info: rate and window.
    """

    family: Restorer
    info: SignalInfo

    def run(self, waveform: Waveform) -> Waveform:
        """Returns the refined windows (B, W) of (B, W)."""
        refined: Waveform = self.family.collaborate(torch.from_numpy(waveform)).numpy()
        return refined


def open_collaborative(source: str) -> CollaborativeModel:
    """Returns a model that refines what it restores.

    Args:
        source: a run folder (its best checkpoint is taken), a checkpoint of it, or a .safetensors
            file of `quieten export`.

    Raises:
        ConfigError: there is none, it is of another family, or it has no discriminator.
    """
    path = Path(source)
    path = path / "best.safetensors" if path.is_dir() else path
    family = _family(path, {"adversarial": 1.0})
    if not isinstance(family, Restorer):
        raise ConfigError(f"{path}: is no restorer: name a run of `quieten train restorer`")
    settings = family.config
    info = SignalInfo(
        name=path.stem,
        family="restorer",
        version=quieten.__version__,
        sample_rate=float(settings.sample_rate),
        window=settings.window,
        phase="any",
        licence="",
        parameters=sum(p.numel() for p in family.updaters["net"].net.parameters()),
        scores={},
        path=path,
        size_bytes=path.stat().st_size,
    )
    return CollaborativeModel(family, info)


def _family(path: Path, loss: dict[str, float] | None = None) -> Any:
    """The family of a file, with its weights, on the CPU in float32."""
    _, numbers = load_checkpoint(path)
    settings: dict[str, Any] = {"device": "cpu", "precision": "float32"}
    if "config" in numbers:  # a checkpoint of a run
        config = checked_section(TrainConfig, numbers["config"] | settings)
        family: Any = FAMILIES[config.family](config)
        restore(family.updaters, path)
        return family
    name = numbers.get("family") or _family_beside(path)
    settings |= {"family": name, "model": numbers["model"], "loss": loss or _losses(name)}
    family = FAMILIES[name](checked_section(TrainConfig, settings))
    start_from(family.updaters, str(path))
    return family


def _losses(name: str) -> dict[str, float]:
    """The weights of the family's published run: some families are not made without any."""
    published = resources.files("quieten.training") / "configs" / f"{name}.toml"
    return load_config(name).loss if published.is_file() else {}


def _family_beside(path: Path) -> str:
    """The family that the ONNX file beside it names: exports of version 0.1 do not."""
    return Model(path.with_suffix(".onnx")).info.family
