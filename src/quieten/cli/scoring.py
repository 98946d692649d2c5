"""The verb `score`: how clean sounds are, without their clean originals."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from quieten.cli.console import (
    FAILED,
    AsJson,
    app,
    complain,
    duration_text,
    finite,
    say,
    say_json,
    say_table,
)
from quieten.errors import AudioError, ConfigError, MissingExtra

if TYPE_CHECKING:
    from quieten.score import Score, Scorer

BLOCK_LENGTH = 65_536  # samples read at once


@dataclass(frozen=True)
class Scored:
    """A file and its score."""

    path: Path
    score: "Score"


@app.command()
def score(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="Sounds to judge.", show_default=False)
    ],
    plot: Annotated[
        Path | None,
        typer.Option(
            metavar="PNG", help="Also draw the curves, a value a second (needs quieten[eval])."
        ),
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Another exported model of the family vqvae_clean."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Judge speech without its clean original: higher is cleaner, clean speech has 0.4 to 0.7."""
    from quieten.score import Scorer

    if plot and plot.suffix.lower() != ".png":
        raise ConfigError(f"--plot {plot}: name a .png file")
    scorer, scored = Scorer(model), []
    for path in files:
        try:
            scored.append(Scored(path, score_file(scorer, path)))
        except AudioError as error:
            complain(str(error))
    _print_scores(scored, as_json)
    if plot and scored:
        draw(scored, plot)
        say(f"wrote {plot}", is_talk=True)
    if len(scored) < len(files):
        raise typer.Exit(FAILED)


def score_file(scorer: "Scorer", path: Path) -> "Score":
    """Returns the score of a sound file.

    Raises:
        AudioError: the file cannot be read.
    """
    from quieten.audio import AudioReader

    with AudioReader(path) as reader:
        return scorer.score(reader.blocks(BLOCK_LENGTH), reader.info.sample_rate)


def to_json(scored: Scored) -> dict[str, Any]:
    """Returns what a machine reads: null stands for silence."""
    result = scored.score
    return {
        "file": str(scored.path),
        "score": finite(result.value),
        "duration_s": result.duration_s,
        "curve": [finite(value) for value in result.curve.tolist()],
    }


def _print_scores(scored: list[Scored], as_json: bool) -> None:
    if as_json:
        say_json([to_json(entry) for entry in scored])
    elif scored:
        say_table([["score", "lowest", "at", "duration", "file"], *map(_row, scored)])


def _row(scored: Scored) -> list[str]:
    result = scored.score
    duration = duration_text(result.duration_s)
    heard = [(value, at) for at, value in enumerate(result.curve.tolist()) if not math.isnan(value)]
    if not heard:
        return [_number(result.value), "-", "-", duration, str(scored.path)]
    lowest, at = min(heard)
    return [_number(result.value), _number(lowest), f"{at} s", duration, str(scored.path)]


def _number(value: float) -> str:
    return "silence" if math.isnan(value) else f"{value:.3f}"


def draw(scored: list[Scored], path: Path) -> None:
    """Writes the curves of scored files as a picture; seconds of silence are gaps.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure  # not pyplot: no window, no global state
    except ImportError as error:
        raise MissingExtra("eval", "drawing a curve") from error
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    axes = figure.subplots()
    for entry in scored:
        seconds = [at + 0.5 for at in range(entry.score.curve.size)]
        label = f"{entry.path.name}: {_number(entry.score.value)}"
        axes.plot(seconds, entry.score.curve, marker=".", label=label)
    axes.set(xlabel="time (s)", ylabel="score (higher is cleaner)")
    axes.grid(alpha=0.3)
    axes.legend()
    temporary = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(temporary, format="png", dpi=120)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
