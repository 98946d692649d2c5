"""The verb `data`: corpora that published systems were made from, read, drawn or composed."""

import signal
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from quieten.cli.console import app, counting_bar, refuse, say, stop_on_signal
from quieten.cli.degrading import Seed
from quieten.errors import ConfigError

if TYPE_CHECKING:
    from quieten.corpora.corpus import Layout


class Corpus(StrEnum):
    """The corpora that can be read or drawn."""

    MINDS14 = "minds14"
    SINES = "sines"
    PIANO = "piano"


class Suffix(StrEnum):
    """How sounds and signals are written."""

    FLAC = "flac"
    WAV = "wav"
    NPY = "npy"


SoundFont = Annotated[
    Path | None,
    typer.Option(metavar="FILE.sf2", help="piano: default: that of fluid-soundfont-gm."),
]
Program = Annotated[
    int | None, typer.Option(metavar="N", help="piano: General MIDI instrument.", show_default="0")
]
Plot = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="sines: draw a random signal of each kind (PNG)."),
]


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
        typer.Option(
            metavar="N",
            help="sines: signals in train/; piano: pieces.",
            show_default="1600; 60",
        ),
    ] = None,
    valid: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE|N",
            help="minds14: share of valid/; sines: signals in validation/; piano: pieces.",
            show_default="0.1; 200; 4",
        ),
    ] = None,
    test: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="minds14: share of test/.", show_default="0.1"),
    ] = None,
    seconds: Annotated[
        float | None, typer.Option(help="piano: length of each piece.", show_default="60")
    ] = None,
    soundfont: SoundFont = None,
    program: Program = None,
    seed: Seed = 0,
    plot: Plot = None,
) -> None:
    """Turn a speech corpus into folders to train with, draw sines, or compose piano pieces."""
    signal.signal(signal.SIGTERM, stop_on_signal)
    speech = {"--from": source, "--language": language, "--rate": rate, "--test": test}
    if corpus == Corpus.PIANO:
        refuse(corpus, speech | {"--format": suffix, "--plot": plot})
        _write_piano(out, train, valid, seconds, seed, soundfont, program or 0)
        return
    refuse(corpus, {"--seconds": seconds, "--soundfont": soundfont, "--program": program})
    if corpus == Corpus.SINES:
        refuse(corpus, speech)
        _write_sines(out, train, valid, f".{suffix or Suffix.WAV}", seed, plot)
        return
    from quieten.corpora.corpus import Layout

    refuse(corpus, {"--train": train, "--plot": plot})
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
    count = _whole(valid, default.validation, "for sines, say how many signals, such as 200")
    train = default.train if train is None else train
    layout = SinesLayout(train, count, seed, suffix)
    with counting_bar(f"writing {Corpus.SINES}") as progress:
        write_sines(out, layout, progress)
    say(f"{out}  " + "  ".join(f"{count} {name}" for name, count in layout.folders().items()))
    if plot:
        draw_signals(pick_examples(layout), layout.config.sample_rate, plot)
        say(f"wrote {plot}", is_talk=True)


def _write_piano(
    out: Path,
    train: int | None,
    valid: float | None,
    seconds: float | None,
    seed: int,
    soundfont: Path | None,
    program: int,
) -> None:
    from quieten.corpora.piano import PianoLayout, write_piano

    default = PianoLayout()
    layout = PianoLayout(
        default.train if train is None else train,
        _whole(valid, default.valid, "for piano, say how many pieces, such as 4"),
        seconds or default.seconds,
        seed,
        program,
    )
    with counting_bar(f"composing {Corpus.PIANO}") as progress:
        write_piano(out, layout, soundfont, progress)
    say(f"{out}  {layout.train} train  {layout.valid} valid")


def _whole(valid: float | None, default: int, remedy: str) -> int:
    """The value of --valid where it is a number of signals or pieces."""
    if valid is None:
        return default
    if valid != int(valid):
        raise ConfigError(f"--valid {valid}: {remedy}")
    return int(valid)


def _counts(splits: Sequence[str]) -> str:
    names = dict.fromkeys(("train", "valid", "test", *splits))
    return "  ".join(f"{splits.count(name)} {name}" for name in names if name in splits)
