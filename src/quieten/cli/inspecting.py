"""The verbs that show what is there: `models`, `doctor`, `demo`."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from quieten.cli.console import (
    FAILED,
    AsJson,
    app,
    complain,
    duration_text,
    level_text,
    say,
    say_json,
    say_table,
)

if TYPE_CHECKING:
    from quieten.runtime import ModelInfo
    from quieten.signals import SignalInfo


@app.command()
def models(as_json: AsJson = False) -> None:
    """List the models: rate, latency (a window, of models of signals), size, licence, scores."""
    from quieten.baselines import BASELINES
    from quieten.runtime import available, available_waveform, load
    from quieten.signals import load_signal_model

    infos: list[ModelInfo | SignalInfo] = [load(name).info for name in sorted(available())]
    infos += [load_signal_model(name).info for name in sorted(available_waveform())]
    if as_json:
        extra = ({"path": str(info.path), "latency_ms": info.latency_ms} for info in infos)
        say_json([asdict(info) | more for info, more in zip(infos, extra, strict=True)])
    elif not infos:
        complain("no models are installed: give an ONNX file to --model")
    else:
        heading = ["name", "family", "version", "rate", "latency", "size", "licence", "scores"]
        say_table([heading, *(_model_row(info) for info in infos)])
        say(f"classical methods, by name as well: {', '.join(BASELINES)}", is_talk=True)


def _model_row(info: "ModelInfo | SignalInfo") -> list[str]:
    scores = ", ".join(f"{name} {value:g}" for name, value in info.scores.items())
    rate, latency = f"{info.sample_rate:g} Hz", f"{info.latency_ms:g} ms"
    size = f"{info.size_bytes / 1e6:.2f} MB"
    return [info.name, info.family, info.version, rate, latency, size, info.licence, scores or "-"]


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Check this installation: versions, readable formats, self-test, speed of each model."""
    from quieten.doctor import examine

    report = examine()
    if as_json:
        say_json(asdict(report) | {"healthy": report.healthy})
    else:
        say_table([[name, version] for name, version in report.versions.items()])
        for decoder, suffixes in report.formats.items():
            say(f"{decoder}: {' '.join(suffixes)}")
        for name, factor in report.real_time_factors.items():
            say(f"model {name}: real-time factor {factor:.3f} on one core")
        say(f"self-test: {report.problem or 'passed'}")
    if not report.healthy:
        raise typer.Exit(FAILED)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="The folder for the files.")] = Path("quieten-demo"),
) -> None:
    """Denoise the bundled clip and tell what changed."""
    from quieten.demo import run

    report = run(out)
    result = report.result
    before, after = level_text(result.level_before_dbfs), level_text(result.level_after_dbfs)
    say(f"level             {before} -> {after} dBFS")
    say(f"SNR               {report.snr_before_db:.1f} -> {report.snr_after_db:.1f} dB")
    duration = duration_text(result.duration_s)
    say(f"real-time factor  {result.real_time_factor:.3f} ({duration} of sound)")
    for role, path in report.files.items():
        say(f"{role:<16}  {path}")
