"""The training loop, every step in sight. Families differ by their `step`, never by a loop.

A run folder holds config.json, log.csv, validation.csv, last.safetensors and best.safetensors.
Batches depend on (seed, step) alone, so a run that was killed and resumed ends bit for bit where an
uninterrupted one ends.
"""

import logging
import os
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, distributed

from quieten.errors import AudioError, ConfigError, MissingExtra
from quieten.metrics import METRICS
from quieten.training.checkpoint import restore, save
from quieten.training.config import TrainConfig, load_config
from quieten.training.data import Waveform, batches, load_mixer, validation_items
from quieten.training.models import FAMILIES
from quieten.training.optimize import Updater
from quieten.training.progress import CsvLog, Progress, tensorboard_writer

logger = logging.getLogger(__name__)


class Family(Protocol):
    """What the loop needs of a model family."""

    updaters: dict[str, Updater]

    def step(self, noisy: Tensor, clean: Tensor, step: int) -> dict[str, float]:
        """Takes one training step on (B, T) pairs; returns its named losses."""

    def denoise(self, noisy: Tensor) -> Tensor:
        """Returns the denoised (B, T): what is validated and exported."""


def main(
    family: str, config_path: Path | None, overrides: list[str], out: Path, resume: bool
) -> None:
    """Trains a family into a run folder.

    Args:
        config_path: a TOML file; the package's configuration of the family if None.
        overrides: changes such as "optimizer.learning_rate=1e-3".
        out: the run folder; it must be new or empty unless `resume`.

    Raises: ConfigError, AudioError.
    """
    config = load_config(config_path or family, overrides)
    if config.family not in FAMILIES:
        raise ConfigError(f"unknown family {config.family}: known are {', '.join(FAMILIES)}")
    if not resume and (out / "last.safetensors").exists():
        raise ConfigError(f"{out} holds a run already: give --resume or another folder")
    rank, world = start_processes()
    try:
        train(config, out, resume, rank, world)
    finally:
        if distributed.is_initialized():
            distributed.destroy_process_group()


def train(config: TrainConfig, out: Path, resume: bool, rank: int = 0, world: int = 1) -> None:
    """Runs the loop: batch, step, log, validate, checkpoint."""
    prepare_torch(config)
    family: Family = FAMILIES[config.family](config)
    progress_state = restore(family.updaters, out / "last.safetensors") if resume else {}
    first_step = progress_state.get("step", 0)
    best = progress_state.get("best", -float("inf"))
    mixer = load_mixer(config.data)
    validation = validation_items(config.validation, config.data) if rank == 0 else []
    out.mkdir(parents=True, exist_ok=True)
    if rank == 0:
        (out / "config.json").write_text(config.model_dump_json(indent=2))
    log = CsvLog(out / "log.csv", first_step)
    scores_log = CsvLog(out / "validation.csv", first_step + 1)
    board = tensorboard_writer(out) if rank == 0 else None
    with Progress(config.steps, first_step, quiet=rank != 0) as progress:
        for step, noisy, clean in batches(mixer, config.seed, first_step, config.steps, rank):
            torch.manual_seed(config.seed * 1_000_003 + step)  # dropout too is f(seed, step)
            losses = family.step(to_device(noisy, config), to_device(clean, config), step)
            progress.advance(losses)
            if rank != 0:
                continue
            if step % config.log_every_steps == 0:
                log.write(step, losses)
                board.write(step, losses) if board else None
            done = step + 1
            if done % config.validation.every_steps == 0 or done == config.steps:
                scores = validate(family, validation, config)
                scores_log.write(done, scores)
                board.write(done, scores) if board else None
                progress.note(done, scores)
                score = scores[config.validation.select]
                for updater in family.updaters.values():
                    updater.watch(score)
                if score > best:
                    best = score
                    save(family.updaters, out / "best.safetensors", config, done, best)
            if done % config.checkpoint_every_steps == 0 or done == config.steps:
                save(family.updaters, out / "last.safetensors", config, done, best)


def validate(
    family: Family, items: list[tuple[Waveform, Waveform]], config: TrainConfig
) -> dict[str, float]:
    """Returns the mean of every metric that is installed over the fixed validation mixtures."""
    values: dict[str, list[float]] = {name: [] for name in METRICS}
    for noisy, clean in items:
        denoised = family.denoise(to_device(noisy[None], config))[0].cpu().numpy()
        for name, metric in METRICS.items():
            try:
                values[name].append(metric(denoised, clean, config.data.sample_rate))
            except (MissingExtra, AudioError) as error:
                logger.debug("%s: %s", name, error)
    return {name: float(np.mean(v)) for name, v in values.items() if v}


def prepare_torch(config: TrainConfig) -> None:
    """Sets threads and seeds; flushes denormals, which make silence several times slower."""
    torch.set_flush_denormal(True)
    if config.threads:
        torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)


def start_processes() -> tuple[int, int]:
    """Joins the other processes where torchrun started several; returns (rank, how many)."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world > 1:
        distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    return int(os.environ.get("RANK", "0")), world


def to_device(waveform: np.ndarray[Any, np.dtype[np.float32]], config: TrainConfig) -> Tensor:
    """Returns an array as a tensor where the run computes."""
    return torch.from_numpy(np.ascontiguousarray(waveform)).to(config.device)
