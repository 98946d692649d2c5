"""The verbs `train` and `export`; both need the extra `train`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from quieten.cli.console import Texts, app, extra_train, say


@app.command()
def train(
    family: Annotated[str, typer.Argument(help="The family of models, such as realtime.")],
    config: Annotated[Path | None, typer.Option(metavar="FILE", help="A TOML file.")] = None,
    set_: Annotated[
        Texts, typer.Option("--set", metavar="KEY=VALUE", help="One setting; repeatable.")
    ] = None,
    clean: Annotated[Texts, typer.Option(metavar="DIR", help="Clean speech; repeatable.")] = None,
    noise: Annotated[Texts, typer.Option(metavar="DIR", help="Noise; repeatable.")] = None,
    rir: Annotated[Texts, typer.Option(metavar="DIR", help="Room responses; repeatable.")] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="RUN_DIR", help="Default: runs/FAMILY.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the run ended.")] = False,
) -> None:
    """Train a model (needs quieten[train])."""
    folders = {"clean": clean, "noise": noise, "rir": rir}
    sugar = [f"data.{key}={json.dumps(value)}" for key, value in folders.items() if value]
    with extra_train("training"):
        from quieten.training import train as loop

        loop.main(family, config, [*sugar, *(set_ or [])], out or Path("runs", family), resume)


@app.command()
def export(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN_DIR", help="A folder of `train`.")],
    out: Annotated[Path, typer.Option("-o", "--output", metavar="FILE.onnx")],
    name: Annotated[str | None, typer.Option(help="The name of the model.")] = None,
    half: Annotated[
        bool, typer.Option("--half", help="FILE.safetensors, weights alone, in float16.")
    ] = False,
) -> None:
    """Export a trained model to ONNX and prove that it does the same (needs quieten[train]).

    With FILE.safetensors: its weights alone, which need torch.
    """
    with extra_train("export"):
        from quieten.training import export as exporter

        made = exporter.main(run_dir, out, name, half)
    difference = made.largest_difference
    text = f"{made.path}  {made.parameters} parameters  {made.size_bytes / 1e6:.2f} MB"
    say(text if difference is None else f"{text}  largest difference to torch {difference:.1e}")
