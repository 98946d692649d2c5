"""Pairs are found by name or by list, labelled, chosen by condition, and checked."""

import numpy as np
import pytest

from quieten.audio import write_audio
from quieten.errors import AudioError, ConfigError
from quieten.testsets.pairs import Item, read_testset, select

LABELS = "id,snr_db,noise_type\n001,-5,rain\n002,0,rain\n003,10,babble\n"


def put(path, *, frames=800, rate=16_000, channels=1):
    path.parent.mkdir(parents=True, exist_ok=True)
    write_audio(path, np.full((channels, frames), 0.1, np.float32), rate)
    return path


@pytest.fixture
def folder(tmp_path):
    """A test set of three pairs with a manifest."""
    for part in ("noisy", "clean"):
        for name in ("001", "002", "003"):
            put(tmp_path / "set" / part / f"{name}.flac")
    (tmp_path / "set" / "manifest.csv").write_text(LABELS)
    return tmp_path / "set"


def names(items):
    return [item.name for item in items]


def test_a_folder_gives_pairs_with_labels(folder):
    items = read_testset(folder)
    assert names(items) == ["001", "002", "003"]
    assert items[0] == Item(
        "001",
        folder / "noisy" / "001.flac",
        folder / "clean" / "001.flac",
        {"snr_db": "-5", "noise_type": "rain"},
    )


def test_the_manifest_of_a_folder_stands_for_it(folder):
    assert read_testset(folder / "manifest.csv") == read_testset(folder)


def test_folders_inside_are_mirrored_and_suffixes_may_differ(tmp_path):
    put(tmp_path / "noisy" / "b" / "x.wav")
    put(tmp_path / "noisy" / "a.x.flac")
    put(tmp_path / "noisy" / ".hidden.wav")
    (tmp_path / "noisy" / "notes.txt").write_text("no sound")
    put(tmp_path / "clean" / "a.x.wav")
    put(tmp_path / "clean" / "b" / "x.AIFF")
    items = read_testset(tmp_path)
    assert names(items) == ["a.x", "b/x"]
    assert items[1].clean == tmp_path / "clean" / "b" / "x.AIFF"
    assert items[1].labels == {}


@pytest.mark.parametrize("column", ["id", "name", "file"])
def test_manifests_name_items_with_or_without_suffix(folder, column):
    text = LABELS.replace("id", column, 1).replace("002", "002.flac")
    (folder / "manifest.csv").write_text(text)
    assert [item.labels["snr_db"] for item in read_testset(folder)] == ["-5", "0", "10"]


def test_items_that_the_manifest_leaves_out_have_empty_labels(folder):
    (folder / "manifest.csv").write_text(LABELS.replace("002,0,rain\n", ""))
    labels = [item.labels for item in read_testset(folder)]
    assert labels[1] == {"snr_db": "", "noise_type": ""}
    assert labels[2] == {"snr_db": "10", "noise_type": "babble"}


def test_another_folder_may_hold_the_clean_files_of_some(folder):
    put(folder / "early" / "003.flac")
    (item,) = read_testset(folder, clean_folder="early", where=["noise_type=babble"])
    assert item.clean == folder / "early" / "003.flac"
    with pytest.raises(ConfigError, match="noisy/001, noisy/002 are without a partner"):
        read_testset(folder, clean_folder="early")


LISTED = "noisy,clean,snr_db,name\nn/a.wav,c/b.wav,5,first\nn/c.wav,,0,second\n"


@pytest.mark.parametrize(
    "data",
    [
        LISTED.encode(),
        LISTED.replace(",", ";").encode("utf-8-sig"),
        LISTED.replace(",", "\t").replace("\n", "\r\n").encode(),
        LISTED.replace(",5", ', "5"').replace(", ", ",").encode() + b"\n\n",
    ],
)
def test_a_list_names_its_files(tmp_path, data):
    """Commas, semicolons as spreadsheets write them, tabs; relative to the list."""
    for name in ("n/a.wav", "n/c.wav", "c/b.wav"):
        put(tmp_path / name)
    (tmp_path / "list.csv").write_bytes(data)
    assert read_testset(tmp_path / "list.csv") == [
        Item("first", tmp_path / "n/a.wav", tmp_path / "c/b.wav", {"snr_db": "5"}),
        Item("second", tmp_path / "n/c.wav", None, {"snr_db": "0"}),
    ]


def test_a_list_without_names_goes_by_its_files(tmp_path):
    put(tmp_path / "n" / "a.b.wav")
    (tmp_path / "manifest.csv").write_text("noisy,clean\nn/a.b.wav,\n")
    assert read_testset(tmp_path) == [Item("a.b", tmp_path / "n" / "a.b.wav")]


@pytest.mark.parametrize(
    ("where", "kept"),
    [
        ([], "001 002 003"),
        (["snr_db=-5"], "001"),
        (["snr_db=-5.0"], "001"),
        ([" snr_db = 0 "], "002"),
        (["noise_type=rain"], "001 002"),
        (["noise_type=rain", "snr_db=0"], "002"),
    ],
)
def test_conditions_choose(folder, where, kept):
    assert names(read_testset(folder, where=where)) == kept.split()


@pytest.mark.parametrize(
    ("where", "reason"),
    [
        (["speaker=1"], "no column 'speaker': take one of snr_db, noise_type"),
        (["snr_db=7"], "no item has it: the values are -5, 0, 10"),
        (["snr_db"], "write it as column=value"),
        (["=3"], "write it as column=value"),
        (["noise_type=babble", "snr_db=0"], "noise_type=babble and snr_db=0: leave"),
    ],
)
def test_conditions_that_fit_nothing_say_what_there_is(folder, where, reason):
    with pytest.raises(ConfigError, match=reason):
        read_testset(folder, where=where)


def test_many_values_are_not_all_named(tmp_path):
    items = [Item(str(n), tmp_path, None, {"speaker": f"p{n:03}"}) for n in range(40)]
    with pytest.raises(ConfigError, match="p009 and 30 more"):
        select(items, ["speaker=q"])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"rate": 8000}, "differs in rate .*16000 Hz, 8000 Hz"),
        ({"channels": 2}, "differs in channels .*1, 2"),
        ({"frames": 799}, "differs in length .*800, 799"),
    ],
)
def test_pairs_must_match(folder, change, reason):
    put(folder / "clean" / "002.flac", **change)
    with pytest.raises(AudioError, match=f"002.flac: {reason}"):
        read_testset(folder)
    assert len(read_testset(folder, where=["snr_db=10"])) == 1  # others may be used


def test_damaged_files_are_found_before_any_work(folder):
    (folder / "noisy" / "003.flac").write_bytes(b"fLaC nothing")
    with pytest.raises(AudioError, match=r"003\.flac"):
        read_testset(folder)


def test_missing_partners_are_named_and_counted(folder):
    for number in range(4, 9):
        put(folder / "noisy" / f"{number:03}.flac")
    put(folder / "clean" / "other.flac")
    pattern = "noisy/004, noisy/005, noisy/006 and 3 more are without a partner"
    with pytest.raises(ConfigError, match=pattern):
        read_testset(folder)


def test_a_clean_file_alone_is_a_mistake_too(folder):
    (folder / "noisy" / "002.flac").unlink()
    with pytest.raises(ConfigError, match="clean/002 is without a partner"):
        read_testset(folder)


def test_folders_that_are_no_test_set(tmp_path, folder):
    (tmp_path / "empty").mkdir()
    (tmp_path / "silent" / "noisy").mkdir(parents=True)
    put(tmp_path / "alone" / "noisy" / "a.wav")
    for name, reason in {
        "none": "is not there: name a test set",
        "empty": "neither a folder noisy/ nor manifest.csv",
        "silent": "holds no audio files",
        "alone": "has no folder clean/: .* empty column clean",
    }.items():
        with pytest.raises(ConfigError, match=reason):
            read_testset(tmp_path / name)
    with pytest.raises(ConfigError, match="has no folder early/"):
        read_testset(folder, clean_folder="early")


def test_two_files_of_one_name_are_refused(folder):
    put(folder / "noisy" / "001.wav")
    with pytest.raises(ConfigError, match="one name: rename one"):
        read_testset(folder)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("snr_db\n5\n", "has no column id"),
        ("id,snr_db\n001,5\n001,6\n", "001 is listed twice"),
        ("id,snr_db\nx1,5\n", "names none of the files"),
        ("id,snr_db\n001\n", "line 2 has another number of cells"),
        ("id,snr_db,snr_db\n001,5,5\n", "two columns share a name"),
        ("", "is not a CSV file"),
        ('id,snr_db\n"001,5\n', "is not a CSV file"),
        ("id,snr_db\n001,\xe9\n".encode("latin-1"), "save it as CSV in UTF-8"),
    ],
)
def test_manifests_that_cannot_be_used(folder, text, reason):
    (folder / "manifest.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError, match=f"manifest.csv: .*{reason}"):
        read_testset(folder)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("file,text\na,b\n", "has no column noisy"),
        ("noisy,clean\n", "lists no items"),
        ("noisy,clean\n,a.wav\n", "line 2 has no good name or file"),
        ("noisy,clean\na.wav,\nb.wav,c.wav\n", "b.wav, .*c.wav are not there"),
        ("noisy,clean,id\na.wav,,x\na.wav,,x\n", "x is named twice"),
    ],
)
def test_lists_that_cannot_be_used(tmp_path, text, reason):
    put(tmp_path / "a.wav")
    (tmp_path / "list.csv").write_text(text)
    with pytest.raises(ConfigError, match=reason):
        read_testset(tmp_path / "list.csv")


@pytest.mark.parametrize("name", ["../x", "/x", "a/../../x", "..", "", "a\\b", "c:x", "a\x07"])
def test_names_cannot_leave_the_folder_of_results(tmp_path, name):
    put(tmp_path / "a.wav")
    (tmp_path / "list.csv").write_text(f"noisy,clean,id\na.wav,,{name}\n")
    with pytest.raises(ConfigError, match="line 2 has no good name"):
        read_testset(tmp_path / "list.csv")


def test_real_pairs(shared_data):
    """120 dry pairs and 20 reverberant ones, which alone have an early reference."""
    folder = shared_data / "testset16k"
    assert len(read_testset(folder)) == 140
    assert len(read_testset(folder, where=["reverb=0"])) == 120
    early = read_testset(folder, clean_folder="clean_early", where=["reverb=1"])
    assert len(early) == 20
    assert early[0].labels["reverb"] == "1" and early[0].clean is not None
