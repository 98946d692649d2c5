"""The verbs `reproduce` and `data`: published benchmarks, and the corpora they were made from."""

import json
import signal
from collections.abc import Callable, Mapping, Sequence
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
    say,
    say_table,
    stop_on_signal,
)
from quieten.cli.degrading import Seed
from quieten.errors import ConfigError

if TYPE_CHECKING:
    from quieten.corpora.corpus import Layout
    from quieten.evaluation.tables import Json
    from quieten.reproduce.rows import Waveform
    from quieten.reproduce.signal_gan import Benchmark
    from quieten.reproduce.vqvae_unet import Reproduction

SPEECH = Path("../shared/data/speech_test")


class System(StrEnum):
    """The systems whose benchmarks can be run."""

    VQVAE_UNET = "vqvae_unet"
    SIGNAL_GAN = "signal_gan"


class Corpus(StrEnum):
    """The corpora that can be read or drawn."""

    MINDS14 = "minds14"
    SINES = "sines"


class Suffix(StrEnum):
    """How sounds and signals are written."""

    FLAC = "flac"
    WAV = "wav"
    NPY = "npy"


@app.command()
def reproduce(
    system: Annotated[System, typer.Argument(help="The system.", show_default=False)],
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="vqvae_unet: clean speech to test on.", show_default=str(SPEECH)
        ),
    ] = None,
    weights: Annotated[
        Texts,
        typer.Option(
            metavar="METHOD=PATH",
            help="An .onnx or .safetensors file for ours, paper or best_without_vq; signal_gan: "
            ".onnx for ours, paper or general; repeatable. Default: the installed models.",
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(metavar="N", help="At most N clips or signals.")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE")] = None,
    picture: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="signal_gan: draw eight examples into this folder."),
    ] = None,
    curves: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN",
            help="signal_gan: only draw what the discriminator did in this run of training, into "
            "its folder (or that of --picture).",
        ),
    ] = None,
) -> None:
    """Measure a published system again, ours beside it (needs quieten[eval]; speech: [pesq])."""
    files = dict(_weights(text) for text in weights or [])
    if system == System.SIGNAL_GAN:
        _refuse(system, {"--data": data})
        if curves:
            _draw_curves(curves, picture or curves)
        else:
            _reproduce_signals(files, limit, json_file, picture)
    else:
        _refuse(system, {"--picture": picture, "--curves": curves})
        _reproduce_speech(data or SPEECH, files, limit, json_file)


def _refuse(what: str, options: Mapping[str, object]) -> None:
    """Complains about an option that was given and would be ignored.

    Raises:
        ConfigError: one was.
    """
    for name, value in options.items():
        if value is not None:
            raise ConfigError(f"{name} means nothing for {what}: leave it out")


def _reproduce_speech(
    data: Path, files: dict[str, Path], limit: int | None, json_file: Path | None
) -> None:
    from quieten.reproduce.vqvae_unet import reproduce as run

    with counting_bar(f"measuring {System.VQVAE_UNET}") as progress:
        result = run(data, _open_torch, weights=files, limit=limit, progress=progress)
    _print_result(result)
    if json_file:
        _write_json(result.to_json(), json_file)


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


@app.command()
def data(
    corpus: Annotated[Corpus, typer.Argument(help="The corpus.", show_default=False)],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A new folder.", show_default=False)],
    source: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="PATH",
            help="minds14: a local copy: the folder of the hub, a .parquet or .zip file, or what "
            "was unpacked. Default: download it (needs quieten[hub]).",
        ),
    ] = None,
    language: Annotated[
        str | None,
        typer.Option(metavar="CODE", help="minds14: such as de-DE.", show_default="en-US"),
    ] = None,
    rate: Annotated[
        int | None,
        typer.Option(metavar="HZ", help="minds14: rate of the result.", show_default="8000"),
    ] = None,
    suffix: Annotated[
        Suffix | None,
        typer.Option(
            "--format",
            help="minds14: flac or wav, mono, 16 bit; sines: wav or npy, 32 bit float.",
            show_default="flac; wav",
        ),
    ] = None,
    train: Annotated[
        int | None,
        typer.Option(metavar="N", help="sines: signals in train/.", show_default="1600"),
    ] = None,
    valid: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE|N",
            help="minds14: share of valid/; sines: signals in validation/.",
            show_default="0.1; 200",
        ),
    ] = None,
    test: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="minds14: share of test/.", show_default="0.1"),
    ] = None,
    seed: Seed = 0,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="sines: draw a random signal of each kind (PNG)."),
    ] = None,
) -> None:
    """Turn a speech corpus into folders to train with, or draw the sines of a published system."""
    signal.signal(signal.SIGTERM, stop_on_signal)
    if corpus == Corpus.SINES:
        speech = {"--from": source, "--language": language, "--rate": rate, "--test": test}
        _refuse(corpus, speech)
        _write_sines(out, train, valid, f".{suffix or Suffix.WAV}", seed, plot)
        return
    from quieten.corpora.corpus import Layout

    _refuse(corpus, {"--train": train, "--plot": plot})
    if suffix == Suffix.NPY:
        raise ConfigError("--format npy means nothing for minds14: choose flac or wav")
    given = {"valid": valid, "test": test}
    shares = {name: 0.1 if share is None else share for name, share in given.items()}
    rate = 8000 if rate is None else rate
    layout = Layout(rate, f".{suffix or Suffix.FLAC}", shares, seed)
    _write_speech(source, out, language or "en-US", layout)


def _write_speech(source: Path | None, out: Path, language: str, layout: "Layout") -> None:
    from quieten.corpora.corpus import write_corpus
    from quieten.corpora.minds14 import check_language, recordings

    check_language(language)
    with counting_bar(f"writing {Corpus.MINDS14}") as progress:
        rows = write_corpus(recordings(source, language), out, layout, progress)
    say(f"{out}  {_counts([row['split'] for row in rows])}")


def _write_sines(
    out: Path, train: int | None, valid: float | None, suffix: str, seed: int, plot: Path | None
) -> None:
    from quieten.corpora.sines import SinesLayout, pick_examples, write_sines
    from quieten.reproduce.signal_pictures import draw_signals

    default = SinesLayout()
    valid = default.validation if valid is None else valid
    if valid != int(valid):
        raise ConfigError(f"--valid {valid}: for sines, say how many signals, such as 200")
    train = default.train if train is None else train
    layout = SinesLayout(train, int(valid), seed, suffix)
    with counting_bar(f"writing {Corpus.SINES}") as progress:
        write_sines(out, layout, progress)
    say(f"{out}  " + "  ".join(f"{count} {name}" for name, count in layout.folders().items()))
    if plot:
        draw_signals(pick_examples(layout), layout.config.sample_rate, plot)
        say(f"wrote {plot}", is_talk=True)


def _counts(splits: Sequence[str]) -> str:
    names = dict.fromkeys(("train", "valid", "test", *splits))
    return "  ".join(f"{splits.count(name)} {name}" for name in names if name in splits)
