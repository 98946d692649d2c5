"""Trains variants of the audio restorer on an equal budget, and measures what its extras do.

    python benchmarks/restorer_ablations.py DATA RUNS [--only NAME]... [--dry-run]

DATA holds music_train, music_valid and music_test; RUNS takes the runs, and a run that was stopped
goes on. Each variant is one `quieten train restorer` command on super-resolution from 5 to 10 kHz,
which the table shows; all get about the same processor time. They are scored on the clips of
`quieten reproduce restorer`. Then the discriminator of one variant refines what its generator
makes of the test windows, before and after it was shaped for that; and the shipped model is
measured with more and less of what it adds. Writes three sections of docs/models.md, unless
--dry-run is given. Needs quieten[train,eval].
"""

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from common import HERE, quieten_train, table, write_section
from quieten.audio import read_audio
from quieten.metrics import lsd, snr_db
from quieten.reproduce.restorer import CLIP_S, SEED, TASKS
from quieten.restore import Restorer
from quieten.runtime import Array, Model, ModelInfo, State, load
from quieten.testsets.mixing import write_testset
from quieten.testsets.recipes import Recipe

Waveform = NDArray[np.float32]

PAGE = HERE.parent / "docs" / "models.md"
RATE, CLIPS, WINDOW = 10_000, 10, 8192
STEPS = "sample 5000 10000"

COMMON = {
    "threads": "1",
    "steps": "150",
    "seed": "1",
    "model.sample_rate": str(RATE),
    "model.n_fft": "1024",
    "model.hop_length": "256",
    "model.judge_width": "0.1",
    "data.sample_rate": str(RATE),
    "data.segment_s": "3.2768",
    "data.batch_size": "6",
    "data.preprocessing": STEPS,
    "optimizer.warmup_steps": "20",
    "optimizer.ema_decay": "0.95",
    "loss": "{l2=1.0}",
    "validation.items": "2",
    "validation.every_steps": "1000",
    "validation.preprocessing": STEPS,
}
"""Settings of all variants: small enough for two minutes of one processor each."""

GAN = {
    "model.extras_from_step": "50",
    "model.collaborative_step": "0.03",
    "optimizer.rates": "{discriminator=5e-4}",
}
AUDIOUNET = {
    "model.generator": "audiounet",
    "model.domain": "waveform",
    "model.width": "0.25",
    "model.window": "2048",
    "optimizer.learning_rate": "1e-3",
}
COMPOSITE = "{snr=0.1,lsd=1.0,magnitude=2.0,complex=1.0}"


@dataclass(frozen=True)
class Variant:
    """What differs from the others.

    Attributes:
        about: what the table says.
        changes: key -> value, as `--set` takes it; RUNS stands for the folder of the runs.
        cost: of a step, relative to that of the first variant.
    """

    about: str
    changes: dict[str, str] = field(default_factory=dict)
    cost: float = 1.0


VARIANTS = {
    "l2": Variant("multiscale on spectra, L2"),
    "l2_features": Variant(
        "+ autoencoder's features",
        {
            "loss": "{l2=1.0,features=30}",
            "model.autoencoder": "RUNS/autoencoder/last.safetensors",
        },
        1.2,
    ),
    "l2_gan": Variant("+ discriminator", {"loss": "{l2=1.0,adversarial=3e-4}"} | GAN, 1.3),
    "l2_conditional": Variant(
        "+ discriminator that sees the input",
        {"loss": "{l2=1.0,adversarial=3e-4}", "model.conditional": "true"} | GAN,
        1.3,
    ),
    "l2_both": Variant(
        "+ both",
        {
            "loss": "{l2=1.0,features=30,adversarial=3e-4}",
            "model.autoencoder": "RUNS/autoencoder/last.safetensors",
        }
        | GAN,
        1.5,
    ),
    "waveform": Variant(
        "multiscale on samples, L2",
        {
            "model.domain": "waveform",
            "model.kernels": "[[9],[33],[65]]",
            "model.activation": "prelu",
        },
        1.0,
    ),
    "audiounet": Variant("audiounet, a quarter of the channels, L2", AUDIOUNET, 1.0),
    "audiounet_ours": Variant(
        "the same, SNR + LSD + compressed spectra", AUDIOUNET | {"loss": COMPOSITE}, 1.1
    ),
    "ours": Variant(
        "multiscale on spectra, SNR + LSD + compressed spectra",
        {"loss": COMPOSITE},
        1.1,
    ),
    "ours_gan": Variant(
        "the same + discriminator",
        {"loss": "{snr=0.1,lsd=1.0,magnitude=2.0,complex=1.0,adversarial=0.1}"} | GAN,
        1.4,
    ),
}
REFINED = "ours_gan"
"""The variant whose discriminator refines."""


def main() -> None:
    """Does what the head of the file says."""
    arguments = parse()
    data, runs = arguments.data.resolve(), arguments.runs.resolve()
    items = clips(data, runs)
    train_autoencoder(data, runs)
    rows = []
    for name in arguments.only or VARIANTS:
        train(name, data, runs)
        rows.append(cells(name, runs, items))
        print(*rows[-1][:4], sep="  ", flush=True)
    sections = {"restorer-ablations": ablation_text(rows)}
    if not arguments.only:
        shape(data, runs)
        sections["restorer-collaborative"] = collaborative_text(runs, items)
        sections["restorer-curve"] = curve_text(items)
    for name, text in sections.items():
        print(text)
        if not arguments.dry_run:
            write_section(PAGE, name, text)


def parse() -> argparse.Namespace:
    """Returns what was asked for."""
    parser = argparse.ArgumentParser(description="Train and compare variants of the restorer.")
    parser.add_argument("data", type=Path)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--only", action="append", choices=VARIANTS)
    parser.add_argument("--dry-run", action="store_true")
    return parser.parse_args()


def clips(data: Path, runs: Path) -> list[tuple[Waveform, Waveform]]:
    """Returns pairs (degraded, clean), (T,) each: the first ones of the benchmark."""
    recipe = Recipe(
        (data / "music_test",),
        sample_rate=RATE,
        preprocessing=TASKS["super-resolution"].steps,
        seconds=CLIP_S,
        count=CLIPS,
        seed=SEED,
    )
    items = write_testset(recipe, runs / "clips")
    assert all(item.clean for item in items)
    return [(read_audio(item.noisy)[0][0], read_audio(item.clean or "")[0][0]) for item in items]


def folders(data: Path) -> list[str]:
    """Returns the options that name the recordings."""
    return [
        *("--set", f'data.clean=["{data / "music_train"}"]'),
        *("--set", f'validation.clean=["{data / "music_valid"}"]'),
    ]


def settings(name: str) -> dict[str, str]:
    """Returns key -> value of a variant: what all have, and its own."""
    variant = VARIANTS[name]
    steps = str(round(int(COMMON["steps"]) / variant.cost))
    return COMMON | {"steps": steps} | variant.changes


def train(name: str, data: Path, runs: Path) -> None:
    """Trains a variant."""
    changes = {key: value.replace("RUNS", str(runs)) for key, value in settings(name).items()}
    quieten_train("restorer", changes, runs / name, folders(data))


def train_autoencoder(data: Path, runs: Path) -> None:
    """Trains the autoencoder of the feature loss."""
    changes = {
        "threads": "1",
        "steps": "200",
        "model.sample_rate": str(RATE),
        "data.sample_rate": str(RATE),
        "data.segment_s": "1.6384",
        "data.batch_size": "8",
        "validation.items": "2",
        "validation.every_steps": "1000",
    }
    quieten_train("restorer_ae", changes, runs / "autoencoder", folders(data))


def shape(data: Path, runs: Path) -> None:
    """Trains the discriminator of a variant on what it has refined itself."""
    changes = settings(REFINED) | {
        "steps": "60",
        "start_from": str(runs / REFINED / "last.safetensors"),
        "model.shaping": "true",
        "model.collaborative_most": "10",
        "optimizer.warmup_steps": "1",
        "optimizer.rates": "{discriminator=1e-4}",
    }
    quieten_train("restorer", changes, runs / "shaped", folders(data))


def means(
    restore: Callable[[Waveform], Waveform], items: list[tuple[Waveform, Waveform]]
) -> tuple[float, float]:
    """Returns the mean (SNR dB, LSD) of a method over clips."""
    scores = [
        (snr_db(restored, clean, RATE), lsd(restored, clean, RATE))
        for restored, clean in ((restore(degraded), clean) for degraded, clean in items)
    ]
    snr, distance = np.mean(scores, axis=0)
    return float(snr), float(distance)


def cells(name: str, runs: Path, items: list[tuple[Waveform, Waveform]]) -> list[str]:
    """Returns the row of a variant."""
    from quieten.training.reload import open_denoiser

    snr, distance = means(open_denoiser(runs / name / "last.safetensors"), items)
    before = means(lambda degraded: degraded, items)
    own = {k: v for k, v in settings(name).items() if COMMON.get(k) != v}
    shown = " ".join(f"--set '{key}={value}'" for key, value in own.items()) or "-"
    gained, ratio = snr - before[0], distance / before[1]
    return [
        VARIANTS[name].about,
        f"{snr:.2f}",
        f"{gained:+.2f}",
        f"{distance:.3f}",
        f"{ratio:.2f}",
        shown,
    ]


def ablation_text(rows: list[list[str]]) -> str:
    """Returns the table of the variants, with the command that all rows share above it."""
    common = " ".join(f"--set '{key}={value}'" for key, value in COMMON.items())
    header = ["variant", "SNR dB", "gained", "LSD", "of the input's", "settings"]
    return (
        f"Every row: `quieten train restorer {common}` and its own settings. Means over {CLIPS} "
        "clips of `quieten reproduce restorer`, super-resolution from 5 to 10 kHz.\n\n"
        + table(header, ([*row[:-1], f"`{row[-1]}`"] for row in rows))
    )


def windows(items: list[tuple[Waveform, Waveform]]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yields batches of test windows (degraded, clean), (B, W) each."""
    for degraded, clean in items:
        count = degraded.size // WINDOW
        pair = (sound[: count * WINDOW].reshape(count, WINDOW) for sound in (degraded, clean))
        one, other = (torch.from_numpy(part) for part in pair)
        yield one, other


def judged(run: Path, items: list[tuple[Waveform, Waveform]]) -> list[str]:
    """Returns what the discriminator of a run says before and after it has refined windows."""
    from quieten.training.reload import open_collaborative

    family = open_collaborative(str(run / "last.safetensors")).family
    lost = family.config.n_fft - family.config.hop_length
    judge = family.updaters["discriminator"].averaged
    verdicts: dict[str, list[bool]] = {"before": [], "after": [], "clean": []}
    scores: dict[str, list[tuple[float, float]]] = {"before": [], "after": []}
    moves: list[int] = []
    for degraded, clean in windows(items):
        made, alone = family.refined(torch.nn.functional.pad(degraded, (0, lost)))
        with torch.no_grad():
            real = judge(*family.pieces(clean, degraded))
        verdicts["before"] += (made.before > 0).tolist()
        verdicts["after"] += (made.after > 0).tolist()
        verdicts["clean"] += (real > 0).tolist()
        moves += made.moves.tolist()
        for name, sounds in (("before", alone), ("after", made.waveform)):
            for sound, target in zip(sounds.numpy(), clean.numpy(), strict=True):
                if np.abs(target).max() > 1e-3:
                    score = snr_db(sound, target, RATE), lsd(sound, target, RATE)
                    scores[name].append(score)
    accepted = [f"{100 * np.mean(verdicts[name]):.0f} %" for name in ("clean", "before", "after")]
    figures = [
        f"{np.mean([score[place] for score in scores[name]]):.{2 + place}f}"
        for place in (0, 1)
        for name in ("before", "after")
    ]
    return [*accepted, f"{np.mean(moves):.1f}", *figures]


def collaborative_text(runs: Path, items: list[tuple[Waveform, Waveform]]) -> str:
    """Returns the table of collaborative sampling, before and after shaping."""
    header = ["discriminator", "accepts clean", "made", "refined", "moves"]
    header += ["SNR made", "refined", "LSD made", "refined"]
    rows = [
        ["as trained", *judged(runs / REFINED, items)],
        ["shaped", *judged(runs / "shaped", items)],
    ]
    return (
        f"On windows of {WINDOW} samples of the same clips. The generator is the same in both "
        "rows; shaping goes on with the discriminator alone, on what it has refined.\n\n"
        + table(header, rows)
    )


class Dosed:
    """A model that adds more or less than it would."""

    level_dependent = False

    def __init__(self, model: Model, dose: float) -> None:
        self._model, self._dose = model, np.float32(dose)

    @property
    def info(self) -> ModelInfo:
        """That of the model."""
        return self._model.info

    def initial_state(self, batch: int) -> State:
        """None."""
        return self._model.initial_state(batch)

    def run(self, spectrum: Array, state: State) -> tuple[Array, State]:
        """Returns the mask and the dose of what is added."""
        answer, state = self._model.run(spectrum, state)
        answer[..., 2:] *= self._dose
        return answer, state


def curve_text(items: list[tuple[Waveform, Waveform]]) -> str:
    """Returns what SNR and LSD are with other amounts of what the shipped model adds."""
    model = load("piano-sr")
    rows = []
    before = means(lambda degraded: degraded, items)
    for dose in (0.0, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0):
        restorer = Restorer(model=Dosed(model, dose), rate=RATE)
        snr, distance = means(lambda degraded, tool=restorer: tool(degraded, RATE), items)
        gained, ratio = snr - before[0], distance / before[1]
        rows.append(
            [f"{dose:g}", f"{snr:.2f}", f"{gained:+.2f}", f"{distance:.3f}", f"{ratio:.2f}"]
        )
    return table(["share of what it adds", "SNR dB", "gained", "LSD", "of the input's"], rows)


if __name__ == "__main__":
    main()
