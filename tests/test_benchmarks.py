"""The benchmark scripts: tables say what was measured, in their place on the page, and no more."""

import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

import common
import peers
import quality
import speed
import timing
from quieten.evaluation.evaluate import NOISY, Evaluation, Request, Score, System, evaluate
from quieten.evaluation.foreign import check_command
from quieten.testsets.pairs import Item

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def page(tmp_path) -> Path:
    path = tmp_path / "page.md"
    path.write_text("# Title\n\n<!-- a:start -->\nold\n<!-- a:end -->\n\nwords\n")
    return path


# common.py


def test_a_section_is_replaced_and_nothing_else(page):
    for text in ("new\n\nlines\n", "newer"):
        common.write_section(page, "a", text)
    expected = "# Title\n\n<!-- a:start -->\n\nnewer\n\n<!-- a:end -->\n\nwords\n"
    assert page.read_text() == expected
    assert list(page.parent.iterdir()) == [page]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<!-- a:start -->",
        "<!-- a:end --> <!-- a:start -->",
        2 * "<!-- a:start --><!-- a:end -->",
    ],
)
def test_a_page_without_the_markers_stays(page, text):
    page.write_text(text)
    with pytest.raises(ValueError, match="put <!-- a:start --> and <!-- a:end -->"):
        common.write_section(page, "a", "new")
    assert page.read_text() == text


@pytest.mark.parametrize("name", ["quality", "speed"])
def test_the_page_has_a_place_for_both_commands(tmp_path, name):
    copy = Path(shutil.copy(common.PAGE, tmp_path))
    common.write_section(copy, name, "| figures |")
    before, after = common.PAGE.read_text(encoding="utf-8"), copy.read_text(encoding="utf-8")
    assert f"<!-- {name}:start -->\n\n| figures |\n\n<!-- {name}:end -->" in after
    start, end = f"<!-- {name}:start -->", f"<!-- {name}:end -->"
    assert before.split(start)[0] == after.split(start)[0]
    assert before.split(end)[1] == after.split(end)[1]


def test_the_measured_line_names_date_processor_and_versions():
    line = common.measured(["ffmpeg 5.1"])
    assert common.processor() in line and line.endswith("ffmpeg 5.1.")
    assert "quieten" in line and "2" in line.partition(":")[0]


def test_all_is_measured_unless_something_is_named():
    found = {"rnnoise": {}, "afftdn": {}}
    ours = ["speech", "wiener"]
    assert common.choose(None, None, ours, found) == (ours, ["rnnoise", "afftdn"])
    assert common.choose(["x.onnx"], None, ours, found) == (["x.onnx"], [])
    assert common.choose(None, ["afftdn"], ours, found) == ([], ["afftdn"])
    with pytest.raises(SystemExit, match="not here: webrtc"):
        common.choose(None, ["afftdn", "webrtc"], ours, found)


def test_the_inventory_lists_only_peers_that_can_run(capsys):
    found = common.peers_here(sys.executable)
    reported = capsys.readouterr().err
    for name in peers.PEERS:
        assert (name in found) != (f"not measured: {name}:" in reported)
    assert all(peer["version"] for peer in found.values())


# quality.py


def evaluated(values: dict[str, list[float | None]]) -> Evaluation:
    """Scores made by hand: PESQ-WB of each system on four items, the last one reverberant."""
    labels = [{"snr_db": snr, "reverb": "0"} for snr in ("10", "-5", "10")]
    labels.append({"snr_db": "10", "reverb": "1"})
    items = [Item(f"{n}", Path("x"), None, label) for n, label in enumerate(labels)]
    systems = [NOISY, *(System(name, "command", name) for name in values if name != "noisy")]
    scores = {
        (system, item.name): Score(
            system,
            item.name,
            {} if value is None else {"pesq_wb": value},
            {"pesq_wb": "too short"} if value is None else {},
            None,
            1.0,
        )
        for system, row in values.items()
        for item, value in zip(items, row, strict=True)
    }
    return Evaluation(Path("x"), "set", tuple(items), tuple(systems), ("pesq_wb",), scores)


SCORES = {
    "noisy": [1.0, 1.0, 1.0, 1.0],
    "weak": [1.0, 2.0, 3.0, 9.0],
    "strong": [3.0, 3.0, 3.0, 1.5],
    "partial": [None, 4.0, None, None],
    "broken": [None, None, None, None],
}


def test_dry_and_reverberant_items_stand_apart():
    text = quality.report(evaluated(SCORES), {"weak": "the weak one"})
    dry, wet = text.split("### With reverberation, 1 item\n")
    assert dry.startswith("### Without reverberation, 3 items\n")
    assert "| the weak one | 2.00 ± " in dry and "| the weak one | 9.00 |" in wet
    assert "| strong | 3.00 |" in dry and "| strong | 1.50 |" in wet


def test_rows_go_by_pesq_with_the_noisy_files_on_top():
    rows = quality.means_table(quality.part(evaluated(SCORES), False), {}).splitlines()[2:]
    names = [row.split(" | ")[0].removeprefix("| ") for row in rows]
    assert names == ["noisy", "partial", "strong", "weak", "broken"]


def test_what_is_missing_is_starred_counted_and_not_averaged():
    text = quality.report(evaluated(SCORES), {})
    assert "| partial | 4.00* |" in text and "| broken | –* |" in text
    assert "- partial: pesq_wb missing on 3 of 4 items: too short" in text


def test_the_table_by_snr_is_of_dry_items_in_numeric_order():
    lines = quality.snr_table(quality.part(evaluated(SCORES), False), {}).splitlines()
    assert lines[0] == "| system | -5 dB | 10 dB |"
    assert "| weak | 2.00 | 2.00 |" in lines and "| partial | 4.00 | – |" in lines


def test_reverberant_items_are_compared_with_the_early_part(tmp_path, speech_like):
    for folder, names in {"noisy": "ab", "clean": "ab", "clean_early": "b"}.items():
        (tmp_path / folder).mkdir()
        for name in names:
            soundfile.write(tmp_path / folder / f"{name}.wav", speech_like(0.1), 16_000)
    (tmp_path / "manifest.csv").write_text("id,reverb\na,0\nb,1\n")
    dry, wet = quality.read_items(tmp_path)
    assert dry.clean == tmp_path / "clean" / "a.wav" and not quality.is_wet(dry)
    assert wet.clean == tmp_path / "clean_early" / "b.wav" and quality.is_wet(wet)


@pytest.mark.parametrize(
    ("limit", "expected"), [(None, "abcdefg"), (9, "abcdefg"), (3, "adg"), (1, "a"), (0, "")]
)
def test_a_limit_takes_items_from_the_whole_test_set(limit, expected):
    items = [Item(name, Path(name)) for name in "abcdefg"]
    assert "".join(item.name for item in quality.thinned(items, limit)) == expected


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg")
def test_a_peer_is_measured_as_a_foreign_command(tmp_path, speech_like):
    system = quality.peer_system("afftdn", sys.executable)
    check_command(system.spec)
    clean = speech_like(1.0)
    noisy = clean + 0.01 * np.random.default_rng(1).standard_normal(16_000).astype(np.float32)
    for name, sound in (("clean.wav", clean), ("noisy.wav", noisy)):
        soundfile.write(tmp_path / name, sound, 16_000, subtype="FLOAT")
    item = Item("one", tmp_path / "noisy.wav", tmp_path / "clean.wav")
    done = evaluate(Request((item,), (system,), tmp_path / "out", metrics=("delay_ms",)))
    assert abs(done.scores["afftdn", "one"].values["delay_ms"]) < 1


# timing.py, speed.py


def test_pieces_are_10_ms_in_order(rng):
    waveform = rng.standard_normal((2, 1000))
    pieces = timing.pieces(waveform, 16_000)
    assert [piece.shape for piece in pieces] == [(2, 160)] * 6
    assert np.array_equal(np.concatenate(pieces, axis=1), waveform[:, :960])


def test_only_what_can_stream_is_streamed(monkeypatch, speech_like):
    whole = peers.Peer("nothing done", lambda rate: np.copy, "nothing")
    framewise = replace(whole, framewise=True)
    monkeypatch.setattr(peers, "PEERS", {"live": framewise, "whole": whole})
    sound = np.stack([speech_like(0.731), speech_like(0.731, seed=1)])
    assert timing.stream("peer", "whole", sound, 16_000) is None
    assert timing.paced("peer", "whole", sound, 16_000) is None
    assert timing.stream("peer", "live", sound, 16_000) >= 0
    assert len(timing.paced("peer", "live", sound, 16_000)) == 73  # 0.731 s
    assert timing.whole("peer", "whole", sound, 16_000) >= 0


def test_a_model_is_timed_in_a_process_of_its_own(tmp_path):
    path = speed.sound_file(tmp_path, 16_000, 1, 0.5)
    ours = speed.Subject("model", "identity", "identity")
    assert speed.timing("whole", ours, path) > 0
    assert len(speed.timing("paced", ours, path)) == 50
    with pytest.raises(SystemExit, match=r"nobody: .*unknown model"):
        speed.timing("whole", speed.Subject("model", "nobody", "nobody"), path)


def test_the_sound_has_its_rate_channels_and_length(tmp_path):
    sound, rate = soundfile.read(speed.sound_file(tmp_path, 48_000, 2, 12.5))
    assert rate == 48_000 and sound.shape == (600_000, 2)
    assert not np.array_equal(sound[:, 0], sound[:, 1]) and sound.std(axis=0).min() > 1e-3


def test_the_measured_program_denoises(tmp_path):
    source = speed.sound_file(tmp_path, 16_000, 1, 0.2)
    command = speed.Subject("model", "identity", "ours").program(source, tmp_path / "out.wav")
    assert speed.wall_s(command) > 0 and speed.peak_mb(command) > 10  # Python alone takes 10
    assert np.array_equal(soundfile.read(tmp_path / "out.wav")[0], soundfile.read(source)[0])


def test_latency_is_frame_and_delay():
    found = {
        name: speed.latency_ms(speed.Subject("peer", name, "")) for name in ("rnnoise", "webrtc")
    }
    assert found == pytest.approx({"rnnoise": 30, "webrtc": 16})
    assert speed.latency_ms(speed.Subject("model", "speech", "")) == 32
    assert peers.PEERS["noisereduce"].latency_ms is None


def test_cells_of_speed():
    assert speed.ratio_cell(0.02, 0.01) == "0.0200 (2 ×)"
    assert speed.ratio_cell(0.02, None) == "0.0200"
    assert speed.ratio_cell(None, 0.01) == "–"
    took = [*range(1, 100), 1000.0]  # ms
    assert speed.paced_cells(took) == ["50.50", "95.05", "108.01", "1000.00", "90"]
