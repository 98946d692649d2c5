"""The verbs `reproduce` and `data`: published benchmarks, and the corpora they were made from."""

import json
import signal
from collections.abc import Callable, Sequence
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
    from quieten.reproduce.rows import Waveform
    from quieten.reproduce.vqvae_unet import Reproduction

SPEECH = Path("../shared/data/speech_test")


class System(StrEnum):
    """The systems whose benchmarks can be run."""

    VQVAE_UNET = "vqvae_unet"


class Corpus(StrEnum):
    """The corpora that can be read."""

    MINDS14 = "minds14"


class Suffix(StrEnum):
    """How sounds are written."""

    FLAC = "flac"
    WAV = "wav"


@app.command()
def reproduce(
    system: Annotated[System, typer.Argument(help="The system.", show_default=False)],
    data: Annotated[Path, typer.Option(metavar="DIR", help="Clean speech to test on.")] = SPEECH,
    weights: Annotated[
        Texts,
        typer.Option(
            metavar="METHOD=PATH",
            help="An .onnx or .safetensors file for ours, paper or best_without_vq; repeatable. "
            "Default: the installed models.",
        ),
    ] = None,
    limit: Annotated[int | None, typer.Option(metavar="N", help="At most N clips.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE")] = None,
) -> None:
    """Measure a published system again, ours beside it (needs quieten[eval] and quieten[pesq])."""
    from quieten.reproduce.vqvae_unet import reproduce as run

    files = dict(_weights(text) for text in weights or [])
    with counting_bar(f"measuring {system}") as progress:
        result = run(data, _open_torch, weights=files, limit=limit, progress=progress)
    _print_result(result)
    if json_file:
        _write_json(result, json_file)


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
    for line in footnotes(result.rows):
        complain(line)


def _write_json(result: "Reproduction", path: Path) -> None:
    from quieten.evaluation.results import replace_text

    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(result.to_json(), indent=1, ensure_ascii=False, allow_nan=False)
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
            help="A local copy: the folder of the hub, a .parquet or .zip file, or what was "
            "unpacked. Default: download it (needs quieten[hub]).",
        ),
    ] = None,
    language: Annotated[str, typer.Option(metavar="CODE", help="Such as en-US.")] = "en-US",
    rate: Annotated[int, typer.Option(metavar="HZ", help="Rate of the result.")] = 8000,
    suffix: Annotated[
        Suffix, typer.Option("--format", help="Of the sounds: mono, 16 bit.")
    ] = Suffix.FLAC,
    valid: Annotated[float, typer.Option(metavar="SHARE", help="Share of valid/.")] = 0.1,
    test: Annotated[float, typer.Option(metavar="SHARE", help="Share of test/.")] = 0.1,
    seed: Seed = 0,
) -> None:
    """Turn a speech corpus into folders to train, validate and test with, and a manifest."""
    from quieten.corpora.corpus import Layout, write_corpus
    from quieten.corpora.minds14 import check_language, recordings

    check_language(language)
    signal.signal(signal.SIGTERM, stop_on_signal)
    layout = Layout(rate, f".{suffix}", {"valid": valid, "test": test}, seed)
    with counting_bar(f"writing {corpus}") as progress:
        rows = write_corpus(recordings(source, language), out, layout, progress)
    say(f"{out}  {_counts([row['split'] for row in rows])}")


def _counts(splits: Sequence[str]) -> str:
    names = dict.fromkeys(("train", "valid", "test", *splits))
    return "  ".join(f"{splits.count(name)} {name}" for name in names if name in splits)
