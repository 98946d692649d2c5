"""The verb `restore`: super-resolution, denoising and dereverberation of music."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from quieten.cli.console import AsJson, app, extra_train
from quieten.cli.denoising import Output, Replace, Residual, run
from quieten.errors import ConfigError

if TYPE_CHECKING:
    from quieten.plan import Settings
    from quieten.restore import Restorer


class Task(StrEnum):
    """What is to be restored; the keys of `restore.TASKS`."""

    SUPER_RESOLUTION = "super-resolution"
    DENOISE = "denoise"
    DEREVERB = "dereverb"
    ALL = "all"


@app.command()
def restore(
    files: Annotated[
        list[str],
        typer.Argument(
            help="Audio files, or folders (their audio files, recursively, except results named "
            "NAME.quieten.EXT), or - for WAV on stdin.",
            show_default=False,
        ),
    ],
    output: Output = None,
    task: Annotated[Task, typer.Option(help="What is to be repaired.")] = Task.ALL,
    rate: Annotated[
        int | None,
        typer.Option(
            metavar="HZ",
            help="Rate of the result. Without it: that of the input; for super-resolution at "
            "least 22050 Hz.",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(metavar="NAME|PATH", help="Another model. Default: the task's, for piano."),
    ] = None,
    strength_db: Annotated[
        float | None,
        typer.Option(metavar="N", help="Change no more than removing N dB; 0 changes nothing."),
    ] = None,
    residual: Residual = None,
    collaborative: Annotated[
        bool,
        typer.Option(
            "--collaborative",
            help="Let the discriminator of --model, a run folder or a .safetensors file, refine "
            "each window (needs quieten[train]; slow).",
        ),
    ] = False,
    window_batch: Annotated[
        int, typer.Option(metavar="N", help="Windows in one call of the model.")
    ] = 1,
    overwrite: Replace = False,
    as_json: AsJson = False,
) -> None:
    """Restore music: raise its bandwidth, remove noise or reverberation, or all of it."""
    from quieten.plan import Request, Settings

    settings = Settings(
        model or "",
        strength_db,
        "separate",
        task=task.value,
        rate=rate,
        window_batch=window_batch,
    )
    request = Request(tuple(files), output, residual, overwrite, settings)
    worker = _open_collaborative(model, settings) if collaborative else None
    run(request, as_json, worker, "restoring")


def _open_collaborative(model: str | None, settings: "Settings") -> "Restorer":
    from quieten.restore import Restorer

    if model is None:
        raise ConfigError("--collaborative needs --model: a run folder that has a discriminator")
    with extra_train("collaborative sampling"):
        from quieten.training.reload import open_collaborative

        return Restorer(
            settings.task or "all",
            model=open_collaborative(model),
            rate=settings.rate,
            strength_db=settings.attenuation_limit_db,
            window_batch=settings.window_batch,
        )
