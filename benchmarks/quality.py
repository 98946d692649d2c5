"""Scores our models, the classical denoisers and other people's on a test set.

    python benchmarks/quality.py TESTSET [--model NAME|PATH]... [--peer NAME]... [--dry-run]

Without names: all models, the classical denoisers, the oracle mask and the peers of `peers.py` that
are here. Writes a section of docs/benchmarks.md, unless --dry-run is given. Items whose manifest
says `reverb` stand in a table of their own, against clean_early/ where the test set has it. Needs
quieten[eval,pesq]. With --out the scores are kept and a run that was stopped goes on. `--store`
writes our models' means over the dry items into their files, where `quieten models` finds them
(needs quieten[train]).
"""

import argparse
import json
import os
import shlex
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np

from common import (
    HERE,
    ONE_THREAD,
    PAGE,
    choose,
    measured,
    peers_here,
    table,
    versions,
    write_section,
)
from peers import PEERS
from quieten.baselines import BASELINES
from quieten.evaluation.evaluate import NOISY, Evaluation, Request, System, evaluate
from quieten.evaluation.tables import Row, footnotes, group, summarize, to_json
from quieten.runtime import available, load
from quieten.testsets.pairs import Item, read_testset

METRICS = {  # the columns: metric -> heading, decimals
    "pesq_wb": ("PESQ-WB", 2),
    "pesq_nb": ("PESQ-NB", 2),
    "stoi": ("STOI", 3),
    "estoi": ("ESTOI", 3),
    "si_sdr_db": ("SI-SDR dB", 1),
    "dnsmos_ovrl": ("DNSMOS", 2),
}
STORED = ("pesq_wb", "stoi", "si_sdr_db")
ORACLE = System("oracle-mask", "oracle")

Labels = Mapping[str, str]  # system -> what the tables call it


def main() -> None:
    """Evaluates, prints, and writes the section."""
    options = parse()
    os.environ.update(ONE_THREAD)
    found = peers_here(options.peer_python)
    known = [name for name in (*available(), *BASELINES) if name != "identity"]  # that is noisy
    ours, others = choose(options.model, options.peer, known, found)
    systems = [System(Path(name).stem, "model", name) for name in ours]
    systems += [] if options.model or options.peer else [ORACLE]
    systems += [peer_system(name, options.peer_python) for name in others]
    labels = {Path(name).stem: f"quieten `{Path(name).stem}`" for name in ours}
    labels |= {name: found[name]["about"] for name in others}
    evaluation = run(options, tuple(systems))
    text = measured(versions(others, found)) + "\n\n" + report(evaluation, labels)
    print(text)
    if options.json:
        options.json.write_text(json.dumps(to_json(evaluation), indent=1), encoding="utf-8")
    if options.store:
        store(evaluation, ours)
    if not options.dry_run:
        write_section(options.page, "quality", text)


def parse() -> argparse.Namespace:
    """Returns the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("testset", type=Path)
    parser.add_argument("--model", action="append", help="one of ours; may be given again")
    parser.add_argument("--peer", action="append", choices=PEERS, help="may be given again")
    parser.add_argument("--peer-python", default=sys.executable, help="interpreter of the peers")
    parser.add_argument("--limit", type=int, help="only so many items, spread over the test set")
    parser.add_argument("--out", type=Path, help="folder that keeps sounds and scores")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--json", type=Path, help="also writes all scores")
    parser.add_argument("--store", action="store_true", help="writes means into our models' files")
    parser.add_argument("--page", type=Path, default=PAGE, help="the page to write into")
    parser.add_argument("--dry-run", action="store_true", help="prints only")
    return parser.parse_args()


def peer_system(name: str, python: str) -> System:
    """Returns a peer as a foreign command that takes all files in one call."""
    command = [python, str(HERE / "peers.py"), name, "{in_dir}", "{out_dir}"]
    return System(name, "command", shlex.join(command))


def run(options: argparse.Namespace, systems: tuple[System, ...]) -> Evaluation:
    """Returns the evaluation, in the folder of --out or in one that goes away."""
    items = tuple(thinned(read_items(options.testset), options.limit))
    context = nullcontext(options.out) if options.out else tempfile.TemporaryDirectory()
    with context as folder:
        request = Request(
            items,
            systems,
            Path(folder),
            metrics=tuple(METRICS),
            workers=options.workers,
            testset=options.testset.name,
        )
        return evaluate(request, show_progress)


def show_progress(done: int, total: int, last: str) -> None:
    """Shows on stderr how far it is, where somebody looks."""
    if not sys.stderr.isatty():
        return
    print(f"\r{done}/{total} {last:40}", end="\n" if done == total else "", file=sys.stderr)


def read_items(testset: Path) -> list[Item]:
    """Returns the items; reverberant ones against the speech with its early reflections."""
    return [early(testset, item) if is_wet(item) else item for item in read_testset(testset)]


def early(testset: Path, item: Item) -> Item:
    """Returns the item with the clean file of clean_early/, where there is one."""
    path = testset / "clean_early" / item.clean.name if item.clean else None
    return replace(item, clean=path) if path and path.is_file() else item


def is_wet(item: Item) -> bool:
    """Whether the manifest says that the item is reverberant."""
    return item.labels.get("reverb", "0") not in ("", "0")


def thinned(items: Sequence[Item], limit: int | None) -> list[Item]:
    """Returns at most `limit` items, evenly spread, the first and the last among them."""
    count = len(items) if limit is None else min(limit, len(items))
    return [items[n] for n in np.linspace(0, len(items) - 1, count).round().astype(int)]


def part(evaluation: Evaluation, wet: bool) -> Evaluation:
    """Returns the evaluation of the reverberant or of the dry items only."""
    return replace(evaluation, items=tuple(i for i in evaluation.items if is_wet(i) is wet))


def report(evaluation: Evaluation, labels: Labels) -> str:
    """Returns the tables: dry items, by SNR, reverberant items; and what is missing."""
    dry, wet = part(evaluation, False), part(evaluation, True)
    blocks = []
    for heading, some in (("Without reverberation", dry), ("With reverberation", wet)):
        if some.items:
            blocks += [f"### {heading}, {counted(some.items)}", means_table(some, labels)]
    if by_snr := snr_table(dry, labels):
        blocks += ["### PESQ-WB by SNR, without reverberation", by_snr]
    notes = footnotes(evaluation)
    return "\n\n".join([*blocks, *(["\n".join(f"- {note}" for note in notes)] if notes else [])])


def counted(items: Sequence[Item]) -> str:
    """Returns "1 item", "2 items"."""
    return f"{len(items)} item{'s' * (len(items) != 1)}"


def means_table(evaluation: Evaluation, labels: Labels) -> str:
    """Returns a row for each system: mean and half the width of its 95 % interval."""
    rows = [
        [labels.get(row.system, row.system), *(cell(row, name) for name in METRICS)]
        for row in ranked(summarize(evaluation))
    ]
    return table(["system", *(heading for heading, _ in METRICS.values())], rows)


def ranked(rows: Sequence[Row]) -> list[Row]:
    """Returns the rows by their first metric, the noisy files on top."""
    first = next(iter(METRICS))

    def order(row: Row) -> tuple[bool, float]:
        return row.system != NOISY.name, -row.means[first][0] if first in row.means else np.inf

    return sorted(rows, key=order)


def cell(row: Row, metric: str) -> str:
    """Returns "1.61 ± 0.08"; a star where items are missing, a dash where all are.

    One item has no interval.
    """
    star = "*" if metric in row.missing else ""
    if metric not in row.means:
        return f"–{star}"
    mean, low, high = row.means[metric]
    digits = METRICS[metric][1]
    interval = f" ± {(high - low) / 2:.{digits}f}" if high > low else ""
    return f"{mean:.{digits}f}{interval}{star}"


def snr_table(evaluation: Evaluation, labels: Labels) -> str:
    """Returns the mean PESQ-WB of each system at each SNR; "" where no SNR is known."""
    groups = group(evaluation, "snr_db")
    by_system = {
        row.system: [labels.get(row.system, row.system)] for row in ranked(summarize(evaluation))
    }
    for rows in groups.values():
        for row in rows:
            known = row.means.get("pesq_wb")
            by_system[row.system].append(f"{known[0]:.2f}" if known else "–")
    header = ["system", *(f"{value} dB" for value in groups)]
    return table(header, by_system.values()) if groups else ""


def store(evaluation: Evaluation, models: Sequence[str]) -> None:
    """Writes the means over the dry items into the files of the models."""
    from quieten.training.export import set_scores

    rows = {row.system: row for row in summarize(part(evaluation, False))}
    for name in models:
        means = rows[Path(name).stem].means
        if name not in BASELINES and (path := load(name).info.path):
            set_scores(path, {key: round(means[key][0], 3) for key in STORED})


if __name__ == "__main__":
    main()
