"""Test sets on disk: pairs of a noisy and a clean file, with what a manifest says about them.

A test set is a folder with `noisy/` and `clean/`, or a CSV file with the columns `noisy` and
`clean`. Sounds are not read beyond their headers; `quieten.testsets.mixing` makes test sets.
"""

import csv
import io
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from quieten.audio import probe
from quieten.errors import AudioError, ConfigError
from quieten.formats import AUDIO_SUFFIXES

MANIFEST = "manifest.csv"
NOISY_FOLDER, CLEAN_FOLDER = "noisy", "clean"
KEY_COLUMNS = ("id", "name", "file")
"""Columns that may hold the name of an item; the first one found counts."""

_SHOWN = 3  # files named in a message that could name hundreds


@dataclass(frozen=True)
class Item:
    """One noisy file, its clean one where there is one, and what the manifest says of them."""

    name: str  # unique in its test set; folders inside are kept: "rooms/017"
    noisy: Path
    clean: Path | None = None
    labels: dict[str, str] = field(default_factory=dict)  # column -> text, such as snr_db -> "-5"


def read_testset(
    path: Path, *, clean_folder: str = CLEAN_FOLDER, where: Sequence[str] = ()
) -> list[Item]:
    """Returns the items of the test set at `path`, in the order of their names or rows.

    Args:
        path: a folder with `noisy/` and a folder of clean files under the same names (suffixes
            may differ, folders inside are mirrored), labelled by its `manifest.csv` where there
            is one; or a CSV file with the columns `noisy` and `clean`, relative to it, where
            `clean` may be empty.
        clean_folder: which folder beside `noisy/` holds the clean files.
        where: conditions `column=value` on the labels; all of them must hold. Numbers are
            compared as numbers.

    Raises:
        ConfigError: nothing is there, files of a pair are missing, names occur twice, the
            manifest cannot be used, or a condition fits nothing.
        AudioError: a file cannot be read, or a pair differs in rate, channels or length.
    """
    path = Path(path)
    items = _read_items(path, clean_folder, where)
    for item in items:
        _check_pair(item)
    return items


def select(items: Sequence[Item], where: Sequence[str]) -> list[Item]:
    """Returns the items that fulfil all conditions `column=value`.

    Raises:
        ConfigError: a condition is malformed, names an unknown column or value, or all of them
            together leave nothing.
    """
    kept = list(items)
    for condition in where:
        column, equals, value = (part.strip() for part in condition.partition("="))
        if not equals or not column:
            raise ConfigError(f"where {condition!r}: write it as column=value, such as snr_db=-5")
        _check_known(items, column, value)
        kept = [item for item in kept if _same_value(item.labels.get(column, ""), value)]
    if where and not kept:
        raise ConfigError(f"no item has {' and '.join(where)}: leave a condition out")
    return kept


def _check_known(items: Sequence[Item], column: str, value: str) -> None:
    columns = {name: None for item in items for name in item.labels}
    if column not in columns:
        known = f"take one of {', '.join(columns)}" if columns else "the test set has no labels"
        raise ConfigError(f"where {column}={value}: there is no column {column!r}: {known}")
    values = list(dict.fromkeys(item.labels.get(column, "") for item in items))
    if not any(_same_value(text, value) for text in values):
        more = f" and {len(values) - 10} more" if len(values) > 10 else ""
        known = ", ".join(text or "(empty)" for text in values[:10]) + more
        raise ConfigError(f"where {column}={value}: no item has it: the values are {known}")


def _same_value(one: str, other: str) -> bool:
    try:
        return one == other or float(one) == float(other)
    except ValueError:
        return False


def _read_items(path: Path, clean_folder: str, where: Sequence[str]) -> list[Item]:
    if path.is_file():
        columns, rows = _read_table(path)
        if NOISY_FOLDER in columns:
            return select(_listed_items(path, rows), where)
        if not (path.parent / NOISY_FOLDER).is_dir():
            raise ConfigError(f"{path}: has no column noisy: add noisy and clean, with file names")
        path = path.parent  # the manifest that labels a folder
    if not path.is_dir():
        raise ConfigError(f"{path}: is not there: name a test set (a folder or a CSV file)")
    if (path / NOISY_FOLDER).is_dir():
        return _folder_items(path, clean_folder, where)
    manifest = path / MANIFEST
    if manifest.is_file():
        return select(_listed_items(manifest, _read_table(manifest)[1]), where)
    raise ConfigError(f"{path}: has neither a folder noisy/ nor {MANIFEST}: name a test set")


def _folder_items(path: Path, clean_folder: str, where: Sequence[str]) -> list[Item]:
    noisy, clean = _scan(path / NOISY_FOLDER), _scan(path / clean_folder)
    if not noisy:
        raise ConfigError(f"{path / NOISY_FOLDER}: holds no audio files: add some")
    if not (path / clean_folder).is_dir():
        raise ConfigError(
            f"{path}: has no folder {clean_folder}/: name the one with the clean files, or list "
            "the noisy ones in a CSV file with an empty column clean"
        )
    labels = _read_labels(path / MANIFEST, noisy)
    items = [Item(name, file, clean.get(name), labels[name]) for name, file in noisy.items()]
    items = select(items, where)  # clean files may be there for a part only, such as clean_early
    without = [f"{NOISY_FOLDER}/{item.name}" for item in items if item.clean is None]
    without += [f"{clean_folder}/{name}" for name in clean if name not in noisy]
    if without:
        raise ConfigError(f"{path}: {_some(without)} without a partner: add or remove files")
    return items


def _scan(folder: Path) -> dict[str, Path]:
    """The audio files below a folder by name, sorted; hidden ones do not count."""
    found: dict[str, Path] = {}
    for file in sorted(audio_files(folder)):
        name = file.relative_to(folder).with_suffix("").as_posix()
        if name in found:
            raise ConfigError(f"{found[name]} and {file.name} have one name: rename one of them")
        found[name] = file
    return found


def audio_files(folder: Path) -> Iterator[Path]:
    """Yields the audio files below a folder in no order, without hidden ones."""
    for root, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name[0] != "."]
        for name in names:
            if name[0] != "." and Path(name).suffix.lower() in AUDIO_SUFFIXES:
                yield Path(root, name)


def _listed_items(manifest: Path, rows: list[dict[str, str]]) -> list[Item]:
    """The items of a CSV file that names their files itself."""
    key = next((column for column in KEY_COLUMNS if rows and column in rows[0]), None)
    items = []
    for number, row in enumerate(rows, 2):
        noisy, clean = row.get("noisy", ""), row.get("clean", "")
        name = _bare(row[key] if key else Path(noisy).name)
        if not noisy or not _is_safe(name):
            raise ConfigError(f"{manifest}: line {number} has no good name or file: correct it")
        folder, labels = manifest.parent, _without(row, key, "noisy", "clean")
        items.append(Item(name, folder / noisy, folder / clean if clean else None, labels))
    if not items:
        raise ConfigError(f"{manifest}: lists no items: add a line for each noisy file")
    _check_listed(manifest, items)
    return items


def _check_listed(manifest: Path, items: list[Item]) -> None:
    twice = _repeated([item.name for item in items])
    if twice:
        raise ConfigError(f"{manifest}: {_some(twice)} named twice: give each item its own id")
    files = [file for item in items for file in (item.noisy, item.clean) if file]
    absent = [str(file) for file in files if not file.is_file()]
    if absent:
        raise ConfigError(f"{manifest}: {_some(absent)} not there: correct the names")


def _read_labels(manifest: Path, names: Iterable[str]) -> dict[str, dict[str, str]]:
    """Name -> labels from the manifest of a folder; all have the same columns, perhaps none."""
    if not manifest.is_file():
        return {name: {} for name in names}
    columns, rows = _read_table(manifest)
    key = next((column for column in KEY_COLUMNS if column in columns), None)
    if key is None:
        raise ConfigError(f"{manifest}: has no column id: name each item there by its file name")
    twice = _repeated([_bare(row[key]) for row in rows])
    if twice:
        raise ConfigError(f"{manifest}: {_some(twice)} listed twice: remove lines")
    found = {_bare(row[key]): _without(row, key) for row in rows}
    if rows and not found.keys() & set(names):
        raise ConfigError(f"{manifest}: column {key} names none of the files: correct it")
    nothing = dict.fromkeys((column for column in columns if column != key), "")
    return {name: found.get(name, nothing) for name in names}


def _without(row: dict[str, str], *columns: str | None) -> dict[str, str]:
    return {name: text for name, text in row.items() if name not in columns}


def _repeated(names: Sequence[str]) -> list[str]:
    return [name for name, count in Counter(names).items() if count > 1]


def _read_table(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """The columns and rows of a CSV file: UTF-8, split by commas, semicolons or tabs."""
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeError):
        raise ConfigError(f"{path}: cannot be read: save it as CSV in UTF-8") from None
    delimiter = max(",;\t", key=text.partition("\n")[0].count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        header, *rows = [row for row in reader if row]
    except (csv.Error, ValueError):
        raise ConfigError(f"{path}: is not a CSV file: write a header, then the items") from None
    columns = [name.strip() for name in header]
    odd = next((number for number, row in enumerate(rows, 2) if len(row) != len(columns)), None)
    if odd or len(set(columns)) < len(columns):
        what = f"line {odd} has another number of cells" if odd else "two columns share a name"
        raise ConfigError(f"{path}: {what}: correct it")
    return columns, [dict(zip(columns, map(str.strip, row), strict=True)) for row in rows]


def _bare(name: str) -> str:
    """The name without an audio suffix: manifests say 001 or 001.flac."""
    path = PurePosixPath(name)
    return str(path.with_suffix("")) if path.suffix.lower() in AUDIO_SUFFIXES else name


def _is_safe(name: str) -> bool:
    """Whether a name stays inside the folder that results are written to."""
    path = PurePosixPath(name)
    plain = name.isprintable() and "\\" not in name and ":" not in name
    return bool(path.name) and plain and not path.is_absolute() and ".." not in path.parts


def _some(names: Sequence[str]) -> str:
    """The first few names, how many more there are, and the verb."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more + (" is" if len(names) == 1 else " are")


def _check_pair(item: Item) -> None:
    noisy = probe(item.noisy)
    if item.clean is None:
        return
    clean = probe(item.clean)
    differences = {
        "rate": (f"{noisy.sample_rate} Hz", f"{clean.sample_rate} Hz"),
        "channels": (str(noisy.channels), str(clean.channels)),
        # a length of 0 is one that the header does not tell
        "length": (f"{noisy.frames or clean.frames}", f"{clean.frames or noisy.frames}"),
    }
    for what, (one, other) in differences.items():
        if one != other:
            raise AudioError(
                f"{item.noisy}: differs in {what} from {item.clean} ({one}, {other}): "
                "the files of a pair must be of one kind"
            )
