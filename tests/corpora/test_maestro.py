"""MAESTRO by its own tables: CSV, and JSON in both of its forms."""

import csv
import json

import pytest

from quieten.corpora.maestro import maestro_files
from quieten.errors import ConfigError

ROWS = [
    {"split": "train", "year": "2004", "audio_filename": "2004/b.wav"},
    {"split": "train", "year": "2004", "audio_filename": "2004/a.wav"},
    {"split": "train", "year": "2006", "audio_filename": "2006/c.wav"},
    {"split": "validation", "year": "2006", "audio_filename": "2006/d.wav"},
]


def write_table(root, form):
    if form == "csv":
        with (root / "maestro-v3.0.0.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, ["canonical_composer", *ROWS[0]])
            writer.writeheader()
            writer.writerows({"canonical_composer": "Bach, J. S."} | row for row in ROWS)
        return
    columns = {key: {str(i): row[key] for i, row in enumerate(ROWS)} for key in ROWS[0]}
    content = ROWS if form == "rows" else columns
    (root / "maestro-v3.0.0.json").write_text(json.dumps(content))


@pytest.fixture
def root(tmp_path):
    for row in ROWS:
        file = tmp_path / row["audio_filename"]
        file.parent.mkdir(exist_ok=True)
        file.touch()
    return tmp_path


@pytest.mark.parametrize("form", ["csv", "rows", "columns"])
def test_splits_and_years(root, form):
    write_table(root, form)
    assert [file.name for file in maestro_files(root, "train")] == ["a.wav", "b.wav", "c.wav"]
    assert [file.name for file in maestro_files(root, "train", [2006])] == ["c.wav"]
    assert [file.name for file in maestro_files(root, "validation")] == ["d.wav"]


def test_what_is_wrong_is_named(root):
    with pytest.raises(ConfigError, match="holds no maestro-v"):
        maestro_files(root, "train")
    write_table(root, "csv")
    with pytest.raises(ConfigError, match="take train, validation, test"):
        maestro_files(root, "valid")
    with pytest.raises(ConfigError, match="it has 2004, 2006"):
        maestro_files(root, "train", [1999])
    (root / "2004/a.wav").unlink()
    with pytest.raises(ConfigError, match=r"a\.wav: is listed"):
        maestro_files(root, "train")
    (root / "maestro-v3.0.0.csv").write_text("split\ntrain\n")
    with pytest.raises(ConfigError, match="is no table of MAESTRO"):
        maestro_files(root, "train")
