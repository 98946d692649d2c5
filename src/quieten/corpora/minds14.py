"""PolyAI/minds14: what callers ask a bank, by telephone, in 14 languages; 8 kHz, CC BY 4.0.

Gerz et al., "Multilingual and cross-lingual intent detection from spoken data", 2021. Who speaks
is not known. It comes in three layouts, and all are read: the parquet files of the hub
(LANGUAGE/train-*.parquet, or all/ for all languages), the archive MInDS-14.zip that stood there
before (also with the archive audio.zip inside), and its folders LANGUAGE~INTENT/NAME.wav.
"""

import re
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from quieten.corpora.corpus import Recording
from quieten.errors import ConfigError, MissingExtra

REPOSITORY = "PolyAI/minds14"
LANGUAGES = (
    "cs-CZ",
    "de-DE",
    "en-AU",
    "en-GB",
    "en-US",
    "es-ES",
    "fr-FR",
    "it-IT",
    "ko-KR",
    "nl-NL",
    "pl-PL",
    "pt-PT",
    "ru-RU",
    "zh-CN",
)
"""In the order of the numbers that the column lang_id holds."""
INTENTS = (
    "abroad",
    "address",
    "app_error",
    "atm_limit",
    "balance",
    "business_loan",
    "card_issues",
    "cash_deposit",
    "direct_debit",
    "freeze",
    "high_value_payment",
    "joint_account",
    "latest_transactions",
    "pay_bill",
)
"""In the order of the numbers that the column intent_class holds."""

_COLUMNS = ("path", "audio", "intent_class", "lang_id")
_ROWS_AT_ONCE = 16  # some 100 kB of sound each
_AUDIO = re.compile(r"(?:^|/)([a-z]{2}-[A-Z]{2})~([A-Za-z_]+)/([^/]+)\.wav$")
_INNER_ARCHIVE = "audio.zip"
Entry = tuple[str, Callable[[], bytes]]  # a path, and what reads the file


def check_language(language: str) -> None:
    """Raises ConfigError, with the names of all languages, for one that the corpus lacks."""
    if language not in LANGUAGES:
        raise ConfigError(f"language {language}: choose among {', '.join(LANGUAGES)}")


def recordings(source: Path | None, language: str = "en-US") -> Iterator[Recording]:
    """Yields the recordings of one language.

    Args:
        source: a local copy: a folder somewhere in which one of the layouts lies, a .parquet or a
            .zip file; None downloads the parquet files with the library `datasets`.
        language: one of `LANGUAGES`.

    Raises:
        ConfigError: the language is unknown, there is no such copy, it is broken or holds no
            recording of that language, or it cannot be downloaded.
        MissingExtra: `pyarrow` or `datasets` are needed, but not installed.
    """
    check_language(language)
    found = _downloaded(language) if source is None else _local(source, language)
    first = next(found, None)
    if first is None:
        where = source or REPOSITORY
        raise ConfigError(f"{where}: holds no recordings of {language}: name a copy that does")
    yield first
    yield from found


def _local(source: Path, language: str) -> Iterator[Recording]:
    if source.is_file():
        if source.suffix == ".zip":
            return _from_zip(source, language)
        return _from_parquet([source], language)
    if not source.is_dir():
        raise ConfigError(f"{source}: is not there: {_ADVICE}")
    tables = sorted(source.rglob("*.parquet"))
    own = [path for path in tables if language in path.absolute().parts]
    if own or tables:
        return _from_parquet(own or tables, language)
    archives = sorted(source.rglob("MInDS-14.zip"))
    if archives:
        return _from_zip(archives[0], language)
    return _from_entries(_files(source), language)


_ADVICE = f"copy https://huggingface.co/datasets/{REPOSITORY} here and name its folder with --from"


def _files(folder: Path) -> Iterator[Entry]:
    for path in sorted(folder.rglob("*.wav")):
        yield path.absolute().as_posix(), path.read_bytes


def _from_entries(entries: Iterable[Entry], language: str) -> Iterator[Recording]:
    for path, read in entries:
        match = _AUDIO.search(path)
        if match and match[1] == language:
            yield _recording(match[3], read(), match[2].lower(), language)


def _recording(name: str, data: bytes, intent: str, language: str) -> Recording:
    labels = {
        "language": language,
        "intent": intent,
        "source": REPOSITORY,
        "licence": "CC BY 4.0",
    }
    return Recording(name, data, labels=labels)


def _from_zip(path: Path, language: str) -> Iterator[Recording]:
    try:
        with zipfile.ZipFile(path) as archive:
            yield from _from_entries(_zipped(archive), language)
    except (zipfile.BadZipFile, zipfile.LargeZipFile, EOFError) as error:
        raise ConfigError(
            f"{path}: is no archive that can be read ({error}): get it again"
        ) from None


def _zipped(archive: zipfile.ZipFile) -> Iterator[Entry]:
    """The files of an archive, and of the archive of sounds inside it."""
    for name in sorted(archive.namelist()):
        if PurePosixPath(name).name == _INNER_ARCHIVE:
            with archive.open(name) as file, zipfile.ZipFile(file) as inner:
                yield from _zipped(inner)
        else:
            yield name, partial(archive.read, name)


def _from_parquet(paths: Iterable[Path], language: str) -> Iterator[Recording]:
    try:
        from pyarrow import ArrowException, parquet
    except ModuleNotFoundError:
        raise MissingExtra("hub", "reading parquet files") from None
    for path in paths:
        try:
            with parquet.ParquetFile(path) as table:
                columns = [name for name in _COLUMNS if name in table.schema_arrow.names]
                for batch in table.iter_batches(_ROWS_AT_ONCE, columns=columns):
                    yield from _from_rows(batch.to_pylist(), language)
        except (ArrowException, KeyError, TypeError) as error:
            raise ConfigError(
                f"{path}: is no table of {REPOSITORY} ({error}): get it again"
            ) from None


def _from_rows(rows: Iterable[Mapping[str, Any]], language: str) -> Iterator[Recording]:
    """Rows of the hub: the sound as {"bytes", "path"}, intent and language as numbers."""
    number = LANGUAGES.index(language)
    for row in rows:
        if row.get("lang_id", number) == number:
            audio = row["audio"]
            name = PurePosixPath(row.get("path") or audio["path"]).stem
            data = audio["bytes"] or Path(audio["path"]).read_bytes()
            yield _recording(name, data, INTENTS[row["intent_class"]], language)


def _downloaded(language: str) -> Iterator[Recording]:
    try:
        import datasets
    except ModuleNotFoundError:
        raise MissingExtra(
            "hub", f"downloading {REPOSITORY} (a local copy goes with --from)"
        ) from None
    with _without_network():
        table = datasets.load_dataset(REPOSITORY, language, split="train")
    table = table.cast_column("audio", datasets.Audio(decode=False))  # bytes as they are
    yield from _from_rows(table, language)


@contextmanager
def _without_network() -> Iterator[None]:
    try:
        yield
    except Exception as error:  # of a dozen classes, by the library that meets the closed door
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ConfigError(f"{REPOSITORY} cannot be downloaded ({reason}): {_ADVICE}") from error
