"""The verb `reproduce`: published systems measured again, ours beside them."""

import json
import os
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from quieten.cli.console import (
    Texts,
    app,
    complain,
    counting_bar,
    extra_train,
    refuse,
    say,
    say_table,
)
from quieten.errors import ConfigError

if TYPE_CHECKING:
    from quieten.evaluation.tables import Json
    from quieten.reproduce.restorer import Reproduction as Restoration
    from quieten.reproduce.rows import Waveform
    from quieten.reproduce.signal_gan import Benchmark
    from quieten.reproduce.vqvae_unet import Reproduction

SPEECH, MUSIC = Path("../shared/data/speech_test"), Path("../shared/data/music_test")
ROOMS = Path("../shared/data/rir")


class System(StrEnum):
    """The systems whose benchmarks can be run."""

    VQVAE_UNET = "vqvae_unet"
    SIGNAL_GAN = "signal_gan"
    RESTORER = "restorer"


Curves = Annotated[
    Path | None,
    typer.Option(
        metavar="RUN",
        help="signal_gan: only draw what the discriminator did in this run of training, into its "
        "folder (or that of --picture).",
    ),
]


@app.command()
def reproduce(
    system: Annotated[System, typer.Argument(help="The system.", show_default=False)],
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="vqvae_unet: clean speech to test on; restorer: clean music.",
            show_default=f"{SPEECH}; {MUSIC}",
        ),
    ] = None,
    rir: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="restorer: room responses; where some are called test*, only these.",
            show_default=str(ROOMS),
        ),
    ] = None,
    weights: Annotated[
        Texts,
        typer.Option(
            metavar="METHOD=PATH",
            help="An .onnx or .safetensors file for ours, paper or best_without_vq; signal_gan: "
            ".onnx for ours, paper or general; restorer: TASK:METHOD=FILE.onnx; repeatable. "
            "Default: the installed models.",
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(metavar="N", help="At most N clips or signals.")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE")] = None,
    picture: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="signal_gan: draw eight examples into this folder; restorer: spectrograms.",
        ),
    ] = None,
    curves: Curves = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="DIR",
            help="restorer: sounds and scores, used again by the next run.",
            show_default="evaluations/restorer",
        ),
    ] = None,
    report: Annotated[
        bool, typer.Option("--report", help="restorer: a page to look and listen per task, in -o.")
    ] = False,
) -> None:
    """Measure a published system again, ours beside it (needs quieten[eval]; speech: [pesq])."""
    files = dict(_weights(text) for text in weights or [])
    if system != System.RESTORER:
        refuse(system, {"--rir": rir, "--output": out, "--report": report or None})
    if system == System.SIGNAL_GAN:
        refuse(system, {"--data": data})
        if curves:
            _draw_curves(curves, picture or curves)
        else:
            _reproduce_signals(files, limit, json_file, picture)
    elif system == System.RESTORER:
        refuse(system, {"--curves": curves})
        place = out or Path("evaluations", "restorer")
        result = _reproduce_music(data or MUSIC, rir or ROOMS, place, files, limit, json_file)
        if report:
            _write_reports(result, place)
        if picture:
            _draw_tasks(result, picture)
    else:
        refuse(system, {"--picture": picture, "--curves": curves})
        _reproduce_speech(data or SPEECH, files, limit, json_file)


def _reproduce_speech(
    data: Path, files: dict[str, Path], limit: int | None, json_file: Path | None
) -> None:
    from quieten.reproduce.vqvae_unet import reproduce as run

    with counting_bar(f"measuring {System.VQVAE_UNET}") as progress:
        result = run(data, _open_torch, weights=files, limit=limit, progress=progress)
    _print_result(result)
    if json_file:
        _write_json(result.to_json(), json_file)


def _reproduce_music(
    data: Path,
    rooms: Path,
    out: Path,
    files: dict[str, Path],
    limit: int | None,
    json_file: Path | None,
) -> "Restoration":
    from quieten.reproduce.restorer import PUBLISHED, WHY_NOT_COMPARABLE, text_table
    from quieten.reproduce.restorer import reproduce as run

    with counting_bar(f"measuring {System.RESTORER}") as progress:
        result = run(
            data,
            rooms,
            out,
            weights=files,
            limit=limit,
            workers=os.cpu_count() or 1,
            progress=progress,
        )
    say("mean ± half the 95 % interval over the clips; gained and ratio: against the input")
    say_table(text_table(result.rows))
    say(f"\npublished; not comparable: {WHY_NOT_COMPARABLE}")
    heading = ["task", *next(iter(PUBLISHED.values()))]
    say_table([heading, *([task, *map(str, row.values())] for task, row in PUBLISHED.items())])
    for row in result.rows:
        if row.reason:
            complain(f"{row.task}, {row.method}: not measured: {row.reason}")
    if json_file:
        _write_json(result.to_json(), json_file)
    return result


def _write_reports(result: "Restoration", out: Path) -> None:
    from quieten.report.document import write_report

    for task, evaluation in result.evaluations.items():
        path = write_report(
            [evaluation], out / f"{task}.html", metric="lsd", title=f"Music: {task}"
        )
        say(f"wrote {path}", is_talk=True)


def _draw_tasks(result: "Restoration", folder: Path) -> None:
    from quieten.reproduce.spectrograms import draw_item

    for task, evaluation in result.evaluations.items():
        draw_item(evaluation, "ours", folder / f"{task}.png")
        say(f"wrote {folder / task}.png", is_talk=True)


def _reproduce_signals(
    files: dict[str, Path], limit: int | None, json_file: Path | None, picture: Path | None
) -> None:
    from quieten.reproduce.signal_gan import open_onnx, run_benchmark

    with counting_bar(f"measuring {System.SIGNAL_GAN}") as progress:
        result = run_benchmark(open_onnx, weights=files, limit=limit, progress=progress)
    _print_benchmark(result)
    if json_file:
        _write_json(result.to_json(), json_file)
    if picture:
        _draw_examples(files, picture)


def _print_benchmark(result: "Benchmark") -> None:
    """Prints a table for each kind of signals, what was published, and what is missing and why."""
    from quieten.reproduce.signal_gan import NOTES, PUBLISHED, TASKS
    from quieten.reproduce.signal_rows import footnotes, text_table

    say(f"{result.describe()}; value ± half the 95 % interval")
    for table, rows in result.tables.items():
        say(f"\n{table}: {TASKS[table].describe()}")
        say_table(text_table(rows))
    say("")
    for method, note in NOTES.items():
        say(f"{method}: {note}")
    say(f"published: {PUBLISHED}")
    for table, rows in result.tables.items():
        for line in footnotes(rows):
            complain(f"{table}: {line}")


def _draw_examples(files: dict[str, Path], folder: Path) -> None:
    from quieten.reproduce.signal_gan import draw_examples, open_onnx
    from quieten.reproduce.signal_pictures import draw_signals

    for name, sample_rate, signals in draw_examples(files, open_onnx):
        path = folder / f"{name}.png"
        draw_signals(signals, sample_rate, path)
        say(f"wrote {path}", is_talk=True)


def _draw_curves(run: Path, folder: Path) -> None:
    from quieten.reproduce.signal_pictures import draw_curves

    path = folder / "curves.png"
    draw_curves(run, path)
    say(f"wrote {path}", is_talk=True)


def _weights(text: str) -> tuple[str, Path]:
    method, equals, path = text.partition("=")
    if not equals or not path:
        raise ConfigError(f"--weights {text}: write METHOD=PATH, such as ours=run.onnx")
    return method, Path(path)


def _open_torch(path: Path, ablation: str) -> "Callable[[Waveform], Waveform]":
    with extra_train("this row"):
        from quieten.training.reload import open_denoiser

        return open_denoiser(path, ablation)


def _print_result(result: "Reproduction") -> None:
    """Prints a table for each condition, the published figures, and what is missing and why."""
    from quieten.reproduce.rows import footnotes, text_table
    from quieten.reproduce.vqvae_unet import CONDITIONS, PUBLISHED, WHY_NOT_COMPARABLE

    say(f"{result.describe()}; mean ± half the 95 % interval")
    for condition, snr_db in CONDITIONS.items():
        say(f"\n{condition}: white noise at {snr_db} dB")
        say_table(text_table([row for row in result.rows if row.condition == condition]))
    say(f"\npublished; not comparable: {WHY_NOT_COMPARABLE}")
    heading = ["method", *next(iter(PUBLISHED.values()))]
    published = (
        [name, *(f"{score:.3f}" for score in scores.values())] for name, scores in PUBLISHED.items()
    )
    say_table([heading, *published])
    say("\nwhat the original's mistakes alone do")
    say_table(text_table(result.pitfalls, with_condition=True))
    for line in footnotes(result.rows):
        complain(line)


def _write_json(result: "Json", path: Path) -> None:
    from quieten.evaluation.results import replace_text

    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(result, indent=1, ensure_ascii=False, allow_nan=False)
    replace_text(path, text + "\n")
    say(f"wrote {path}", is_talk=True)
