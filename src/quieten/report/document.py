"""A page that one looks at and listens to: one HTML file that needs nothing but a browser.

`write_report` shows what `quieten evaluate` measured, `write_comparison` a user's own files.
Sounds go into the page as MP3, pictures as PNG; the markup is in `page.py`.
"""

import math
import secrets
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import date
from html import escape
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from quieten import __version__
from quieten.errors import AudioError, ConfigError
from quieten.evaluation import tables
from quieten.evaluation.merged import free_name, merge
from quieten.evaluation.results import NOISY, Evaluation
from quieten.evaluation.scoring import score_sounds
from quieten.metrics import METRICS, NEUTRAL
from quieten.report.cards import Card, Source, choose, encode, fit_cards, improvements, make_card
from quieten.report.page import (
    HEADLINES,
    Cell,
    SummaryRow,
    assemble,
    cards_html,
    definitions,
    figures,
    label_name,
    number,
    summary_table,
    text_of,
)
from quieten.report.pictures import RANGE_DB

__all__ = ["MAX_BYTES", "check_path", "merge", "write_comparison", "write_report"]

MAX_BYTES = 20_000_000
"""What a page may weigh: sounds are coded at a lower rate, then items left out, to keep to it."""

_MAX_GROUPS = 12  # a label with more values makes no readable chart
_MARK = b'<meta name="generator" content="quieten report">'
_MEASURING = ("pesq", "pystoi", "speechmos", "numpy", "onnxruntime")

_KINDS = {
    "model": "model",
    "command": "command",
    "oracle": "ideal mask, made with the clean file,",
    "noisy": "",
}

Differences = dict[str, dict[str, tuple[float, float, float]]]  # metric -> system -> mean, interval


@dataclass(frozen=True)
class _Page:
    """What is known of a page before its sounds are coded."""

    title: str
    facts: str
    metrics: Sequence[str]
    finding: str = ""
    figures: str = ""
    chosen: str = ""
    method: str = ""


def write_report(
    evaluations: Sequence[Evaluation],
    path: Path,
    *,
    named: Sequence[str] = (),
    count: int = 3,
    metric: str = "pesq_wb",
    title: str = "",
) -> Path:
    """Writes a page about evaluations, merged over the items that all have; returns its path.

    Args:
        evaluations: of one test set; the first system after the noisy files is the one that the
            others are compared with.
        path: of the page; an older report there is replaced, any other file is not.
        named: items that are shown in any case.
        count: how many of the best, of the worst and of the median items are shown.
        metric: decides which these are, and is shown first; where no item has it, another one is.
        title: of the page.

    Raises:
        ConfigError: there is nothing to show, a named item does not exist, or the path is taken.
        AudioError: a sound that is shown cannot be read, or the page cannot be written.
    """
    path = check_path(path)
    evaluation = merge(evaluations)
    main = next((one.name for one in evaluation.systems if one != NOISY), NOISY.name)
    metric = _usable_metric(evaluation, main, metric)
    chosen = choose(evaluation, main, metric, count, named)
    cards = [_item_card(evaluation, name, why) for name, why in chosen]
    colors = {one.name: place % 8 for place, one in enumerate(evaluation.systems)}
    differences = _differences(evaluation, main)
    systems = [one.name for one in evaluation.systems[1:]]
    shown = [*HEADLINES, *evaluation.metrics]
    metrics = [key for key in dict.fromkeys(shown) if key in (*evaluation.metrics, "rtf")]
    page = _Page(
        title or f"{', '.join(systems) or 'Noisy files'} on {evaluation.testset or 'a test set'}",
        _facts(evaluation),
        metrics,
        _finding(main, metric, differences.get(metric, {}).get(NOISY.name)),
        figures(summary_table(_summary(evaluation, colors), metrics), tables.footnotes(evaluation)),
        _chosen_text(main, metric, count, len(evaluation.items)),
        _method(evaluation),
    )
    data = _chart_data(evaluation, main, metric, colors) | {"differences": differences}
    return _write(path, page, data, cards, colors)


def write_comparison(
    noisy: Path, denoised: Sequence[Path], clean: Path | None, path: Path, *, title: str = ""
) -> Path:
    """Writes a page about one noisy file and what was made of it; returns its path.

    Sounds of another rate are resampled to that of the noisy file, those of another length cut
    or filled up with silence. Scores stand beside them where they can be computed.

    Raises:
        ConfigError: there is nothing to compare, or the path is taken.
        AudioError: a sound cannot be read, or the page cannot be written.
    """
    if not denoised:
        raise ConfigError("one sound: name the noisy one, then what was made of it")
    path = check_path(path)
    names: list[str] = []
    for sound in denoised:
        same = sound.stem == noisy.stem  # then its folder tells more
        name = sound.resolve().parent.name if same else sound.stem
        names.append(free_name(name, sound.parent, names))
    sources = [Source("noisy", "Noisy", noisy)]
    sources += [Source("denoised", name, file) for name, file in zip(names, denoised, strict=True)]
    sources += [Source("clean", "Clean", clean)] if clean else []
    card = _scored(make_card(noisy.name, "", {}, sources, _removed_count(len(denoised))))
    metrics = [key for key in METRICS if any(key in one.scores for one in card.versions)]
    facts = f"{_today()}. Made with quieten {__version__}."
    page = _Page(title or f"{noisy.name}, before and after", facts, metrics)
    colors = {name: 1 + place % 7 for place, name in enumerate(names)}
    return _write(path, page, {"metrics": {}, "cards": {}}, [card], colors)


def check_path(path: Path) -> Path:
    """Returns `path`, where a report may go: nothing is there, or an older report.

    Raises:
        ConfigError: something else is there.
    """
    path = Path(path)
    if not path.exists():
        return path
    if path.is_file():
        with path.open("rb") as file:
            if _MARK in file.read(2000):
                return path
    raise ConfigError(f"{path} exists already and is no report: choose another name for the page")


def _usable_metric(evaluation: Evaluation, main: str, wanted: str) -> str:
    """Returns `wanted`, or the first metric by which the items can be ranked."""
    order = [wanted, *HEADLINES, *evaluation.metrics]
    usable = [key for key in order if key in evaluation.metrics and key not in NEUTRAL]
    known = (key for key in usable if improvements(evaluation, main, key))
    return next(known, wanted if wanted in evaluation.metrics else evaluation.metrics[0])


def _item_card(evaluation: Evaluation, name: str, why: str) -> Card:
    item = next(item for item in evaluation.items if item.name == name)
    sources, notes = [], []
    for system in evaluation.systems:
        score = evaluation.scores.get((system.name, name))
        path = item.noisy if system == NOISY else evaluation.sound(system.name, name)
        if system != NOISY and not path.is_file():
            reasons = list(score.missing.values()) if score else ["not measured yet"]
            notes.append(f"no sound of {system.name}: {reasons[0] if reasons else 'not kept'}")
            continue
        values = score.values if score else {}
        delay_s = values.get("delay_ms", 0.0) / 1000 if evaluation.align else 0.0
        role, label = ("noisy", "Noisy") if system == NOISY else ("denoised", system.name)
        sources.append(Source(role, label, path, values, delay_s))  # type: ignore[arg-type]
    if item.clean:
        sources.append(Source("clean", "Clean", item.clean))
    card = make_card(name, why, item.labels, sources, _removed_count(len(evaluation.systems) - 1))
    return replace(card, notes=(*notes, *card.notes))


def _removed_count(systems: int) -> int:
    """For how many systems the removed sound is shown: more than two would crowd the page."""
    return systems if systems <= 2 else 1


def _scored(card: Card) -> Card:
    """Returns a card with the scores of the sounds that it holds."""
    clean = next((one.waveform for one in card.versions if one.role == "clean"), None)
    versions = []
    for one in card.versions:
        if one.role in ("noisy", "denoised"):
            values, _ = score_sounds(one.waveform, clean, card.sample_rate)
            one = replace(one, scores=values)
        versions.append(one)
    return replace(card, versions=tuple(versions))


def _summary(evaluation: Evaluation, colors: dict[str, int]) -> list[SummaryRow]:
    rows = []
    for row in tables.summarize(evaluation):
        cells = {key: Cell(None, missing=count) for key, count in row.missing.items() if count}
        for key, mean in row.means.items():
            if mean is not None:
                cells[key] = Cell(*mean, missing=row.missing.get(key, 0))
        if row.rtf is not None:
            cells["rtf"] = Cell(row.rtf)
        rows.append(SummaryRow(row.system, colors[row.system], cells))
    return rows


def _differences(evaluation: Evaluation, main: str) -> Differences:
    """Returns the paired differences of all systems to `main`, where there are any."""
    others = [system.name for system in evaluation.systems if system.name != main]
    found: Differences = {key: {} for key in evaluation.metrics}
    for key in evaluation.metrics:
        for name in others:
            if change := tables.difference(evaluation, key, name, main):
                found[key][name] = change
    return found


def _chart_data(
    evaluation: Evaluation, main: str, metric: str, colors: dict[str, int]
) -> dict[str, object]:
    """Returns what the charts draw; numbers are rounded, since nobody sees the sixth digit."""

    def value(key: str, system: str, item: str) -> float | None:
        score = evaluation.scores.get((system, item))
        found = score.values.get(key) if score else None
        return None if found is None or not math.isfinite(found) else float(f"{found:.5g}")

    systems = [system.name for system in evaluation.systems]
    items = [item.name for item in evaluation.items]
    texts = {key: text_of(key) for key in evaluation.metrics}
    return {
        "main": main,
        "metric": metric,
        "rangeDb": RANGE_DB,
        "items": items,
        "systems": [{"name": name, "color": colors[name]} for name in systems],
        "labels": _groupings(evaluation),
        "metrics": {
            key: {
                "title": f"{text.name} ({text.unit})" if text.unit else text.name,
                "digits": text.digits,
                "better": text.better,
            }
            for key, text in texts.items()
        },
        "scores": {
            key: [[value(key, system, item) for item in items] for system in systems]
            for key in evaluation.metrics
        },
    }


def _groupings(evaluation: Evaluation) -> dict[str, dict[str, object]]:
    """Returns the labels by which items fall into a few groups, the SNR first."""
    columns = dict.fromkeys(label for item in evaluation.items for label in item.labels)
    found: dict[str, dict[str, object]] = {}
    for label in sorted(columns, key=lambda name: name != "snr_db"):
        values = [item.labels.get(label, "") or "none" for item in evaluation.items]
        if 1 < len(set(values)) <= min(_MAX_GROUPS, len(values) - 1):
            found[label] = {"name": label_name(label), "values": values}
    return found


def _today() -> str:
    today = date.today()
    return f"{today.day} {today:%B %Y}"


def _facts(evaluation: Evaluation) -> str:
    items, systems = len(evaluation.items), len(evaluation.systems) - 1
    seconds = sum(
        score.duration_s for (system, _), score in evaluation.scores.items() if system == NOISY.name
    )
    length = f", {seconds / 60:.0f} min of sound" if seconds >= 90 else ""
    return (
        f"{_today()}. {items} item{'s' * (items != 1)}{length}, "
        f"{systems} denoiser{'s' * (systems != 1)}. Measured with quieten {evaluation.version}."
    )


def _finding(main: str, metric: str, change: tuple[float, float, float] | None) -> str:
    """Returns in a sentence what the first system does for the noisy files."""
    if change is None:
        return ""
    text = text_of(metric)
    mean, low, high = (-change[0], -change[2], -change[1])  # of the system to the noisy files
    unit = f" {text.unit}" if text.unit else ""
    verb = "raises" if mean > 0 else "lowers"
    sure = "" if low > 0 or high < 0 else " The interval includes zero."
    return (
        f"{escape(main)} {verb} {text.name} by <strong>{number(abs(mean), text.digits)}{unit}"
        "</strong> over the noisy files <span>(95&nbsp;% interval "
        f"{number(low, text.digits, True)} to {number(high, text.digits, True)}).{sure}</span>"
    )


def _chosen_text(main: str, metric: str, count: int, items: int) -> str:
    if not 0 < 3 * count < items:
        return ""
    those = f"the {count}" if count > 1 else "the one"
    some = f"{those[:1].upper()}{those[1:]} item{'s' * (count > 1)}"
    return (
        f"{some} that {escape(main)} improves most, {those} it improves least and {those} "
        f"in between, by {text_of(metric).name}."
    )


def _method(evaluation: Evaluation) -> str:
    commands = "".join(
        f"<li><strong>{escape(system.name)}</strong>: "
        f"{_KINDS[system.kind]} <code>{escape(system.spec)}</code></li>"
        for system in evaluation.systems
        if system != NOISY
    )
    align = " A constant delay was taken out of each result first." if evaluation.align else ""
    return (
        "<p>Each denoiser got the noisy files; its results were scored against the clean ones."
        f"{align} Items without a number are counted as missing and enter no mean. Intervals are "
        "95&nbsp;% percentile bootstrap intervals of the mean over items (Efron, 1979).</p>"
        f"<ul>{commands}</ul>"
    )


def _packages() -> str:
    found = []
    for name in _MEASURING:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)


def _write(
    path: Path, page: _Page, data: dict[str, object], cards: list[Card], colors: dict[str, int]
) -> Path:
    """Writes the page with as many cards, in as good a quality, as its weight allows."""
    kept, kbps = fit_cards(cards, MAX_BYTES)
    data["cards"] = {card.name: f"item-{place}" for place, card in enumerate(kept, 1)}
    left_out = len(cards) - len(kept)
    sounds = [
        [encode(one.waveform, card.sample_rate, kbps) for one in card.versions] for card in kept
    ]
    parts = {
        "title": escape(page.title),
        "facts": escape(page.facts),
        "finding": f'<p class="finding">{page.finding}</p>' if page.finding else "",
        "figures": page.figures,
        "chosen": page.chosen,
        "cards": cards_html(kept, sounds, colors),
        "method": page.method + _sounds_text(kbps, left_out),
        "definitions": definitions(page.metrics),
    }
    text = assemble(parts, data)
    temporary = path.with_name(f".quieten-{secrets.token_hex(6)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        reason = error.strerror
        raise AudioError(f"{path}: cannot be written ({reason}): choose another place") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
    return path


def _sounds_text(kbps: int, left_out: int) -> str:
    less = f" {left_out} items were left out to keep this file small." if left_out else ""
    return (
        f"<p>Sounds in this page are MP3 at {kbps}&nbsp;kbit/s for each channel, all on their "
        "original level; the removed sound is the noisy one minus the denoised one. Pictures: "
        "frames of 32&nbsp;ms; in each item, all on one scale whose top is its loudest "
        f"point.{less}</p><p>Versions: {_packages()}.</p>"
    )
