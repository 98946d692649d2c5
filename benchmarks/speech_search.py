"""Trains candidates for the speech model, each for the same processor time, and compares them.

    python benchmarks/speech_search.py DATA RUNS [--minutes 4] [--rir FOLDER] [--start WEIGHTS]
        [--tuning-minutes 12] [--only NAME]... [--dry-run]

DATA holds speech_train, speech_valid, noise_train and noise_valid; RUNS takes the runs, and a run
that was stopped goes on. A candidate is one `quieten train realtime` command, which the table
shows: it takes as many steps as fit into the minutes on one core. Most begin with nothing; those
that try a loss of fine-tuning begin with WEIGHTS, a .safetensors file of `quieten export` with its
.onnx beside it. Each is scored on the voices and noises that it learnt from and on those of
validation: what lies between is what variety would close. Writes two sections of docs/models.md,
unless --dry-run is given. Needs quieten[train,eval,pesq].
"""

import argparse
import json
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from common import HERE, quieten_train, table, write_section
from quieten import Denoiser
from quieten.metrics import METRICS
from quieten.runtime import load
from quieten.training.config import DataConfig, TrainConfig, ValidationConfig, load_config
from quieten.training.data import batches, load_mixer, validation_items
from quieten.training.export import main as export
from speech_variants import FAMILIES, PROGRAM

PAGE = HERE.parent / "docs" / "models.md"
MEASURED = {"pesq_wb": 3, "stoi": 3, "si_sdr_db": 2, "dnsmos_ovrl": 2}  # decimals
RATE = 16_000
PROBED_STEPS = 6
SOUND_S = 20

SHARED = {
    "threads": "1",
    "data.lint": "false",
    "validation.every_steps": "100000",
}
"""What all have; only the end of a run is validated."""

BEGINNING = {
    "optimizer.hold_share": "0.1",
    "optimizer.learning_rate": "2e-3",
    "optimizer.warmup_steps": "100",
    "optimizer.ema_decay": "0.99",
}
"""What suits a run of minutes that begins with nothing."""

FINE_TUNING = {
    "seed": "2",
    "optimizer.hold_share": "0",
    "optimizer.learning_rate": "6e-4",
    "optimizer.warmup_steps": "30",
    "optimizer.ema_decay": "0.995",
}
"""What suits a run of minutes that goes on from a long one."""


@dataclass(frozen=True)
class Candidate:
    """What differs from the shipped configuration.

    Attributes:
        about: what the table says.
        changes: key -> value, as `--set` takes it.
        fine_tuned: whether it begins with weights.
    """

    about: str
    changes: dict[str, str] = field(default_factory=dict)
    fine_tuned: bool = False


def judged(about: str, **weights: str) -> Candidate:
    """Returns a candidate that is fine-tuned with more terms in its loss."""
    changes = {f"loss.{name}": weight for name, weight in weights.items()}
    return Candidate(about, changes, fine_tuned=True)


CANDIDATES = {
    "shipped": Candidate("as shipped"),
    "narrow": Candidate("half as wide at 64 bands", {"model.channels": "[16, 32, 64]"}),
    "dense": Candidate(
        "narrow, more memory across bands, less along them",
        {
            "model.channels": "[16, 16, 32]",
            "model.full_band": "320",
            "model.sub_band_layers": "1",
        },
    ),
    "coded": Candidate(
        "a codebook as bottleneck, 4 x 256 entries a band", {"family": "realtime_coded"}
    ),
    "taught": Candidate("a code of clean speech as teacher", {"family": "realtime_taught"}),
    "offline": Candidate("recurrences in both directions: offline", {"family": "realtime_offline"}),
    "spectra": Candidate(
        "loss without listening terms",
        {"loss": "{magnitude=70.0,complex=30.0,waveform=0.2}"},
    ),
    "start": judged("what they begin with"),
    "tuned": judged("loss as shipped"),
    "metric": judged("+ discriminator that learns PESQ", metric="10.0"),
    "spectrograms": judged(
        "+ discriminators of three spectrograms", adversarial="0.5", features="2.0"
    ),
    "tuned-taught": Candidate(
        "+ a code of clean speech as teacher", {"family": "realtime_taught"}, fine_tuned=True
    ),
    "tuned-plain": Candidate(
        "loss as shipped, recorded sounds as they are",
        {
            "data.made_noise": "0",
            "data.babble": "0",
            "data.second_noise": "0",
            "data.noise_speed": "[1, 1]",
            "data.noise_reverb": "0",
            "data.reverse": "0",
            "data.speed": "[1, 1]",
            "data.formants": "[1, 1]",
            "data.equalize": "0",
        },
        fine_tuned=True,
    ),
}


def main() -> None:
    """Trains what is not trained yet, prints the tables and writes the sections."""
    options = parse()
    for fine_tuned, name in ((False, "speech-search"), (True, "speech-tuning")):
        wanted = [
            key
            for key, candidate in CANDIDATES.items()
            if candidate.fine_tuned == fine_tuned and (not options.only or key in options.only)
        ]
        if fine_tuned and not options.start:
            continue
        rows = [row(key, options) for key in wanted]
        stage = FINE_TUNING if fine_tuned else BEGINNING
        text = section(minutes(options, fine_tuned), stage, rows)
        print(text)
        if rows and not options.dry_run:
            write_section(PAGE, name, text)


def parse() -> argparse.Namespace:
    """Returns what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--minutes", type=float, default=4.0, help="of one core, each")
    parser.add_argument("--tuning-minutes", type=float, default=12.0, help="of what is fine-tuned")
    parser.add_argument("--rir", type=Path, metavar="FOLDER", help="measured room responses")
    parser.add_argument("--start", type=Path, metavar="WEIGHTS", help="what is fine-tuned")
    parser.add_argument("--only", action="append", choices=CANDIDATES, help="repeatable")
    parser.add_argument("--dry-run", action="store_true", help="leave the page alone")
    return parser.parse_args()


def minutes(options: argparse.Namespace, fine_tuned: bool) -> float:
    """Returns how long candidates are trained."""
    return float(options.tuning_minutes if fine_tuned else options.minutes)


def row(name: str, options: argparse.Namespace) -> list[str]:
    """Trains and measures a candidate, or goes on with it; returns its row."""
    run, candidate = options.runs / name, CANDIDATES[name]
    kept = run / "row.json"
    if kept.exists():
        return list(json.loads(kept.read_text()))
    changes = settings(name, options.data, options.start, options.rir)
    config = configured(changes, run)
    steps, model = 0, Path(options.start or "").with_suffix(".onnx")
    if name != "start":
        steps = affordable_steps(config, run, minutes(options, candidate.fine_tuned))
        model = trained(changes | {"steps": str(steps)}, run)
    known = config.validation.model_copy(
        update={"clean": config.data.clean, "noise": config.data.noise}
    )
    denoiser, sets = Denoiser(model), (known, config.validation)
    own = " ".join(f"--set '{key}={value}'" for key, value in candidate.changes.items())
    cells = [
        candidate.about,
        f"{load(model).info.parameters:,}",
        f"{macs_per_s(config) / 1e6:.0f}",
        f"{real_time_factor(denoiser):.4f}",
        str(steps),
        *(scored(denoiser, validation, config.data) for validation in sets),
        f"`{own}`" if own else "-",
    ]
    run.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps(cells))
    return cells


def trained(changes: dict[str, str], run: Path) -> Path:
    """Trains, or goes on; returns the model file."""
    quieten_train("realtime", changes, run, [], PROGRAM)
    model = run / "model.onnx"
    if not model.exists():
        export(run / "last.safetensors", model, None)
    return model


def settings(
    name: str, data: Path, start: Path | None = None, rir: Path | None = None
) -> dict[str, str]:
    """Returns key -> value of a candidate: what all have, and its own."""
    candidate = CANDIDATES[name]
    folders = {
        f"{section}.{kind}": f'["{data / folder}_{split}"]'
        for section, split in (("data", "train"), ("validation", "valid"))
        for kind, folder in (("clean", "speech"), ("noise", "noise"))
    }
    if rir:
        folders["data.rir"] = f'["{rir}"]'
    stage = FINE_TUNING | {"start_from": str(start)} if candidate.fine_tuned else BEGINNING
    return SHARED | stage | folders | candidate.changes


def configured(changes: dict[str, str], run: Path) -> TrainConfig:
    """Returns the configuration of a run."""
    changes = {**changes, "data.cache": f"{run.parent}/cache"}
    return load_config("realtime", [f"{key}={value}" for key, value in changes.items()])


def affordable_steps(config: TrainConfig, run: Path, budget_minutes: float) -> int:
    """Returns how many steps fit, mixing included; measured once for each run."""
    kept = run / "steps.json"
    if kept.exists():
        return int(json.loads(kept.read_text()))
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    family, mixer, began = FAMILIES[config.family](config), load_mixer(config.data), 0.0
    for step, noisy, clean in batches(mixer, config.seed, 0, PROBED_STEPS + 1):
        if step == 1:  # the first one is slow
            began = time.process_time()
        family.step(torch.from_numpy(noisy), torch.from_numpy(clean), step)
    steps = round(60 * budget_minutes * PROBED_STEPS / (time.process_time() - began))
    run.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps(steps))
    return steps


def scored(denoiser: Denoiser, validation: ValidationConfig, data: DataConfig) -> str:
    """Returns the means of the metrics as the table shows them."""
    pairs = [(denoiser(noisy, RATE), clean) for noisy, clean in validation_items(validation, data)]
    means = {
        name: np.mean([METRICS[name](denoised, clean, RATE) for denoised, clean in pairs])
        for name in MEASURED
    }
    return " / ".join(f"{means[name]:.{decimals}f}" for name, decimals in MEASURED.items())


def real_time_factor(denoiser: Denoiser) -> float:
    """Returns processor seconds for each second of sound, the best of three."""
    sound = np.random.default_rng(1).standard_normal(SOUND_S * RATE).astype(np.float32) * 0.1
    times = []
    for _ in range(3):
        began = time.process_time()
        denoiser(sound, RATE)
        times.append((time.process_time() - began) / SOUND_S)
    return min(times)


def macs_per_s(config: TrainConfig) -> float:
    """Returns the multiplications that convolutions, recurrences and matrices need a second."""
    net, counts = FAMILIES[config.family](config).updaters["net"].net, []

    def count(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        weights = sum(p.numel() for p in layer.parameters() if p.ndim > 1)
        if isinstance(layer, nn.ConvTranspose2d):
            counts.append(weights * inputs[0].numel() / layer.in_channels)
        elif isinstance(layer, nn.Conv2d):
            counts.append(weights * output.numel() / layer.out_channels)
        else:  # for every vector that comes
            counts.append(weights * inputs[0].numel() / inputs[0].shape[-1])

    for layer in net.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.LSTM | nn.Linear):
            layer.register_forward_hook(count)
    frames = 4
    with torch.no_grad():
        net(torch.zeros(1, frames, net.config.n_fft // 2 + 1, 2), net.initial_state(1))
    return sum(counts) / frames * net.config.sample_rate / net.config.hop_length


def section(budget_minutes: float, stage: dict[str, str], rows: list[list[str]]) -> str:
    """Returns the table, with what all rows share above it."""
    header = ["candidate", "parameters", "million MACs/s", "real-time factor", "steps"]
    header += ["known voices and noises: PESQ-WB / STOI / SI-SDR dB / DNSMOS", "validation"]
    header += ["settings"]
    common = " ".join(f"--set {key}={value}" for key, value in (SHARED | stage).items())
    return (
        f"Every row: {budget_minutes:.0f} minutes of one core, `quieten train realtime {common}` "
        f"and its own settings.\n\n{table(header, rows)}"
    )


if __name__ == "__main__":
    main()
