"""MAESTRO, the piano recordings that the audio restorer was made for, by its own splits.

Hawthorne et al., "Enabling factorized piano music modeling and generation with the MAESTRO
dataset", 2019. Its folder holds maestro-vX.Y.Z.csv and .json, either of which is enough.
"""

import csv
import json
from collections.abc import Collection
from pathlib import Path

from quieten.errors import ConfigError

SPLITS = ("train", "validation", "test")

Row = dict[str, str]


def maestro_files(root: Path, split: str, years: Collection[int] = ()) -> list[Path]:
    """Returns the recordings of a split, in the order of their names.

    Args:
        root: the folder of the data set.
        split: one of `SPLITS`.
        years: of the competitions; none: all.

    Raises:
        ConfigError: there is no table, it lists nothing of that kind, or a recording is not there.
    """
    if split not in SPLITS:
        raise ConfigError(f"MAESTRO has no split {split!r}: take {', '.join(SPLITS)}")
    table = find_table(root)
    rows = [row for row in read_rows(table) if row["split"] == split]
    known = sorted({int(row["year"]) for row in rows})
    if years:
        rows = [row for row in rows if int(row["year"]) in years]
    if not rows:
        listed = ", ".join(map(str, known)) or "none"
        raise ConfigError(f"{table}: lists no {split} recordings of these years: it has {listed}")
    files = sorted(root / row["audio_filename"] for row in rows)
    absent = next((file for file in files if not file.is_file()), None)
    if absent:
        raise ConfigError(f"{absent}: is listed in {table.name} but not there: unpack it")
    return files


def find_table(root: Path) -> Path:
    """Returns the newest table of the data set in its folder.

    Raises:
        ConfigError: there is none.
    """
    found = sorted(path for suffix in ("csv", "json") for path in root.glob(f"maestro-v*.{suffix}"))
    if not found:
        raise ConfigError(f"{root}: holds no maestro-v*.csv or .json: name MAESTRO's folder")
    return max(found, key=lambda path: path.stem)


def read_rows(table: Path) -> list[Row]:
    """Returns the rows of a table, which is CSV, or JSON by columns (version 2 on) or by rows.

    Raises:
        ConfigError: it is broken.
    """
    try:
        text = table.read_text("utf-8")
        if table.suffix == ".csv":
            rows = list(csv.DictReader(text.splitlines()))
        else:
            rows = _from_json(json.loads(text))
        return [{key: str(row[key]) for key in ("split", "year", "audio_filename")} for row in rows]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise ConfigError(f"{table}: is no table of MAESTRO: download it again") from None


def _from_json(content: list[Row] | dict[str, dict[str, str]]) -> list[Row]:
    if isinstance(content, list):
        return content
    columns = {name: content[name] for name in ("split", "year", "audio_filename")}
    return [{name: column[key] for name, column in columns.items()} for key in columns["split"]]
