"""Trains variants of the telephone model, and of the published one, each on an equal budget.

    python benchmarks/ablations.py DATA RUNS [--only NAME]... [--dry-run]

DATA holds speech_train, speech_valid, noise_train and noise_valid; RUNS takes the runs, and a run
that was stopped goes on. Each variant is one `quieten train` command, which the table shows: the
settings that all of its family share, and its own. All get the same processor time: what costs
more a step takes fewer steps. They are scored on validation speech. Writes two sections of
docs/models.md, unless --dry-run is given. Needs quieten[train,eval,pesq].
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from common import HERE, quieten_train, table, write_section
from quieten.reproduce.clips import add_white_noise, read_clips
from quieten.reproduce.rows import Pair, Row, measure
from quieten.reproduce.vqvae_unet import CONDITIONS, SAMPLE_RATE

PAGE = HERE.parent / "docs" / "models.md"
CLIPS = 10

OURS, PAPER = "vqvae_unet", "vqvae_unet_paper"
SHARED = {"threads": "1", "data.lint": "false", "validation.items": "2"} | {
    "validation.every_steps": "1000"
}
COMMON = {
    OURS: {
        "steps": "100",
        "data.batch_size": "6",
        "model.quantize_from_step": "30",
        "optimizer.warmup_steps": "20",
        "optimizer.ema_decay": "0.95",
    },
    PAPER: {"steps": "80", "model.width": "8", "data.batch_size": "8"},
}
"""Family -> settings of all its variants: small enough for a minute of one processor each."""


@dataclass(frozen=True)
class Variant:
    """What differs from the shipped configuration.

    Attributes:
        about: what the table says.
        changes: key -> value, as `--set` takes it.
        cost: of a step, relative to that of the others.
        family: whose variant it is.
    """

    about: str
    changes: dict[str, str]
    cost: float = 1.0
    family: str = OURS


def published(about: str, **changes: str) -> Variant:
    """Returns a variant of the published model; its changes are settings of the model."""
    return Variant(about, {f"model.{key}": text for key, text in changes.items()}, family=PAPER)


def losses(**weights: float) -> dict[str, str]:
    """Returns the settings under which these terms count, and the commitment, and no other."""
    shipped = ("magnitude", "complex", "waveform", "stoi")
    given = dict.fromkeys(shipped, 0.0) | weights
    return {f"loss.{name}": str(weight) for name, weight in given.items()}


CLEAN = {"model.stage": "clean", "loss.reconstruction": "64.0", "data.snr_db": "[60.0, 60.0]"}
COMPRESSED = {"magnitude": 64.0, "complex": 27.5}
VARIANTS = {
    "base": Variant("as shipped", {}),
    "real": Variant("real part alone, real mask", {"model.input": "real"}),
    "magnitude": Variant("magnitude alone, real mask", {"model.input": "magnitude"}),
    "no-se": Variant("no squeeze-and-excitation", {"model.squeeze_excitation": "false"}),
    "hop-64": Variant("hop 64", {"model.hop_length": "64", "model.window_frames": "384"}, cost=2.0),
    "hop-32": Variant(
        "hop 32, as dense as the paper's 31",
        {"model.hop_length": "32", "model.window_frames": "768"},
        cost=4.0,
    ),
    "mse": Variant("loss: MSE of spectra", losses(mse=1.0)),
    "l1": Variant("loss: L1 of spectra", losses(l1=1.0)),
    "mse-l1": Variant("loss: MSE + 0.5 L1, as the paper", losses(mse=1.0, l1=0.5)),
    "compressed": Variant("loss: compressed spectra", losses(**COMPRESSED)),
    "compressed-1": Variant(
        "loss: compressed spectra, one resolution",
        losses(**COMPRESSED) | {"model.loss_resolutions": "[[512, 128]]"},
    ),
    "snr": Variant("loss: compressed spectra + SNR", losses(**COMPRESSED, waveform=1.5)),
    "mel": Variant("loss: all of ours + mel bands", {"loss.mel": "0.5"}),
    "no-vq": Variant("no quantizer", {"model.quantizer": "none"}),
    "one-book": Variant("one book of 512, as the paper", {"model.codebook_groups": "1"}),
    "residual": Variant(
        "residual: 4 books of 512", {"model.codebook_groups": "1", "model.codebook_depth": "4"}
    ),
    "gradient": Variant(
        "books by gradients, no averages", {"model.quantizer": "gradient", "loss.codebook": "2.0"}
    ),
    "three-skips": Variant("a third skip, deeper", {"model.skips": "[true, true, true]"}),
    "no-skips": Variant("no skips", {"model.skips": "[false, false, false]"}),
    "drop": Variant("30 % of the examples without skips", {"model.skip_dropout": "0.3"}),
    "clean": Variant("(first stage of the next: a code of clean speech)", CLEAN),
    "predict": Variant(
        "books of clean speech, codes predicted",
        {
            "model.stage": "predict",
            "loss.codes": "1.0",
            "start_from": "RUNS/clean/last.safetensors",
        },
    ),
    "paper": published("as the paper says"),
    "paper-real": published("real part alone", parts="real"),
    "paper-pixels": published("codes of pixel runs, not of channels", code_order="pixels"),
    "paper-weights": Variant(
        "0.25 on the codebook term, 1 on the commitment",
        {"loss.codebook": "0.25", "loss.commitment": "1.0"},
        family=PAPER,
    ),
    "paper-piece": published("standardised by the piece", standardise="piece"),
    "paper-no-vq": published("no quantizer", quantizer="none"),
}


def main() -> None:
    """Trains what is not trained yet, scores all, prints the table and writes the section."""
    options = parse()
    names = options.only or list(VARIANTS)
    for name in names:
        train(name, options.data, options.runs / name)
    for family in COMMON:
        own = [name for name in names if VARIANTS[name].family == family]
        text = section(family, [cells(name, options.data, options.runs / name) for name in own])
        print(text)
        if own and not options.dry_run:
            write_section(PAGE, f"ablations-{family}", text)


def parse() -> argparse.Namespace:
    """Returns what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--only", action="append", choices=VARIANTS, help="repeatable")
    parser.add_argument("--dry-run", action="store_true", help="leave the page alone")
    return parser.parse_args()


def settings(name: str) -> dict[str, str]:
    """Returns key -> value of a variant: what all of its family have, and its own."""
    variant = VARIANTS[name]
    common = SHARED | COMMON[variant.family]
    return common | {"steps": str(round(int(common["steps"]) / variant.cost))} | variant.changes


def train(name: str, data: Path, run: Path) -> None:
    """Trains a variant, or goes on with it; a finished run is left as it is."""
    runs = str(run.parent)
    changes = {key: value.replace("RUNS", runs) for key, value in settings(name).items()}
    changes["validation.clean"] = f'["{data / "speech_valid"}"]'
    folders = ["--clean", str(data / "speech_train"), "--noise", str(data / "noise_train")]
    quieten_train(VARIANTS[name].family, changes, run, folders)


def cells(name: str, data: Path, run: Path) -> list[str]:
    """Returns the row of a variant: quality under both conditions, and what its code is worth."""
    from quieten.training.reload import open_denoiser

    weights, clips = run / "last.safetensors", read_clips(data / "speech_valid", SAMPLE_RATE, CLIPS)

    def row(condition: str, ablation: str = "") -> Row:
        denoise = open_denoiser(weights, ablation)
        number = list(CONDITIONS).index(condition)
        pairs = (
            Pair(add_white_noise(clip, CONDITIONS[condition], number), clip.clean, SAMPLE_RATE)
            for clip in clips
        )
        return measure(condition, name, without_clean(denoise), pairs)

    full = {condition: row(condition) for condition in CONDITIONS}
    lost = [row("H", part) for part in ("latent_zeroed", "latent_shuffled", "skips_zeroed")]
    own = {key: value for key, value in settings(name).items() if differs(name, key)}
    return [
        VARIANTS[name].about,
        *(three(full[condition]) for condition in CONDITIONS),
        *(f"{row.means['pesq_nb'][0] - full['H'].means['pesq_nb'][0]:+.2f}" for row in lost),
        *health(run),
        " ".join(f"--set '{key}={value}'" for key, value in own.items()) or "-",
    ]


def differs(name: str, key: str) -> bool:
    """Returns whether a setting of a variant is its own."""
    return settings(name)[key] != (SHARED | COMMON[VARIANTS[name].family]).get(key)


def without_clean(
    denoise: Callable[[NDArray[np.float32]], NDArray[np.float32]],
) -> Callable[[NDArray[np.float32], NDArray[np.float32]], NDArray[np.float32]]:
    """Returns a method as `measure` calls it."""
    return lambda noisy, clean: denoise(noisy)


def three(row: Row) -> str:
    """Returns STOI / PESQ / NSR."""
    stoi, pesq, nsr = (row.means[name][0] for name in ("stoi", "pesq_nb", "nsr"))
    return f"{stoi:.3f} / {pesq:.2f} / {nsr:.3f}"


def health(run: Path) -> list[str]:
    """Returns perplexity and dead entries at the last logged step; "-" without a code."""
    head, *lines = (line.split(",") for line in (run / "log.csv").read_text().splitlines())
    last = dict(zip(head, lines[-1], strict=True))
    return [
        f"{float(last[key]):.0f}" if key in last else "-" for key in ("perplexity", "dead_codes")
    ]


def section(family: str, rows: list[list[str]]) -> str:
    """Returns the table, with the command that all rows share above it."""
    header = ["variant", *(f"{name}: STOI / PESQ / NSR" for name in CONDITIONS)]
    header += ["code zeroed", "shuffled", "no skips", "perplexity", "dead", "settings"]
    common = " ".join(f"--set {key}={value}" for key, value in (SHARED | COMMON[family]).items())
    return (
        f"Every row: `quieten train {family} {common}` and its own settings. Means over {CLIPS} "
        "validation clips; the three columns behind them are changes of PESQ at H.\n\n"
        + table(header, ([*row[:-1], f"`{row[-1]}`"] for row in rows))
    )


if __name__ == "__main__":
    main()
