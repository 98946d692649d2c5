"""Tables in and out: what is a signal, what stays byte by byte, and words about bad rows."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from quieten.errors import AudioError
from quieten.tabular.table import Table, is_table, read_table, writing

Save = Callable[..., Path]


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """A function that writes a text, bytes or an array, and returns the file."""

    def write(data: str | bytes | np.ndarray, name: str = "sensor.csv") -> Path:
        path = tmp_path / name
        if isinstance(data, np.ndarray):
            np.save(path, data)
        else:
            path.write_bytes(data.encode() if isinstance(data, str) else data)
        return path

    return write


def timed(rows: int, rate: float = 256.0, head: str = "time,x\n") -> str:
    """A CSV of a wave with exact stamps."""
    return head + "".join(f"{i / rate:.9f},{np.sin(i):.3f}\n" for i in range(rows))


def rewritten(table: Table, factor: float = 1.0) -> str:
    return table.render(factor * table.values)[0].decode()


def test_a_table_is_known_by_its_suffix() -> None:
    assert all(is_table(name) for name in ("a.csv", "a.CSV", "b.tsv", Path("c/d.npy")))
    assert not any(is_table(name) for name in ("a.wav", "csv", "a.npz"))


def test_two_signals_and_their_rate(save: Save) -> None:
    text = "time,left,right\n" + "".join(f"{i / 256},{i % 5}.25,{-i % 3}.5\n" for i in range(100))
    table = read_table(save(text))
    assert table.names == ("left", "right")
    assert table.sample_rate == pytest.approx(256, rel=1e-9)
    assert table.values.shape == (2, 100)
    np.testing.assert_array_equal(table.signal[:, 4], [4.25, 2.5])
    assert table.warnings == ()


@pytest.mark.parametrize("delimiter", [",", ";", "\t", " , "])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("last", ["", "end", "blank"])
def test_the_same_values_give_the_same_bytes(
    save: Save, delimiter: str, end: str, mark: str, last: str
) -> None:
    lines = ["# made by a probe, v2", '"time (s)"|x, y|note', "0.0|1.250|a", '0.1| -2.500|"b|c"']
    lines = [line.replace("x, y", '"x, y"') for line in [*lines, "0.2|3.500|d"]]
    text = end.join(lines).replace("|", delimiter)
    text = mark + text + {"": "", "end": end, "blank": end + end}[last]
    table = read_table(save(text))
    assert table.names == ("x, y",)
    assert rewritten(table) == text
    doubled = text.replace("-2.500", "-5.000").replace("1.250", "2.500").replace("3.500", "7.000")
    assert rewritten(table, 2.0) == doubled


def test_time_stamps_and_other_columns_stay_as_they_are_written(save: Save) -> None:
    text = "t,label,x,count\n0.000,on,1.5,7\n0.250,off,2.5,7\n5.00e-1,on,3.50,7\n"
    table = read_table(save(text))
    assert table.sample_rate == 4.0
    assert rewritten(table, 0.0).splitlines() == [
        "t,label,x,count",
        "0.000,on,0.0000,7",
        "0.250,off,0.0000,7",
        "5.00e-1,on,0.0000,7",
    ]
    assert [note.split(" was")[0] for note in table.warnings] == [
        "column 'label' (text)",
        "column 'count' (constant)",
    ]


@pytest.mark.parametrize(
    ("stamps", "rate"),
    [
        (["0", "0.5", "1.0", "1.5"], 2.0),
        (["10.00", "9.99", "9.98", "9.97"], None),
        (["2024-05-01T12:00:00", "2024-05-01T12:00:01", "2024-05-01T12:00:02"], 1.0),
        (["2024-05-01 12:00:00.000Z", "2024-05-01 12:00:00.004Z", "2024-05-01 12:00:00.008Z"], 250),
        (["23:59:58.50", "23:59:59.00", "23:59:59.50"], 2.0),
    ],
)
@pytest.mark.parametrize("head", ["", "probe,x\n"])
def test_the_first_column_is_the_time_if_it_increases(
    save: Save, stamps: list[str], rate: float | None, head: str
) -> None:
    text = head + "".join(f"{stamp},{i * i}.5\n" for i, stamp in enumerate(stamps))
    table = read_table(save(text))
    assert table.sample_rate == (rate if rate is None else pytest.approx(rate))
    assert len(table.names) == (2 if rate is None else 1)


@pytest.mark.parametrize(
    ("name", "step", "rate"),
    [
        ("time", 1, 1.0),
        ("Time (ms)", 4, 250.0),
        ("time_us", 500, 2000.0),
        ("timestamp_ns", 1_000_000, 1000.0),
        ("seconds", 2, 0.5),
        ("t [ms]", 8, 125.0),
        ("sample", 1, None),
        ("", 1, None),
    ],
)
def test_headings_name_the_time_and_its_unit(
    save: Save, name: str, step: int, rate: float | None
) -> None:
    rows = "".join(f"{i * step},{i % 3}\n" for i in range(9))
    table = read_table(save(f"{name},x\n{rows}"))
    assert table.sample_rate == (rate if rate is None else pytest.approx(rate))
    assert table.names == ("x",)


@pytest.mark.parametrize(("digits", "unit"), [(0, 1e9), (3, 1e12), (6, 1e15), (9, 1e18)])
def test_unix_times_without_a_unit_are_known_by_their_size(
    save: Save, digits: int, unit: float
) -> None:
    start = 1_714_564_800 * 10**digits
    rows = "".join(f"{start + i * 10**digits},{i % 3}\n" for i in range(9))
    assert read_table(save(f"time,x\n{rows}")).sample_rate == pytest.approx(1.0)


def test_a_column_t_behind_the_first_may_be_a_temperature(save: Save) -> None:
    assert read_table(save("x,t\n1,20.5\n3,20.1\n2,20.7\n")).names == ("x", "t")
    assert read_table(save("x,time\n1,0.1\n3,0.2\n2,0.3\n")).names == ("x",)


def test_rounded_stamps_are_even(save: Save) -> None:
    """At 256 Hz a step has 3 or 4 ms; the rate is that of all steps together."""
    text = "time,x\n" + "".join(f"{i / 256:.3f},{i % 7}\n" for i in range(2561))
    table = read_table(save(text))
    assert table.sample_rate == pytest.approx(256, rel=1e-4)
    assert table.warnings == ()


def test_a_heading_may_be_a_comment_or_lack(save: Save) -> None:
    rows = "0.0,1.5,2.5\n0.1,2.5,1.5\n0.2,0.5,0.5\n"
    assert read_table(save("# time,a,b\n" + rows)).names == ("a", "b")
    assert read_table(save("# two probes\n" + rows)).names == ("2", "3")
    assert read_table(save(rows)).names == ("2", "3")
    assert read_table(save("1.5\n2.5\n1.0\n")).names == ("1",)
    assert read_table(save("x\n1.5\n2.5\n1.0\n")).names == ("x",)


def test_decimal_comma_where_semicolons_part_the_cells(save: Save) -> None:
    text = "time;x\n0,0;1,50\n0,5;-2,50\n1,0;3,25\n"
    table = read_table(save(text))
    assert table.sample_rate == 2.0
    np.testing.assert_array_equal(table.values, [[1.5, -2.5, 3.25]])
    assert rewritten(table, 2.0) == "time;x\n0,0;3,000\n0,5;-5,000\n1,0;6,500\n"


def test_columns_by_heading_or_number(save: Save) -> None:
    path = save("time,x,y,z\n0.0,1,5,a\n0.1,2,6,b\n0.2,4,5,c\n")
    assert read_table(path, columns=["Y", "2"]).names == ("y", "x")
    assert read_table(path, columns=["time"]).sample_rate is None
    with pytest.raises(AudioError, match="has no column 'w': name one of time, x, y, z"):
        read_table(path, columns=["w"])
    with pytest.raises(AudioError, match="has no column '5'"):
        read_table(path, columns=["5"])
    with pytest.raises(AudioError, match=r"row 1 \(line 2\) holds 'a' in column 'z'"):
        read_table(path, columns=["z"])
    twins = save("x,x\n1,2\n2,1\n")
    with pytest.raises(AudioError, match="2 columns are named 'x': give their numbers"):
        read_table(twins, columns=["x"])
    assert read_table(twins, columns=["2"]).values.tolist() == [[2.0, 1.0]]


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["1.25", "2.5", "-3"], "1.250"),  # four digits of what varies
        (["1.123456", "2.5", "-3"], "1.123456"),
        (["512", "530", "490"], "512.00"),
        (["51200", "53000", "49000"], "51200"),
        (["1.5e-05", "2.5e-05", "1e-05"], "1.500e-05"),
        (["0.00012", "0.00035", "-0.0001"], "0.0001200"),
        (["101325.2", "101325.4", "101325.1"], "101325.2000"),
    ],
)
def test_cleaned_values_have_the_decimals_of_the_column_and_four_digits(
    save: Save, cells: list[str], expected: str
) -> None:
    table = read_table(save("x\n" + "\n".join(cells) + "\n"))
    assert rewritten(table).splitlines()[1] == expected


def test_what_is_stored_is_what_is_written(save: Save, tmp_path: Path) -> None:
    table = read_table(save(timed(50)))
    content, stored = table.render(table.values / 3)
    assert np.abs(stored - table.values / 3).max() <= 0.0005
    (tmp_path / "new.csv").write_bytes(content)
    np.testing.assert_array_equal(read_table(tmp_path / "new.csv").values, stored)
    assert "-0.000" not in table.render(-1e-9 * np.abs(table.values))[0].decode()
    with pytest.raises(AudioError, match="not"):
        table.render(table.values[:, :-1])


def test_a_missing_value_is_named_and_filled_only_if_asked(save: Save) -> None:
    path = save("time,x,y\n0.0,1.0,5\n0.1,,6\n0.2,NaN,5\n0.3,4.0,6\n")
    with pytest.raises(AudioError, match=r"row 2 \(line 3\) has no value in column 'x': --fill"):
        read_table(path)
    assert read_table(path, columns=["y"]).names == ("y",)
    table = read_table(path, fill=True)
    np.testing.assert_allclose(table.values[0], [1, 2, 3, 4])
    assert table.warnings == ("2 missing values in column 'x' were interpolated",)
    assert rewritten(table).splitlines()[2:4] == ["0.1,2.000,6.0000", "0.2,3.000,5.0000"]


def test_a_missing_row_is_named_and_bridged_only_if_asked(save: Save) -> None:
    lines = timed(100).splitlines(keepends=True)
    path = save("".join(lines[:41] + lines[43:]))
    with pytest.raises(AudioError, match=r"row 41 \(line 42\) comes 0.0117\d+ s after .* --fill"):
        read_table(path)
    table = read_table(path, fill=True)
    assert table.values.shape == (1, 98)
    assert table.signal.shape == (1, 100)
    assert "1 uneven time steps: interpolated onto a grid of 256 Hz" in table.warnings[0]
    np.testing.assert_allclose(table.at_rows(table.signal), table.values, atol=1e-4)
    assert rewritten(table).splitlines()[0] == "time,x"


def test_jitter_beyond_a_hundredth_is_uneven(save: Save, rng: np.random.Generator) -> None:
    def jittered(share: float) -> Path:
        times = (np.arange(200) + rng.uniform(-share, share, 200) / 2) / 256
        return save("time,x\n" + "".join(f"{t:.9f},{i % 3}\n" for i, t in enumerate(times)))

    assert read_table(jittered(0.009)).sample_rate == pytest.approx(256, rel=1e-3)
    with pytest.raises(AudioError, match="--fill interpolates"):
        read_table(jittered(0.1))
    assert read_table(jittered(0.1), fill=True).sample_rate == pytest.approx(256, rel=1e-2)


def test_a_file_that_is_mostly_gap_is_refused(save: Save) -> None:
    rows = [*range(20), *range(100_000, 100_020)]
    path = save("time,x\n" + "".join(f"{i},{i % 3}\n" for i in rows))
    with pytest.raises(AudioError, match="split the file at its gaps"):
        read_table(path, fill=True)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("\n\n", "no rows of numbers"),
        ("time,x\n", "no rows of numbers"),
        ("time,x\n0,1\n1,2\n2,oops\n3,1\n", r"row 3 \(line 4\) holds 'oops' in column 'x'"),
        ("time,x\n0,1\n1\n2,3\n", "line 3 has 1 cells, the first one 2"),
        ("time,x\n0,1\n\n2,3\n", "line 3 is empty, but rows follow"),
        ('time,x\n0,"1\n1,2\n', "line 2: a quote is not closed"),
        ("time,x\n0,1\n1,2\n1,3\n", r"row 3 \(line 4\), time column 'time': its time is not after"),
        ("time,x\n0,1\nsoon,2\n2,3\n", "'soon' is no time"),
        ("time,x\n12:00:00,1\nnoon,2\n", "'noon' is no time"),
        ("time,x\n12:00:00,1\n12:00:01Z,2\n", "differ in having a time zone"),
        ("time,x\n0,7\n1,7\n2,7\n", r"no column of a signal \(column 'x' \(constant\)"),
        ("note\nyes\nno\n", r"holds no column of a signal \(column 'note' \(text\)"),
        ("a,b\n0,1_000\n1,2_000\n2,3\n", "holds '1_000'|no column"),
    ],
)
def test_bad_files_get_one_clear_line(save: Save, text: str, words: str) -> None:
    with pytest.raises(AudioError, match=words) as caught:
        read_table(save(text))
    assert "\n" not in str(caught.value)


def test_bytes_that_are_no_text(save: Save) -> None:
    for data in (b"x\n\xff\xfe1\n", "x\n1\n2\n".encode("utf-16"), b"x\n1\0\n"):
        with pytest.raises(AudioError, match="no text in UTF-8"):
            read_table(save(data))


@pytest.mark.parametrize("shape", [(50,), (50, 3), (3, 50), (4, 4), (50, 1)])
@pytest.mark.parametrize("dtype", ["<f4", ">f8", "f2"])
def test_npy_keeps_shape_and_type(
    save: Save, tmp_path: Path, rng: np.random.Generator, shape: tuple[int, ...], dtype: str
) -> None:
    array = rng.standard_normal(shape).astype(dtype)
    table = read_table(save(array, "sensor.npy"))
    channels = {(50,): 1, (50, 3): 3, (3, 50): 3, (4, 4): 4, (50, 1): 1}[shape]
    assert table.values.shape == (channels, array.size // channels)
    assert (table.sample_rate, table.warnings) == (None, ())
    content, stored = table.render(2 * table.values)
    (tmp_path / "new.npy").write_bytes(content)
    result = np.load(tmp_path / "new.npy")
    assert (result.shape, result.dtype) == (array.shape, array.dtype)
    np.testing.assert_array_equal(result, 2 * array)
    np.testing.assert_array_equal(stored, 2 * table.values)


def test_npy_of_integers_becomes_float32_and_columns_have_numbers(
    save: Save, tmp_path: Path
) -> None:
    array = np.arange(20, dtype=np.int16).reshape(10, 2)
    table = read_table(save(array, "sensor.npy"), columns=["2"])
    assert table.warnings == ("int16 becomes float32",)
    (tmp_path / "new.npy").write_bytes(table.render(table.values + 0.5)[0])
    result = np.load(tmp_path / "new.npy")
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result, np.add(array, [0, 0.5]))


def test_bad_npy_files(save: Save, tmp_path: Path) -> None:
    cases: list[tuple[np.ndarray | bytes, str]] = [
        (b"no array", "is not an .npy file"),
        (np.array(["a"]), "save real numbers"),
        (np.array([{}], dtype=object), "is not an .npy file"),
        (np.zeros((2, 2, 2)), "save real numbers"),
        (np.zeros(0), "holds no samples"),
        (np.array([0.0, np.nan]), "sample 2 has no value in column '1'"),
    ]
    for data, words in cases:
        with pytest.raises(AudioError, match=words):
            read_table(save(data, "sensor.npy"))
    np.savez(tmp_path / "many.npz", a=np.zeros(3))
    (tmp_path / "many.npz").rename(tmp_path / "sensor.npy")
    with pytest.raises(AudioError, match="holds several arrays"):
        read_table(tmp_path / "sensor.npy")
    filled = read_table(save(np.array([0.0, np.nan, 2.0]), "sensor.npy"), fill=True)
    assert filled.values.tolist() == [[0.0, 1.0, 2.0]]


def test_a_file_appears_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "out.csv"
    with pytest.raises(KeyboardInterrupt), writing(path, b"half"):
        raise KeyboardInterrupt
    assert list(path.parent.iterdir()) == []
    with writing(path, b"whole"):
        assert not path.exists()
    assert path.read_bytes() == b"whole"
    with pytest.raises(AudioError, match="is a folder"), writing(path.parent, b""):
        pass
