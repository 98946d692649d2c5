"""Scores a model through the command line on a folder with clean/, noisy/ and manifest.csv.

    python benchmarks/quality.py TESTSET [--model NAME|PATH] [--json FILE] [--store]

Only items without reverberation count (column `reverb`), where the manifest tells. Prints means
of PESQ-WB, STOI and SI-SDR for the noisy and the denoised files, and per SNR. Needs
quieten[eval,pesq]. `--store` writes the means into the model's file, where `quieten models` finds
them (needs quieten[train]).
"""

import argparse
import csv
import json
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np

from quieten import read_audio
from quieten.metrics import METRICS
from quieten.runtime import load

NAMES = ("pesq_wb", "stoi", "si_sdr_db")


def main() -> None:
    """Denoises, scores, prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("testset", type=Path)
    parser.add_argument("--model", default="speech")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--store", action="store_true")
    arguments = parser.parse_args()
    items = dry_items(arguments.testset)
    with tempfile.TemporaryDirectory() as folder:
        denoised = denoise(arguments.testset / "noisy", Path(folder), arguments.model)
        rows = [score_item(arguments.testset, denoised, item) for item in items]
    report(rows)
    if arguments.json:
        arguments.json.write_text(json.dumps({"model": arguments.model, "items": rows}, indent=1))
    if arguments.store:
        from quieten.training.export import set_scores

        means = {name: round(mean(rows, "denoised", name), 3) for name in NAMES}
        set_scores(load(arguments.model).info.path, means)


def mean(rows: list[dict[str, object]], kind: str, name: str) -> float:
    """Returns the mean of a metric over the noisy or the denoised items."""
    return float(np.mean([row[kind][name] for row in rows]))  # type: ignore[index]


def dry_items(testset: Path) -> list[dict[str, str]]:
    """Returns the manifest's rows without reverberation."""
    with (testset / "manifest.csv").open(newline="") as file:
        return [row for row in csv.DictReader(file) if row.get("reverb", "0") in ("", "0")]


def denoise(noisy: Path, out: Path, model: str) -> Path:
    """Runs the command line on the whole folder; returns where the results are."""
    command = [sys.executable, "-m", "quieten", "denoise", str(noisy), "-o", str(out)]
    subprocess.run([*command, "--model", model], check=True, stdout=subprocess.DEVNULL)
    return out


def score_item(testset: Path, denoised: Path, item: dict[str, str]) -> dict[str, object]:
    """Returns one item's scores, noisy and denoised."""
    name = f"{item['id']}.flac"
    clean, rate = read_audio(testset / "clean" / name)
    row: dict[str, object] = {"id": item["id"], "snr_db": float(item["snr_db"])}
    for kind, folder in (("noisy", testset / "noisy"), ("denoised", denoised)):
        sound, _ = read_audio(folder / name)
        row[kind] = {m: METRICS[m](sound[0], clean[0], rate) for m in NAMES}
    return row


def report(rows: list[dict[str, object]]) -> None:
    """Prints the means, all and by SNR."""
    by_snr: dict[str, list[dict[str, object]]] = defaultdict(list)
    for row in rows:
        by_snr["all"].append(row)
        by_snr[f"{row['snr_db']:g} dB"].append(row)
    print(f"{'':8}{'items':>6}" + "".join(f"{n:>22}" for n in NAMES))
    for label, group in by_snr.items():
        cells = []
        for name in NAMES:
            noisy, denoised = mean(group, "noisy", name), mean(group, "denoised", name)
            cells.append(f"{noisy:9.3f} -> {denoised:9.3f}")
        print(f"{label:8}{len(group):6}" + "".join(f"{cell:>22}" for cell in cells))


if __name__ == "__main__":
    main()
