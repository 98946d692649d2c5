"""The verb `degrade`: test sets from clean recordings and noise."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from quieten.cli.console import Texts, app, counting_bar, say
from quieten.errors import ConfigError

if TYPE_CHECKING:
    from quieten.testsets.pairs import Item
    from quieten.testsets.recipes import Recipe

Decibels = Annotated[
    Texts, typer.Option("--snr", metavar="DB", help="An SNR, or several: -5,0,5. Repeatable.")
]
Seed = Annotated[int, typer.Option(help="Decides every draw.")]
Count = Annotated[
    int | None, typer.Option(help="Mixtures in all. Default: every clean file once per SNR.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]


@app.command()
def degrade(
    clean: Annotated[list[Path], typer.Argument(help="Clean sound: files or folders.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="DIR", help="The test set: a new folder.")
    ],
    noise: Annotated[
        list[Path] | None, typer.Option(help="Files or folders of noise; repeatable.")
    ] = None,
    snr: Decibels = None,
    rir: Annotated[
        list[Path] | None, typer.Option(help="Room responses: files or folders; repeatable.")
    ] = None,
    room: Annotated[bool, typer.Option("--room", help="Rooms made by code.")] = False,
    rate: Annotated[int | None, typer.Option(metavar="HZ", help="Rate of the result.")] = None,
    band: Annotated[
        int | None, typer.Option(metavar="HZ", help="Resample down to this rate and back up.")
    ] = None,
    clip: Annotated[
        float | None, typer.Option(metavar="DB", help="Clip this far below the peak.")
    ] = None,
    telephone: Annotated[
        bool, typer.Option("--telephone", help="300-3400 Hz, 8 kHz and mu-law, as on the phone.")
    ] = False,
    codec: Annotated[
        str | None,
        typer.Option(metavar="NAME[:KBPS]", help="mp3, opus, vorbis, gsm, mulaw or alaw."),
    ] = None,
    preprocessing: Annotated[
        str,
        typer.Option(
            metavar="STEPS",
            help='A pipeline, such as "sample 5000 10000, whitenoise 0 0.01, reverb 10000"; '
            "--noise and --rir name what its steps noise and reverb take.",
        ),
    ] = "",
    seconds: Annotated[
        float | None, typer.Option(help="Cut or join to this length. Default: whole files.")
    ] = None,
    count: Count = None,
    seed: Seed = 0,
    overwrite: Overwrite = False,
) -> None:
    """Write a test set: clean recordings, and what noise, rooms and codecs make of them."""
    recipe = make_recipe(
        clean,
        noise or [],
        snr,
        count,
        seed,
        rir=tuple(rir or ()),
        room=room,
        sample_rate=rate,
        low_rate_hz=band,
        clip_db=clip,
        telephone=telephone,
        codec=codec,
        preprocessing=preprocessing,
        seconds=seconds,
    )
    items = write_mixtures(recipe, output, overwrite=overwrite)
    say(f"{output}  {len(items)} pairs")


def make_recipe(
    clean: Sequence[Path],
    noise: Sequence[Path],
    snr: Sequence[str] | None,
    count: int | None,
    seed: int,
    **more: Any,
) -> "Recipe":
    """Returns the recipe of a test set from what was given on the command line.

    Raises: ConfigError where noise comes without an SNR or the other way round.
    """
    from quieten.testsets.recipes import Recipe

    levels = tuple(_decibels(text) for option in snr or [] for text in option.split(","))
    if noise and not levels and not more.get("preprocessing"):
        raise ConfigError("noise without a level: add --snr, such as --snr 0,5,10")
    if levels and not noise:
        raise ConfigError("--snr without noise: name its folder")
    return Recipe(tuple(clean), tuple(noise), levels, count=count, seed=seed, **more)


def _decibels(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ConfigError(f"--snr {text}: give decibels, such as --snr -5,0,5") from None


def write_mixtures(recipe: "Recipe", out: Path, *, overwrite: bool = False) -> "list[Item]":
    """Writes the test set with a progress bar; returns its items."""
    from quieten.testsets.mixing import write_testset

    with counting_bar("mixing") as progress:
        return write_testset(recipe, out, overwrite=overwrite, progress=progress)
