"""The markup of a report: tables, cards and the one file that holds all of it.

Nothing is read or computed here. Everything that comes from outside goes through `html.escape`.
"""

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from importlib.resources import files
from string import Template

from quieten.report.cards import Card, Version, played_rate
from quieten.report.pictures import RANGE_DB, WAVE_COLUMNS, filter_tables, gradient_stops, ticks


@dataclass(frozen=True)
class MetricText:
    """How people are told about a metric: `better` is 1 (higher), -1 (lower) or 0 (neither)."""

    name: str
    unit: str
    digits: int
    better: int
    meaning: str


METRIC_TEXTS = {
    "pesq_wb": MetricText(
        "PESQ wb", "", 2, 1, "Wide-band speech quality, 1 to 4.64 (ITU-T P.862.2)."
    ),
    "pesq_nb": MetricText(
        "PESQ nb", "", 2, 1, "Narrow-band speech quality, 1 to 4.55 (ITU-T P.862.1)."
    ),
    "stoi": MetricText(
        "STOI", "", 3, 1, "Short-time objective intelligibility, to 1 (Taal et al., 2011)."
    ),
    "estoi": MetricText(
        "ESTOI", "", 3, 1, "Its extended form, for noise that fluctuates (Jensen & Taal, 2016)."
    ),
    "si_sdr_db": MetricText(
        "SI-SDR", "dB", 1, 1, "Speech over everything else, deaf to level (Le Roux et al., 2019)."
    ),
    "snr_db": MetricText("SNR", "dB", 1, 1, "Clean speech over the difference from it."),
    "segmental_snr_db": MetricText(
        "Segmental SNR", "dB", 1, 1, "Mean SNR of 32 ms frames, each limited to -10 to 35 dB."
    ),
    "nsr": MetricText("NSR", "", 3, -1, "Energy of the difference over that of the clean speech."),
    "nsr_db": MetricText("NSR", "dB", 1, -1, "The same in decibels."),
    "lsd": MetricText(
        "LSD", "", 2, -1, "Log-spectral distance, log10 of power in frames of 1024 samples."
    ),
    "dnsmos_ovrl": MetricText(
        "DNSMOS", "", 2, 1, "Overall opinion, 1 to 5, guessed by a network (Reddy et al., 2022)."
    ),
    "dnsmos_sig": MetricText(
        "DNSMOS speech", "", 2, 1, "Opinion of the speech alone, by the same network."
    ),
    "dnsmos_bak": MetricText(
        "DNSMOS noise", "", 2, 1, "Opinion of the background alone, by the same network."
    ),
    "delay_ms": MetricText("Delay", "ms", 1, 0, "How much later the result is."),
    "clipped_samples": MetricText("Clipped", "samples", 0, 0, "Samples stuck at full scale."),
    "loudness_lufs": MetricText("Loudness", "LUFS", 1, 0, "Programme loudness (ITU-R BS.1770-4)."),
    "rtf": MetricText(
        "Real-time factor", "", 3, -1, "Processor seconds for each second of sound, one thread."
    ),
}
HEADLINES = ("pesq_wb", "pesq_nb", "stoi", "estoi", "si_sdr_db", "dnsmos_ovrl", "rtf")
CARD_METRICS = ("pesq_wb", "stoi", "si_sdr_db", "dnsmos_ovrl", "pesq_nb", "loudness_lufs")
_SHOWN_SCORES = 4
_UNITS = {"db": "dB", "hz": "Hz", "s": "s", "ms": "ms", "dbfs": "dBFS"}
_ACRONYMS = {"snr", "rir", "id", "rt60"}


@dataclass(frozen=True)
class Cell:
    """A figure of the summary: mean and interval; `missing` items have none."""

    mean: float | None
    low: float | None = None
    high: float | None = None
    missing: int = 0


@dataclass(frozen=True)
class SummaryRow:
    """A system in the summary; `color` is its place among the colours, 0 for the noisy files."""

    name: str
    color: int
    cells: dict[str, Cell]


def text_of(metric: str) -> MetricText:
    """Returns how people are told about a metric, also about one that is not known here."""
    return METRIC_TEXTS.get(metric, MetricText(metric, "", 3, 1, ""))


def number(value: float | None, digits: int, sign: bool = False) -> str:
    """Returns a number for reading: a true minus, and a dash where there is none."""
    if value is None:
        return "–"
    text = f"{value:{'+' if sign else ''}.{digits}f}"
    return text.replace("-", "\N{MINUS SIGN}")


def label_name(label: str) -> str:
    """Returns the column of a manifest as words: `snr_db` is "SNR (dB)"."""
    words = [word for word in label.split("_") if word] or [label]
    unit = _UNITS.get(words[-1].lower()) if len(words) > 1 else None
    words = words[:-1] if unit else words
    text = " ".join(word.upper() if word.lower() in _ACRONYMS else word for word in words)
    return f"{text[:1].upper()}{text[1:]}" + (f" ({unit})" if unit else "")


def summary_table(rows: Sequence[SummaryRow], metrics: Sequence[str]) -> str:
    """Returns the table of means; columns beyond the headlines are hidden until asked for."""
    heads = "".join(_head(metric) for metric in metrics)
    lines = []
    for row in rows:
        name = f'<th scope="row"><span class="dot c{row.color}"></span>{escape(row.name)}</th>'
        cells = (_cell(row, rows, metric) for metric in metrics)
        lines.append(f"<tr>{name}{''.join(cells)}</tr>")
    return (
        '<table class="sortable"><thead><tr><th scope="col"><button type="button">System</button>'
        f"</th>{heads}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
    )


def _head(metric: str) -> str:
    text = text_of(metric)
    arrow = {1: "higher is better", -1: "lower is better", 0: ""}[text.better]
    unit = f' <span class="unit">{escape(text.unit)}</span>' if text.unit else ""
    return (
        f'<th scope="col" class="number{_more(metric)}" title="{escape(text.meaning)} {arrow}">'
        f'<button type="button">{escape(text.name)}{unit}</button></th>'
    )


def _more(metric: str) -> str:
    return "" if metric in HEADLINES else " more"


def _cell(row: SummaryRow, rows: Sequence[SummaryRow], metric: str) -> str:
    cell, text = row.cells.get(metric, Cell(None)), text_of(metric)
    interval = missing = ""
    if cell.low is not None and cell.high is not None:
        bounds = f"{number(cell.low, text.digits)} to {number(cell.high, text.digits)}"
        interval = f'<span class="interval">{bounds}</span>'
    if cell.missing:
        missing = f'<span class="missing">{cell.missing} missing</span>'
    means = [one.cells[metric].mean for one in rows if metric in one.cells]
    known = [text.better * mean for mean in means if mean is not None]
    is_best = (
        text.better != 0
        and cell.mean is not None
        and len(known) > 1
        and text.better * cell.mean == max(known)
    )
    mean = number(cell.mean, text.digits)
    mean = f'<strong>{mean}<span class="quiet">, best</span></strong>' if is_best else mean
    value = "" if cell.mean is None else f' data-value="{cell.mean:.6g}"'
    return f'<td class="number{_more(metric)}"{value}>{mean}{interval}{missing}</td>'


def cards_html(
    cards: Sequence[Card], sounds: Sequence[Sequence[bytes]], colors: dict[str, int]
) -> str:
    """Returns the cards; `sounds` holds the MP3 file of each version of each card."""
    pairs = zip(cards, sounds, strict=True)
    return "".join(_card(index, card, mp3s, colors) for index, (card, mp3s) in enumerate(pairs, 1))


def _card(index: int, card: Card, sounds: Sequence[bytes], colors: dict[str, int]) -> str:
    labels = "".join(
        f"<li><span>{escape(label_name(label))}</span> {escape(value)}</li>"
        for label, value in card.labels.items()
        if value
    )
    versions = "".join(
        _version(place, version, sound, card, colors)
        for place, (version, sound) in enumerate(zip(card.versions, sounds, strict=True))
    )
    notes = f'<p class="note">{escape("; ".join(card.notes).capitalize())}.</p>' * bool(card.notes)
    seconds = ticks(card.duration_s, 6)
    marks = "".join(
        f'<span data-place="{second / card.duration_s:.5f}">{second:g}{" s" * (second == 0)}</span>'
        for second in seconds
    )
    why = f'<p class="why">{escape(card.why)}</p>' if card.why else ""
    return _template("card.html").substitute(
        index=index,
        name=escape(card.name),
        why=why,
        labels=f'<ul class="labels">{labels}</ul>' if labels else "",
        duration=f"{card.duration_s:.4f}",
        top_hz=card.sample_rate / 2,
        played_rate=played_rate(card.sample_rate),
        length=f"{card.duration_s:.1f}",
        versions=versions,
        marks=marks,
        notes=notes,
    )


def _version(place: int, version: Version, sound: bytes, card: Card, colors: dict[str, int]) -> str:
    shown = [metric for metric in CARD_METRICS if metric in version.scores][:_SHOWN_SCORES]
    scores = "".join(
        f"<div><dt>{escape(text_of(metric).name)}</dt>"
        f"<dd>{number(version.scores[metric], text_of(metric).digits)}</dd></div>"
        for metric in shown
    )
    top_khz = card.sample_rate / 2000
    axis = "".join(
        f'<span data-place="{khz / top_khz:.4f}">{khz:g}{" kHz" * (khz == 0)}</span>'
        for khz in ticks(top_khz, 4)
    )
    color = {"noisy": "c0", "removed": "removed", "clean": "clean"}.get(
        version.role, f"c{colors.get(version.name, 1)}"
    )
    return _template("version.html").substitute(
        place=place,
        key=place + 1,
        pressed="true" if place == 0 else "false",
        color=color,
        name=escape(version.name),
        alt=escape(f"Spectrogram of {card.name}, {version.name.lower()}", quote=True),
        scores=f"<dl>{scores}</dl>" if scores else "",
        axis=axis,
        picture=base64.b64encode(version.picture).decode(),
        sound=base64.b64encode(sound).decode(),
        wave=version.wave,
        width=WAVE_COLUMNS - 1,
    )


def figures(table: str, footnotes: Sequence[str]) -> str:
    """Returns the sections about a whole test set: the summary `table` and places for charts.

    `footnotes` say which figures are missing, and why.
    """
    lines = "".join(f"<li>{escape(line)}</li>" for line in footnotes)
    notes = f'<ul class="footnotes">{lines}</ul>' if lines else ""
    return _template("figures.html").substitute(table=table, footnotes=notes)


def definitions(metrics: Sequence[str]) -> str:
    """Returns what the metrics mean, as a list of definitions."""
    way = {1: " Higher is better.", -1: " Lower is better.", 0: ""}
    return "".join(
        f"<div><dt>{escape(text.name)}{f' ({text.unit})' * bool(text.unit)}</dt>"
        f"<dd>{escape(text.meaning + way[text.better])}</dd></div>"
        for text in map(text_of, metrics)
    )


def assemble(parts: dict[str, str], data: dict[str, object]) -> str:
    """Returns the page: template, styles, scripts and data in one text, with its CSP.

    Styles and scripts are allowed by their hashes, pictures and sounds only from within the page.
    """
    styles = _asset("report.css").replace("/*gradients*/", _gradients())
    script = "\n".join(_asset(name) for name in ("report.js", "player.js"))
    policy = (
        f"default-src 'none'; style-src '{_hash(styles)}'; script-src '{_hash(script)}'; "
        "img-src data: blob:; media-src data: blob:; base-uri 'none'; form-action 'none'"
    )
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return _template("report.html").substitute(
        parts,
        policy=policy,
        styles=styles,
        script=script,
        filters=filter_tables(),
        range_db=f"{RANGE_DB:g}",
        data=text.replace("<", "\\u003c"),  # no end tag can hide in a name
    )


def _gradients() -> str:
    return "".join(
        f":root{{--{scheme}-scale:linear-gradient(90deg,{gradient_stops(scheme)})}}"
        for scheme in ("light", "dark")
    )


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


@cache
def _template(name: str) -> Template:
    return Template(_asset(name))


def _asset(name: str) -> str:
    return (files("quieten.report") / "assets" / name).read_text("utf-8")
