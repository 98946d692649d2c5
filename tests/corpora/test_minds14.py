"""PolyAI/minds14 in the layouts that it comes in, on small copies made by code."""

import io
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import soundfile

from quieten.corpora.corpus import Recording
from quieten.corpora.minds14 import INTENTS, LANGUAGES, recordings
from quieten.errors import ConfigError, MissingExtra

RATE = 8000
# name, language, intent
CALLS = (
    ("602ba55abb1e6d0fbce92065", "en-US", "joint_account"),
    ("602baf24963e11ccd901cdb8", "en-US", "app_error"),
    ("602bad8abb1e6d0fbce920cc", "fr-FR", "card_issues"),
)


def sound(name: str) -> bytes:
    """The bytes of a WAV file that differs from call to call."""
    rng = np.random.default_rng(int(name, 16) % 2**32)
    file = io.BytesIO()
    soundfile.write(file, rng.normal(0, 0.1, RATE // 10), RATE, "PCM_16", format="WAV")
    return file.getvalue()


def folder_of(language: str, intent: str) -> str:
    return f"{language}~{intent.upper()}"


def expected(language: str) -> dict[str, tuple[str, bytes]]:
    return {name: (intent, sound(name)) for name, own, intent in CALLS if own == language}


def found(given: list[Recording]) -> dict[str, tuple[str, bytes]]:
    assert len({each.name for each in given}) == len(given)
    return {each.name: (each.labels["intent"], each.data) for each in given}


@pytest.fixture
def unpacked(tmp_path: Path) -> Path:
    """The folders of the archive, below the name that it has inside."""
    for name, language, intent in CALLS:
        path = tmp_path / "MInDS-14" / "audio" / folder_of(language, intent) / f"{name}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(sound(name))
    text = tmp_path / "MInDS-14" / "text" / "en-US.csv"
    text.parent.mkdir()
    text.write_text("filepath,text_asr,text_translated,intent\n")
    return tmp_path


def write_archive(path: Path, nested: bool) -> Path:
    """MInDS-14.zip as it stands on the hub, or as first published, with archives inside."""
    path.parent.mkdir(parents=True, exist_ok=True)
    inner = io.BytesIO()
    with zipfile.ZipFile(path, "w") as outer, zipfile.ZipFile(inner, "w") as audio:
        for name, language, intent in CALLS:
            place = f"{folder_of(language, intent)}/{name}.wav"
            if nested:
                audio.writestr(place, sound(name))
            else:
                outer.writestr(f"MInDS-14/audio/{place}", sound(name))
        audio.close()
        if nested:
            outer.writestr("MInDS-14/audio.zip", inner.getvalue())
        outer.writestr("MInDS-14/license.md", "CC BY 4.0")
    return path


def rows(language: str | None = None) -> list[dict[str, object]]:
    """Rows as the hub has them."""
    return [
        {
            "path": f"{folder_of(own, intent)}/{name}.wav",
            "audio": {"bytes": sound(name), "path": f"{name}.wav"},
            "transcription": "hello",
            "intent_class": INTENTS.index(intent),
            "lang_id": LANGUAGES.index(own),
        }
        for name, own, intent in CALLS
        if language in (None, own)
    ]


def write_table(path: Path, language: str | None) -> Path:
    pyarrow = pytest.importorskip("pyarrow")
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.Table.from_pylist(rows(language)), path)
    return path


@pytest.mark.parametrize("language", ["en-US", "fr-FR"])
def test_unpacked_folders(unpacked: Path, language: str):
    given = list(recordings(unpacked, language))
    assert found(given) == expected(language)
    assert dict(given[0].labels) == {
        "language": language,
        "intent": given[0].labels["intent"],
        "source": "PolyAI/minds14",
        "licence": "CC BY 4.0",
    }
    assert {each.speaker for each in given} == {""}  # not known


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("by_folder", [False, True])
def test_archives(tmp_path: Path, nested: bool, by_folder: bool):
    path = write_archive(tmp_path / "data" / "MInDS-14.zip", nested)
    source = tmp_path if by_folder else path
    assert found(list(recordings(source))) == expected("en-US")


@pytest.mark.parametrize(
    "place",
    [
        "en-US/train-00000-of-00001.parquet",  # as the hub has it
        "data/en-US/train.parquet",
        "en-US/train/0000.parquet",  # its branch refs/convert/parquet
        "datasets--PolyAI--minds14/snapshots/40ce77c/en-US/train-00000-of-00001.parquet",
    ],
)
def test_tables_of_the_hub(tmp_path: Path, place: str):
    write_table(tmp_path / place, "en-US")
    write_table(tmp_path / "fr-FR" / "train.parquet", "fr-FR")
    assert found(list(recordings(tmp_path))) == expected("en-US")


def test_one_table_of_all_languages(tmp_path: Path):
    path = write_table(tmp_path / "all" / "train-00000-of-00002.parquet", None)
    for source in (path, tmp_path):
        assert found(list(recordings(source, "fr-FR"))) == expected("fr-FR")


def test_a_table_of_something_else(tmp_path: Path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "en-US" / "x.parquet"
    path.parent.mkdir()
    parquet.write_table(pyarrow.table({"text": ["hello"]}), path)
    with pytest.raises(ConfigError, match=r"x\.parquet: is no table of PolyAI/minds14"):
        list(recordings(tmp_path))
    path.write_bytes(b"PAR1 but no more")
    with pytest.raises(ConfigError, match=r"x\.parquet: is no table of PolyAI/minds14"):
        list(recordings(tmp_path))


def test_tables_without_pyarrow_name_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "x.parquet").touch()
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtra, match=r'parquet files needs: pip install "quieten\[hub\]"'):
        list(recordings(tmp_path))


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable], None]:
    """A function that puts something in the place of `datasets.load_dataset`."""

    def install(load_dataset: Callable) -> None:
        module = ModuleType("datasets")
        vars(module).update(load_dataset=load_dataset, Audio=lambda decode: ("audio", decode))
        monkeypatch.setitem(sys.modules, "datasets", module)

    return install


class Table(list):
    """What `load_dataset` returns, as far as it is used."""

    def cast_column(self, name: str, feature: object) -> "Table":
        assert (name, feature) == ("audio", ("audio", False))  # bytes: nothing is decoded
        return self


def test_the_library_downloads(library: Callable, tmp_path: Path):
    asked: list[tuple] = []
    given = rows("fr-FR")
    beside = tmp_path / "call.wav"
    beside.write_bytes(sound(CALLS[2][0]))
    given[0]["audio"] = {"bytes": None, "path": str(beside)}  # older releases keep files

    def load_dataset(*names: str, split: str) -> Table:
        asked.append((*names, split))
        return Table(given)

    library(load_dataset)
    assert found(list(recordings(None, "fr-FR"))) == expected("fr-FR")
    assert asked == [("PolyAI/minds14", "fr-FR", "train")]


def test_offline_says_what_to_do_in_one_line(library: Callable):
    def load_dataset(*names: str, split: str) -> Table:
        raise ConnectionError("Couldn't reach 'PolyAI/minds14' on the Hub\n(a long story)")

    library(load_dataset)
    with pytest.raises(ConfigError) as caught:
        list(recordings(None))
    assert str(caught.value) == (
        "PolyAI/minds14 cannot be downloaded (Couldn't reach 'PolyAI/minds14' on the Hub): copy "
        "https://huggingface.co/datasets/PolyAI/minds14 here and name its folder with --from"
    )


def test_without_the_library_both_ways_are_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtra, match=r'--from\) needs: pip install "quieten\[hub\]"'):
        list(recordings(None))


def test_copies_that_cannot_be_used(tmp_path: Path, unpacked: Path):
    with pytest.raises(ConfigError, match="language en-us: choose among cs-CZ, "):
        list(recordings(unpacked, "en-us"))
    with pytest.raises(ConfigError, match="holds no recordings of ko-KR"):
        list(recordings(unpacked, "ko-KR"))
    with pytest.raises(ConfigError, match="nowhere: is not there: copy https"):
        list(recordings(tmp_path / "nowhere"))
    (tmp_path / "x.zip").write_bytes(b"PK no archive")
    with pytest.raises(ConfigError, match=r"x\.zip: is no archive that can be read"):
        list(recordings(tmp_path / "x.zip"))


def test_languages_and_intents_are_those_of_the_corpus():
    assert len(LANGUAGES) == len(INTENTS) == 14
    assert list(LANGUAGES) == sorted(LANGUAGES)
    assert list(INTENTS) == sorted(INTENTS)
