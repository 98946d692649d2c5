"""The verbs that measure: `evaluate`, `compare`, `degrade`."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from quieten.cli.console import FAILED, Texts, app, complain, counting_bar, say, say_table
from quieten.cli.degrading import Count, Decibels, Seed, make_recipe, write_mixtures
from quieten.errors import ConfigError

if TYPE_CHECKING:
    from quieten.evaluation.evaluate import Evaluation, System
    from quieten.testsets.pairs import Item

HEADLINES = ("pesq_wb", "pesq_nb", "stoi", "estoi", "si_sdr_db", "dnsmos_ovrl")
LABELS = ("snr_db", "noise_type", "speaker")  # of a manifest, each with a table of its own
ORACLE = "oracle-mask"

Testset = Annotated[
    Path,
    typer.Argument(
        metavar="TESTSET",
        help="A folder with clean/ and noisy/ (same names; manifest.csv may add columns), or a CSV "
        "file with the columns noisy and clean.",
    ),
]
ModelNames = Annotated[
    Texts,
    typer.Option(
        metavar="NAME|PATH",
        help="A model, an ONNX file or a baseline; repeatable. Default: speech.",
    ),
]
Commands = Annotated[
    Texts,
    typer.Option(
        metavar="NAME='CMD {in} {out}'",
        help="Another program, run once a file ({in_dir} {out_dir}: once in all); repeatable.",
    ),
]
Metrics = Annotated[
    Texts, typer.Option(metavar="NAME", help="Only these: stoi,pesq_nb; repeatable. Default: all.")
]
Where = Annotated[Texts, typer.Option(metavar="COLUMN=VALUE", help="Only these items; repeatable.")]
By = Annotated[
    Texts,
    typer.Option(
        metavar="COLUMN",
        help="A table for each value of this column; repeatable. Default: SNR, noise type, speaker "
        "where the manifest has them.",
    ),
]
CleanFolder = Annotated[str, typer.Option(metavar="NAME", help="The folder of the references.")]
Align = Annotated[bool, typer.Option("--align", help="Take a constant delay out before scoring.")]
Mix = Annotated[
    tuple[Path, Path] | None,
    typer.Option(metavar="CLEAN NOISE", help="First mix a test set from these into TESTSET."),
]
Out = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Keeps scores and sounds; a second run goes on there. Default: evaluations/TESTSET.",
    ),
]
JsonFile = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Means and items.")]
CsvFile = Annotated[
    Path | None, typer.Option("--csv", metavar="FILE", help="A line for each item and system.")
]
Report = Annotated[
    Path | None, typer.Option(metavar="FILE.html", help="Also write a page to look and listen.")
]
Workers = Annotated[int | None, typer.Option(min=1, help="Processes. Default: one per processor.")]


@app.command()
def evaluate(
    testset: Testset,
    model: ModelNames = None,
    command: Commands = None,
    metric: Metrics = None,
    where: Where = None,
    by: By = None,
    clean_folder: CleanFolder = "clean",
    align: Align = False,
    mix: Mix = None,
    snr: Decibels = None,
    count: Count = None,
    seed: Seed = 0,
    out: Out = None,
    json_file: JsonFile = None,
    csv_file: CsvFile = None,
    report: Report = None,
    workers: Workers = None,
) -> None:
    """Measure denoisers, ours or not, on pairs of noisy and clean files (needs quieten[eval])."""
    from quieten.evaluation.evaluate import Request
    from quieten.evaluation.evaluate import evaluate as run
    from quieten.metrics import METRICS
    from quieten.report.document import check_path
    from quieten.testsets.pairs import read_testset

    systems = (*_models(model or ([] if command else ["speech"])), *_commands(command or []))
    if mix:
        write_mixtures(make_recipe([mix[0]], [mix[1]], snr, count, seed), testset)
    items = read_testset(testset, clean_folder=clean_folder, where=tuple(where or ()))
    labels = _labels(items, by)
    if report:
        check_path(report)  # before the work, not after it
    request = Request(
        items=tuple(items),
        systems=systems,
        out=out or Path("evaluations", testset.resolve().stem),
        metrics=tuple(name for text in metric or [] for name in text.split(",")) or tuple(METRICS),
        workers=workers or os.cpu_count() or 1,
        align=align,
        testset=testset.resolve().name,
    )
    with counting_bar("evaluating") as progress:
        evaluation = run(request, progress)
    _print_tables(evaluation, labels)
    _write_results(evaluation, json_file, csv_file)
    if report:
        _write_report([evaluation], report)
    if any(score.failed for score in evaluation.scores.values()):
        raise typer.Exit(FAILED)


@app.command()
def compare(
    results: Annotated[
        list[Path],
        typer.Argument(
            metavar="A B ...",
            help="Folders of `evaluate`, merged over the items that all have; or sound files: the "
            "noisy one first, then denoised ones.",
        ),
    ],
    clean: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The clean sound, for sound files.")
    ] = None,
    metric: Annotated[
        str, typer.Option(metavar="NAME", help="What ranks the items and is compared.")
    ] = "pesq_wb",
    item: Annotated[
        Texts, typer.Option(metavar="NAME", help="Also show this item; repeatable.")
    ] = None,
    count: Annotated[int, typer.Option(min=0, help="Best, worst and median items to show.")] = 3,
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FILE.html", help="The page.")
    ] = Path("report.html"),
) -> None:
    """Compare evaluations or sound files in one page that needs no network."""
    folders = [path for path in results if path.is_dir()]
    if folders and len(folders) < len(results):
        raise ConfigError("folders and sound files together: compare either of them")
    if folders:
        if clean:
            raise ConfigError("--clean goes with sound files: evaluations know their own")
        _compare_evaluations(folders, output, metric, item or [], count)
    else:
        from quieten.report.document import write_comparison

        if len(results) < 2:
            raise ConfigError("one sound file: name the noisy one, then what was made of it")
        say(f"wrote {write_comparison(results[0], results[1:], clean, output)}", is_talk=True)


def _compare_evaluations(
    folders: Sequence[Path], output: Path, metric: str, named: Sequence[str], count: int
) -> None:
    from quieten.evaluation.merged import merge
    from quieten.evaluation.results import read_evaluation
    from quieten.evaluation.tables import difference

    evaluations = [read_evaluation(folder) for folder in folders]
    merged = merge(evaluations)
    if metric not in merged.metrics:
        names = ", ".join(merged.metrics)
        raise ConfigError(f"--metric {metric} was not measured: choose among {names}")
    _print_tables(merged, [])
    first, *others = [system.name for system in merged.systems if system.kind != "noisy"]
    for name in others:
        if change := difference(merged, metric, name, first):
            mean, low, high = change
            say(f"{metric}, {name} minus {first}: {mean:+.3f} [{low:+.3f}, {high:+.3f}]")
    _write_report(evaluations, output, named=named, count=count, metric=metric)


def _models(names: Sequence[str]) -> "list[System]":
    from quieten.evaluation.evaluate import System

    systems = []
    for name in names:
        label = Path(name).stem if name.endswith(".onnx") else name
        systems.append(System(label, "oracle" if name == ORACLE else "model", name))
    return systems


def _commands(texts: Sequence[str]) -> "list[System]":
    from quieten.evaluation.evaluate import System

    systems = []
    for text in texts:
        name, equals, command = text.partition("=")
        if not equals or not name.strip() or not command.strip():
            raise ConfigError(f"--command {text!r}: write NAME='PROGRAM {{in}} {{out}}'")
        systems.append(System(name.strip(), "command", command.strip()))
    return systems


def _labels(items: "Sequence[Item]", by: Sequence[str] | None) -> list[str]:
    """Returns the columns that get a table, or raises ConfigError for one that is not there."""
    known = {label for item in items for label in item.labels}
    for label in by or []:
        if label not in known:
            names = ", ".join(sorted(known)) or "none, since there is no manifest"
            raise ConfigError(f"--by {label}: no such column; there are {names}")
    return [label for label in LABELS if label in known] if by is None else list(by)


def _print_tables(evaluation: "Evaluation", labels: Sequence[str]) -> None:
    """Prints the means, a table for each label, and what is missing and why."""
    from quieten.evaluation.tables import footnotes, grouped_table, summarize, text_table
    from quieten.metrics import METRICS

    is_all = len(evaluation.metrics) == len(METRICS)
    shown = HEADLINES if is_all else evaluation.metrics  # all would not fit a terminal
    say(f"{len(evaluation.items)} items: mean ± half the 95 % interval")
    say_table(text_table(summarize(evaluation), shown))
    for label in labels:
        say("")
        say_table(grouped_table(evaluation, label, shown))
    for line in footnotes(evaluation, shown):
        complain(line)


def _write_results(evaluation: "Evaluation", json_file: Path | None, csv_file: Path | None) -> None:
    from quieten.evaluation.results import replace_text
    from quieten.evaluation.tables import to_json, write_csv

    for path in (json_file, csv_file):
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
    if json_file:
        text = json.dumps(to_json(evaluation), indent=1, ensure_ascii=False, allow_nan=False)
        replace_text(json_file, text + "\n")
        say(f"wrote {json_file}", is_talk=True)
    if csv_file:
        write_csv(evaluation, csv_file)
        say(f"wrote {csv_file}", is_talk=True)


def _write_report(evaluations: "Sequence[Evaluation]", path: Path, **choice: Any) -> None:
    from quieten.report.document import write_report

    say(f"wrote {write_report(evaluations, path, **choice)}", is_talk=True)
