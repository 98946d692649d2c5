"""The training loop, every step in sight. Families differ by their `step`, never by a loop.

A run folder holds config.json, log.csv, validation.csv, last.safetensors and best.safetensors.
Batches depend on (seed, step) alone, so a run that was killed and resumed ends bit for bit where an
uninterrupted one ends.
"""

import logging
import math
import os
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, distributed

from quieten.degrade import Waveform
from quieten.errors import AudioError, ConfigError, MissingExtra
from quieten.metrics import LOWER_IS_BETTER, METRICS, NEUTRAL
from quieten.training.checkpoint import restore, save, start_from
from quieten.training.config import TrainConfig, ValidationConfig, load_config
from quieten.training.data import Source, batches, load_mixer, validation_items
from quieten.training.degraded import load_degrader, pipeline_of, validation_pairs
from quieten.training.lint import lint, summarize
from quieten.training.models import FAMILIES, Family
from quieten.training.pictures import draw_curves, draw_spectrograms, new_figure
from quieten.training.progress import Board, CsvLog, Progress, tensorboard_writer
from quieten.training.signals import (
    LOWEST_IS_BEST,
    check_signals,
    load_signals,
    measure,
    validation_signals,
)

logger = logging.getLogger(__name__)


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
    check_settings(config)
    if not resume and (out / "last.safetensors").exists():
        raise ConfigError(f"{out} holds a run already: give --resume or another folder")
    config, rank = start_processes(config)
    try:
        if rank == 0:
            check_data(config)
        if distributed.is_initialized():
            distributed.barrier()  # the first process has filled the cache for all
        train(config, out, resume, rank)
    finally:
        if distributed.is_initialized():
            distributed.destroy_process_group()


def train(config: TrainConfig, out: Path, resume: bool, rank: int = 0) -> None:
    """Runs the loop: batch, step, log, validate, checkpoint."""
    prepare_torch(config)
    family = FAMILIES[config.family](config)
    progress_state = restore(family.updaters, out / "last.safetensors") if resume else {}
    if config.start_from and not resume:
        start_from(family.updaters, config.start_from)
    first_step = progress_state.get("step", 0)
    best = progress_state.get("best", -float("inf"))
    best_step = progress_state.get("best_step", 0)
    last_step = first_step if waited_enough(config, first_step, best_step) else config.steps
    source = load_source(config)
    validation = load_validation(config) if rank == 0 else []
    select = config.validation.select
    sign = -1.0 if select in LOWEST_IS_BEST | LOWER_IS_BETTER else 1.0
    step_logs, score_logs = open_logs(config, out, first_step) if rank == 0 else ([], [])
    with Progress(config.steps, first_step, quiet=rank != 0) as progress:
        for step, noisy, clean in batches(source, config.seed, first_step, last_step, rank):
            torch.manual_seed(config.seed * 1_000_003 + step)  # dropout too is f(seed, step)
            losses = family.step(to_device(noisy, config), to_device(clean, config), step)
            progress.advance(losses)
            done = step + 1
            if step % config.log_every_steps == 0:
                write(step_logs, step, losses)
            if done % config.validation.every_steps == 0 or done == config.steps:
                scores = validate(family, validation, config)
                score = from_first_process(sign * scores.get(select, -sign * math.inf), config)
                for updater in family.updaters.values():
                    updater.watch(score)
                write(score_logs, done, scores)
                progress.note(done, scores)
                draw(family, validation, config, out)
                if score > best:
                    best, best_step = score, done
                    if rank == 0:
                        save(family.updaters, out / "best.safetensors", config, done, best)
            ends = done == config.steps or waited_enough(config, done, best_step)
            if rank == 0 and (done % config.checkpoint_every_steps == 0 or ends):
                save(family.updaters, out / "last.safetensors", config, done, best, best_step)
            if ends:
                break


def load_source(config: TrainConfig) -> Source:
    """Returns what batches come from."""
    if config.data.kind == "signals":
        return load_signals(config)
    if config.data.kind == "degraded":
        return load_degrader(config)
    return load_mixer(config.data)


def waited_enough(config: TrainConfig, done: int, best_step: int) -> bool:
    """Returns whether `validation.patience` validations have passed since the best."""
    validation = config.validation
    patience = validation.patience * validation.every_steps
    return 0 < patience <= done - best_step


def check_settings(config: TrainConfig) -> None:
    """Finds what would stop the run later.

    Raises: ConfigError that names the setting; MissingExtra if pictures cannot be drawn.
    """
    if config.family not in FAMILIES:
        raise ConfigError(f"unknown family {config.family}: known are {', '.join(FAMILIES)}")
    if config.data.kind == "signals":
        check_signals(config)
        return
    check_metrics(config.validation)
    if config.pictures:
        new_figure(1, 1)  # what is missing fails now
    needed = ["data.clean", "validation.clean"]
    if config.data.kind == "degraded":
        pipeline_of(config.data)
    else:
        needed += ["data.noise", "validation.noise"]
    for name in needed:
        section, _, key = name.partition(".")
        if not getattr(getattr(config, section), key):
            raise ConfigError(f"{name} names no folder: --set '{name}=[\"FOLDER\"]'")


def check_metrics(config: ValidationConfig) -> None:
    """Finds metrics that do not exist, and one to select by that tells nothing.

    Raises: ConfigError that names the setting.
    """
    for name in config.metrics:
        if name not in METRICS:
            raise ConfigError(
                f"validation.metrics: no metric is called {name}: choose among {', '.join(METRICS)}"
            )
    telling = [name for name in config.metrics if name not in NEUTRAL]
    if config.select not in telling:
        raise ConfigError(
            f"validation.select: {config.select} is none of validation.metrics that tell better "
            f"from worse: choose among {', '.join(telling)}"
        )


def check_data(config: TrainConfig) -> None:
    """Prints what the linter finds in the folders.

    Raises: ConfigError if training material leaks into validation or test.
    """
    if config.data.kind != "speech":
        return  # what speech must not be, other sound may be
    findings = lint(config) if config.data.lint else []
    if findings:
        print(summarize(findings), file=sys.stderr)
    leaks = [finding for finding in findings if finding.kind == "leaked"]
    if leaks and not config.data.allow_leaks:
        raise ConfigError(
            f"{leaks[0].file} is {leaks[0].detail}, {len(leaks)} leaks in all: remove them from "
            "training, or set data.allow_leaks=true"
        )


def open_logs(
    config: TrainConfig, out: Path, first_step: int
) -> tuple[list[CsvLog | Board], list[CsvLog | Board]]:
    """Writes the configuration into the run folder; returns where losses and scores go."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "config.json").write_text(config.model_dump_json(indent=2))
    board = tensorboard_writer(out)
    boards = [board] if board else []
    losses = CsvLog(out / "log.csv", first_step)
    return [losses, *boards], [CsvLog(out / "validation.csv", first_step + 1), *boards]


def write(logs: Sequence[CsvLog | Board], step: int, values: dict[str, float]) -> None:
    """Adds a row, or a point to each curve, to every log."""
    for log in logs:
        log.write(step, values)


def load_validation(config: TrainConfig) -> list[tuple[Waveform, Waveform]]:
    """Returns fixed pairs (noisy, clean), each (T,), for which all metrics can be computed."""
    if config.data.kind == "signals":
        return list(zip(*validation_signals(config), strict=True))
    if config.data.kind == "degraded":
        items = validation_pairs(config)
    else:
        items = validation_items(config.validation, config.data)
    METRICS[config.validation.select](*items[0], config.data.sample_rate)  # what is missing fails
    return items


def validate_signals(
    family: Family, items: list[tuple[Waveform, Waveform]], config: TrainConfig
) -> dict[str, float]:
    """Returns the means of the metrics over fixed signals, which all have the same length."""
    noisy, clean = (np.stack(parts) for parts in zip(*items, strict=True))
    pieces = [to_device(part, config) for part in np.array_split(noisy, -(-len(noisy) // 256))]
    denoised = np.concatenate([family.denoise(piece).cpu().numpy() for piece in pieces])
    values = measure(denoised, clean, noisy)
    return {name: values[name] for name in config.validation.metrics}


def validate(
    family: Family, items: list[tuple[Waveform, Waveform]], config: TrainConfig
) -> dict[str, float]:
    """Returns the means of the metrics that are installed over the fixed validation mixtures."""
    if config.data.kind == "signals":
        return validate_signals(family, items, config)
    values: dict[str, list[float]] = {name: [] for name in config.validation.metrics}
    for noisy, clean in items:
        denoised = family.denoise(to_device(noisy[None], config))[0].cpu().numpy()
        for name in values:
            try:
                values[name].append(METRICS[name](denoised, clean, config.data.sample_rate))
            except (MissingExtra, AudioError) as error:
                logger.debug("%s: %s", name, error)
    return {name: float(np.mean(v)) for name, v in values.items() if v}


def draw(
    family: Family, items: list[tuple[Waveform, Waveform]], config: TrainConfig, out: Path
) -> None:
    """Writes curves.png and spectrograms.png of the first item, if the run is to have pictures."""
    if not config.pictures or not items:
        return
    noisy, clean = items[0]
    denoised = family.denoise(to_device(noisy[None], config))[0].cpu().numpy()
    sounds = {"clean": clean, "noisy": noisy, "denoised": denoised}
    draw_spectrograms(sounds, config.data.sample_rate, out / "spectrograms.png")
    draw_curves(out)


def prepare_torch(config: TrainConfig) -> None:
    """Sets threads and seeds; flushes denormals, which make silence several times slower."""
    torch.set_flush_denormal(True)
    if config.threads:
        torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)


def start_processes(config: TrainConfig) -> tuple[TrainConfig, int]:
    """Joins the other processes where torchrun started several; returns (config, rank).

    On GPUs each process gets its own.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return config, 0
    on_gpu = config.device.startswith("cuda")
    if on_gpu:
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(device)
        config = config.model_copy(update={"device": device})
    # the others wait while the first decodes the data or validates
    distributed.init_process_group("nccl" if on_gpu else "gloo", timeout=timedelta(hours=2))
    return config, distributed.get_rank()


def from_first_process(value: float, config: TrainConfig) -> float:
    """Returns the value that process 0 has, so that all take the same decisions."""
    if not distributed.is_initialized():
        return value
    box = torch.tensor([value], dtype=torch.float64, device=config.device)
    distributed.broadcast(box, 0)
    return box.item()


def to_device(waveform: np.ndarray[Any, np.dtype[np.float32]], config: TrainConfig) -> Tensor:
    """Returns an array as a tensor where the run computes."""
    return torch.from_numpy(np.ascontiguousarray(waveform)).to(config.device)
