"""One system on one item: foreign results, the oracle, channels, and failures with a reason."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import tiny_model
from quieten.audio import read_audio, write_audio
from quieten.denoise import Denoiser
from quieten.evaluation.evaluate import Evaluation, Request, Score, System, evaluate
from quieten.testsets.pairs import Item
from tiny_testset import RATE, program, write_items

CHEAP = ("si_sdr_db", "nsr", "lsd", "clipped_samples")
COPY = "shutil.copyfile(args[0], args[1])"
WAVE = """
import wave
with wave.open(args[0]) as file:
    rate, channels, data = file.getframerate(), file.getnchannels(), file.readframes(10**9)
def write(rate, channels, data):
    with wave.open(args[1], 'wb') as file:
        file.setnchannels(channels); file.setsampwidth(2); file.setframerate(rate)
        file.writeframes(data)
"""


@pytest.fixture
def items(tmp_path: Path) -> tuple[Item, ...]:
    """Three items whose noisy files have 16 bits, as the standard library reads them."""
    made = write_items(tmp_path)
    for item in made:
        write_audio(item.noisy, read_audio(item.noisy)[0], RATE, subtype="PCM_16")
    return made


def run(
    items: tuple[Item, ...], *systems: System, out: str = "out", align: bool = False
) -> Evaluation:
    folder = items[0].noisy.parents[1] / out
    return evaluate(Request(items, systems, folder, (*CHEAP, "delay_ms"), align=align))


def tool(items: tuple[Item, ...], body: str) -> System:
    return System(
        "tool", "command", program(items[0].noisy.parents[1], WAVE + body) + " {in} {out}"
    )


def first(evaluation: Evaluation, system: str = "tool") -> Score:
    return evaluation.scores[system, "000"]


def test_a_program_that_does_nothing_scores_like_the_noisy_files(items: tuple[Item, ...]) -> None:
    evaluation = run(items, tool(items, COPY))
    for item in items:
        score = evaluation.scores["tool", item.name]
        assert score.values == evaluation.scores["noisy", item.name].values
        assert (score.missing, score.note) == ({}, "")
        assert (score.cpu_s or 0) > 0
        assert evaluation.sound("tool", item.name).read_bytes() == item.noisy.read_bytes()


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("sys.exit(2)", "exit status 2"),
        ("pass", "wrote no result"),
        ("write(8000, 1, data)", "the result has 8000 Hz instead of 16000: keep the rate"),
        ("write(rate, 2, data + data)", "the result has 2 channels instead of 1"),
        ("write(rate, 1, data[:-3210])", "the result is 0.10 s shorter than the noisy one"),
        ("open(args[1], 'w').write('no sound')", "is not an audio file"),
    ],
)
def test_a_failing_program_has_no_scores_but_a_reason(
    items: tuple[Item, ...], body: str, reason: str
) -> None:
    evaluation = run(items, tool(items, body))
    score = first(evaluation)
    assert score.values == {}
    assert score.cpu_s is None
    assert score.failed
    assert len(set(score.missing.values())) == 1
    assert reason in score.missing["nsr"]
    assert set(score.missing) == {*CHEAP, "delay_ms"}
    assert not evaluation.sound("tool", "000").exists()
    assert not first(evaluation, "noisy").missing


def test_a_failure_on_one_item_leaves_the_others(items: tuple[Item, ...]) -> None:
    evaluation = run(items, tool(items, "if '_001' in args[0]: sys.exit(1)\n" + COPY))
    failed = [item.name for item in items if evaluation.scores["tool", item.name].failed]
    assert failed == ["001"]


def test_a_little_longer_is_cut_and_noted(items: tuple[Item, ...]) -> None:
    evaluation = run(items, tool(items, "write(rate, 1, data + bytes(200))"))
    assert first(evaluation).note == "cut by 100 samples"
    assert first(evaluation).values == first(evaluation, "noisy").values


def test_aligning_takes_the_delay_of_a_program_out(items: tuple[Item, ...]) -> None:
    late = tool(items, "write(rate, 1, (bytes(2 * 40) + data)[:len(data)])")
    plain = first(run(items, late))
    aligned = first(run(items, late, out="aligned", align=True))
    assert plain.values["delay_ms"] == aligned.values["delay_ms"] == pytest.approx(2.5)
    noisy = first(run(items, out="plain"), "noisy").values["si_sdr_db"]
    assert plain.values["si_sdr_db"] < noisy - 10
    assert aligned.values["si_sdr_db"] == pytest.approx(noisy, abs=0.2)  # 2.5 ms of 0.5 s are cut


def folder_tool(items: tuple[Item, ...], skip: str = "") -> System:
    body = f"""
open(args[2], 'a').write('called ')
for name in os.listdir(args[0]):
    if {skip!r} not in name or not {skip!r}:
        shutil.copyfile(os.path.join(args[0], name), os.path.join(args[1], name))
while time.process_time() < 0.2: pass
"""
    folder = items[0].noisy.parents[1]
    return System(
        "tool", "command", program(folder, body) + f" {{in_dir}} {{out_dir}} {folder / 'calls'}"
    )


def test_a_program_for_folders_is_called_once(items: tuple[Item, ...]) -> None:
    evaluation = run(items, folder_tool(items))
    assert (items[0].noisy.parents[1] / "calls").read_text() == "called "
    for item in items:
        own, noisy = (evaluation.scores[name, item.name] for name in ("tool", "noisy"))
        assert own.values == noisy.values
    times = [evaluation.scores["tool", item.name].cpu_s or 0.0 for item in items]
    assert sum(times) >= 0.2
    lengths = [evaluation.scores["tool", item.name].duration_s for item in items]
    np.testing.assert_allclose(np.divide(times, lengths), sum(times) / sum(lengths))


def test_what_a_program_for_folders_left_out_is_missing(items: tuple[Item, ...]) -> None:
    evaluation = run(items, folder_tool(items, skip="_001"))
    failed = {item.name: evaluation.scores["tool", item.name].failed for item in items}
    assert failed == {"000": False, "001": True, "002": False}
    assert "no result for this file" in evaluation.scores["tool", "001"].missing["nsr"]
    calls = items[0].noisy.parents[1] / "calls"
    run(items, folder_tool(items, skip="_001"))
    assert calls.read_text() == "called called "  # again for what failed, and that alone


def test_the_oracle_beats_the_noisy_files_and_needs_clean_ones(items: tuple[Item, ...]) -> None:
    oracle = System("oracle-mask", "oracle")
    evaluation = run(items, oracle)
    for item in items:
        best, noisy = (evaluation.scores[name, item.name] for name in ("oracle-mask", "noisy"))
        assert best.values["si_sdr_db"] > noisy.values["si_sdr_db"] + 3
    bare = tuple(replace(item, clean=None) for item in items)
    evaluation = run(bare, oracle, out="bare")
    assert "needs the clean file" in first(evaluation, "oracle-mask").missing["nsr"]
    assert first(evaluation, "noisy").values.keys() == {"clipped_samples"}


def test_channels_are_denoised_together_and_averaged(tmp_path: Path) -> None:
    items = write_items(tmp_path, 1, channels=2)
    model = tiny_model.smoother(tmp_path)
    evaluation = run(items, System("mine", "model", str(model)))
    noisy, _ = read_audio(items[0].noisy)
    kept, _ = read_audio(evaluation.sound("mine", "000"))
    np.testing.assert_allclose(kept, Denoiser(model)(noisy, RATE), atol=1e-6)
    clean = read_audio(items[0].clean or "")[0].astype(np.float64)
    each = np.sum((kept - clean) ** 2, axis=1) / np.sum(clean**2, axis=1)
    assert first(evaluation, "mine").values["nsr"] == pytest.approx(each.mean(), rel=1e-6)


def test_a_file_that_cannot_be_read_is_missing_for_all(items: tuple[Item, ...]) -> None:
    items[0].noisy.write_bytes(b"RIFF")
    evaluation = run(items, System("identity", "model", "identity"))
    for system in ("noisy", "identity"):
        assert first(evaluation, system).failed
        assert "000.wav" in first(evaluation, system).missing["nsr"]
        assert not evaluation.scores[system, "001"].failed


def test_a_rate_that_a_model_cannot_take_is_its_reason(tmp_path: Path) -> None:
    items = write_items(tmp_path, 1, sample_rate=4000)
    evaluation = run(items, System("identity", "model", "identity"))
    assert first(evaluation, "identity").failed
    assert "4000" in first(evaluation, "identity").missing["nsr"]
    assert "nsr" in first(evaluation, "noisy").values


def test_clean_files_of_another_rate_are_missing(items: tuple[Item, ...]) -> None:
    assert items[0].clean
    write_audio(items[0].clean, read_audio(items[0].clean)[0], 8000)
    assert "clean 8000 Hz" in first(run(items), "noisy").missing["nsr"]
