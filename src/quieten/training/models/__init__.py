"""The families of models, by name. A family is one file; it knows no other family."""

from typing import Protocol

from torch import Tensor

from quieten.training.config import Section, TrainConfig
from quieten.training.exportable import Exportable, WaveformExportable
from quieten.training.models.realtime import Realtime
from quieten.training.models.restorer import Restorer, RestorerAE
from quieten.training.models.signal_gan import SignalGAN
from quieten.training.models.vqvae_clean import VQVAEClean
from quieten.training.models.vqvae_unet import VQVAEUNet
from quieten.training.models.vqvae_unet_paper import VQVAEUNetPaper
from quieten.training.optimize import Updater


class Family(Protocol):
    """What training and export need of a family."""

    config_class: type[Section]
    updaters: dict[str, Updater]

    def __init__(self, config: TrainConfig) -> None: ...

    def step(self, noisy: Tensor, clean: Tensor, step: int) -> dict[str, float]:
        """Takes one training step on (B, T) pairs; returns its named losses."""

    def denoise(self, noisy: Tensor) -> Tensor:
        """Returns the denoised (B, T): what is validated and exported."""

    def exportable(self) -> Exportable | WaveformExportable:
        """Returns the averaged network as ONNX is to have it.

        Raises: ConfigError if it has no such form.
        """


FAMILIES: dict[str, type[Family]] = {
    "realtime": Realtime,
    "restorer": Restorer,
    "restorer_ae": RestorerAE,
    "signal_gan": SignalGAN,
    "vqvae_clean": VQVAEClean,
    "vqvae_unet": VQVAEUNet,
    "vqvae_unet_paper": VQVAEUNetPaper,
}
