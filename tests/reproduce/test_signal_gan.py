"""The benchmark of short signals: its rows, its weights, and what stays empty."""

from pathlib import Path

import numpy as np
import pytest

import tiny_signal_model
from quieten import runtime
from quieten.errors import ConfigError, MissingExtra, ModelError
from quieten.reproduce import signal_gan
from quieten.reproduce.estimators import Method
from quieten.reproduce.signal_gan import (
    METHODS,
    TASKS,
    Benchmark,
    draw_examples,
    draw_test_signals,
    find_weights,
    measure,
    methods_of,
    open_methods,
    open_onnx,
    run_benchmark,
)
from quieten.reproduce.signal_rows import METRICS
from quieten.sines import PAPER, Mixtures, Signals, SinesConfig


@pytest.fixture(autouse=True)
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of installed models."""
    folder = tmp_path / "weights"
    folder.mkdir()
    monkeypatch.setattr(runtime, "WEIGHTS", folder)
    return folder


@pytest.fixture
def classics(monkeypatch: pytest.MonkeyPatch) -> None:
    """Quick stand-ins for what takes seconds; test_estimators has the real ones."""
    names = [name for name in METHODS if name not in ("paper", "ours")]
    halves: dict[str, Method] = {name: lambda mixtures: mixtures.noisy / 2 for name in names}
    quick = halves | {"noisy": lambda mixtures: mixtures.noisy}
    monkeypatch.setattr(signal_gan, "classical_methods", lambda task: quick)


def oracle(path: Path, config: SinesConfig) -> Method:
    """Stands in for a model: the name of the file is its share of the clean signal."""
    share = np.float32(path.stem)
    return lambda mixtures: share * mixtures.clean


def written(result: Benchmark) -> tuple[dict[str, dict], dict[str, dict]]:
    """Rows by method of both tables, as in the JSON."""
    json = result.to_json()
    return tuple({row["method"]: row for row in table["rows"]} for table in (json, json["general"]))


def test_rows_of_models_say_why_they_are_empty(classics: None):
    published, general = written(run_benchmark(oracle, limit=20))
    assert tuple(published) == METHODS
    assert tuple(general) == methods_of("general") == (*METHODS[:-2], "ours")
    for table, methods in ((published, {"paper", "ours"}), (general, {"ours"})):
        empty = {name for name, row in table.items() if row["snr_db"] is None}
        assert empty == methods
        assert all(row["count"] == (0 if name in methods else 20) for name, row in table.items())
    assert published["paper"]["reason"] == (
        "no weights: give --weights paper=FILE, or install sines-paper"
    )
    assert "--weights general=FILE, or install signals" in general["ours"]["reason"]


def test_models_are_scored_against_the_target_of_their_table(classics: None, tmp_path: Path):
    files = {}
    for key, share in (("ours", "0.9"), ("paper", "0.5"), ("general", "0.99")):
        files[key] = tmp_path / f"{share}.onnx"
        files[key].touch()
    published, general = written(run_benchmark(oracle, weights=files, limit=10))
    assert published["ours"]["snr_db"] == pytest.approx(20, abs=1e-3)
    assert published["paper"]["snr_db"] == pytest.approx(6.02, abs=1e-2)
    assert general["ours"]["snr_db"] == pytest.approx(40, abs=1e-2)
    assert general["noisy"]["snr_db"] == pytest.approx(-2, abs=1e-3)  # as loud as it was mixed
    gain = general["ours"]["improvement_db"]
    assert gain == pytest.approx(42, abs=1e-2)


def test_json_has_what_a_reader_needs(classics: None):
    json = run_benchmark(oracle, limit=3).to_json()
    assert (json["system"], json["signals"]) == ("signal_gan", 3)
    assert json["published"]["rows"] == []
    assert "gives no figures" in json["published"]["why_not_comparable"]
    noisy = json["rows"][0]
    assert set(METRICS) <= set(noisy) and len(noisy["interval"]["l1"]) == 2


def test_the_test_signals_are_always_the_same():
    """Pinned: figures in the documents come from these."""
    drawn = draw_test_signals(TASKS["published"], 8)
    assert drawn.clean.shape == (8, 256)
    np.testing.assert_allclose(drawn.frequency_hz[0], [48.267, 39.1632, 31.0685], atol=1e-3)
    more = draw_test_signals(TASKS["published"])
    assert len(more.clean) == 2000 and np.array_equal(more.noisy[:8], drawn.noisy)


def test_the_test_signals_are_in_no_batch_of_training():
    for seed in range(5):
        clean, _ = PAPER.draw(np.random.default_rng(seed), 3)
        assert not np.array_equal(clean, draw_test_signals(TASKS["published"], 3).clean)


@pytest.mark.parametrize("limit", [0, -5])
def test_a_limit_below_one_is_an_error(limit: int):
    with pytest.raises(ConfigError, match="use 1 or more"):
        run_benchmark(oracle, limit=limit)


def test_progress_names_each_method_of_both_tables(classics: None):
    seen: list[tuple[int, int, str]] = []
    run_benchmark(oracle, limit=1, progress=lambda *call: seen.append(call))
    assert [number for number, _, _ in seen] == list(range(1, 16))
    assert {total for _, total, _ in seen} == {15}
    assert [name for _, _, name in seen][:8] == list(METHODS)


def test_weights_that_are_given_replace_installed_ones(weights: Path, tmp_path: Path):
    for name in ("sines.onnx", "sines-paper.onnx"):
        (weights / name).touch()
    mine = tmp_path / "mine.onnx"
    mine.touch()
    assert find_weights({"ours": mine}) == {"ours": mine, "paper": weights / "sines-paper.onnx"}


def test_wrong_weights_are_named(tmp_path: Path):
    with pytest.raises(ConfigError, match="weights of noisy: choose among paper, ours, general"):
        find_weights({"noisy": tmp_path})
    for path in (tmp_path / "none.onnx", tmp_path):
        with pytest.raises(ConfigError, match=r"name an \.onnx file"):
            find_weights({"ours": path})


def test_what_is_not_installed_leaves_a_row_empty():
    def low_pass(mixtures: Mixtures) -> Signals:
        raise MissingExtra("eval", "the low-pass filter")

    row = measure("lowpass", low_pass, draw_test_signals(TASKS["published"], 2))
    assert (row.count, row.means) == (0, {}) and "quieten[eval]" in row.reason


def test_answers_of_another_shape_or_no_numbers_are_errors():
    mixtures = draw_test_signals(TASKS["published"], 2)
    for answer in (mixtures.noisy[:1], np.full_like(mixtures.noisy, np.nan)):
        with pytest.raises(ModelError, match="ours gave shape"):
            measure("ours", lambda _, answer=answer: answer, mixtures)


def test_an_onnx_file_is_run_as_it_is(tmp_path: Path):
    path = tiny_signal_model.gain(tmp_path, 0.5, window="256")
    mixtures = draw_test_signals(TASKS["published"], 300)  # more than one batch
    denoised = open_onnx(path, PAPER)(mixtures)
    np.testing.assert_allclose(denoised, mixtures.noisy / 2, atol=1e-6)


def test_a_model_for_other_signals_is_refused(tmp_path: Path):
    path = tiny_signal_model.gain(tmp_path, window="64")
    with pytest.raises(ModelError, match="is for 64 samples at 256 Hz: name a model for 256 at"):
        open_methods("published", {"ours": path}, open_onnx)


def test_examples_are_eight_of_each_model(tmp_path: Path):
    files = {}
    for key in ("ours", "general"):
        files[key] = tmp_path / key / "0.5.onnx"
        files[key].parent.mkdir()
        files[key].touch()
    examples = {name: (rate, signals) for name, rate, signals in draw_examples(files, oracle)}
    assert list(examples) == ["examples-ours", "examples-general"]
    for rate, signals in examples.values():
        assert list(signals) == ["clean", "mixed", "denoised", "low-pass"]
        assert rate == 256 and {each.shape for each in signals.values()} == {(8, 256)}
        np.testing.assert_allclose(signals["denoised"], signals["clean"] / 2)


def test_examples_without_a_model_are_an_error():
    with pytest.raises(ConfigError, match="give --weights ours=FILE"):
        list(draw_examples({}, oracle))
