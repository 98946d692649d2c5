"""One class runs every model: metadata, states by name, and clear words about files that do not."""

import json

import numpy as np
import onnx
import pytest

import tiny_model
from quieten import runtime
from quieten.errors import ConfigError, ModelError
from quieten.restore import Restorer
from quieten.runtime import Model, available, load


def make_spectrum(batch: int, frames: int) -> np.ndarray:
    rng = np.random.default_rng(3)
    return rng.standard_normal((batch, frames, 257, 2)).astype(np.float32)


@pytest.fixture
def smoother(tmp_path) -> Model:
    return load(tiny_model.smoother(tmp_path))


def test_info_is_what_the_file_says(tmp_path):
    path = tiny_model.smoother(tmp_path, name="ours", version="3", parameters="12")
    info = load(path).info
    assert (info.name, info.family, info.version) == ("ours", "tiny", "3")
    assert (info.sample_rate, info.n_fft, info.hop_length) == (16_000, 512, 256)
    assert info.states == ("state_average",) and info.parameters == 12
    assert info.scores == {"pesq": 1.5} and info.licence == "MIT"
    assert info.path == path and info.size_bytes == path.stat().st_size
    assert info.latency_ms == 32.0


def test_run_gives_the_mask(tmp_path):
    model = load(tiny_model.constant(tmp_path, 0.25 - 0.5j))
    mask, state = model.run(make_spectrum(2, 3), model.initial_state(2))
    assert mask.shape == (2, 3, 257, 2) and mask.dtype == np.float32 and state == {}
    assert (mask == np.array([0.25, -0.5], np.float32)).all()


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_state_starts_at_zero_with_the_batch_filled_in(smoother, batch):
    state = smoother.initial_state(batch)
    assert list(state) == ["state_average"]
    assert state["state_average"].shape == (batch, 257) and not state["state_average"].any()


def test_frames_one_by_one_are_all_frames_at_once(smoother):
    spectrum = make_spectrum(2, 20)
    whole, last = smoother.run(spectrum, smoother.initial_state(2))
    state, masks = smoother.initial_state(2), []
    for frame in range(20):
        mask, state = smoother.run(spectrum[:, frame : frame + 1], state)
        masks.append(mask)
    np.testing.assert_allclose(np.concatenate(masks, axis=1), whole, atol=1e-6)
    np.testing.assert_allclose(state["state_average"], last["state_average"], atol=1e-6)


def test_the_state_matters_and_is_not_kept_by_the_model(smoother):
    spectrum = make_spectrum(1, 4)
    first, after = smoother.run(spectrum, smoother.initial_state(1))
    again, _ = smoother.run(spectrum, smoother.initial_state(1))
    np.testing.assert_array_equal(first, again)
    continued, _ = smoother.run(spectrum, after)
    assert np.abs(continued - first).max() > 0.1


def test_signals_of_a_batch_do_not_touch(smoother):
    spectrum = make_spectrum(3, 6)
    together, _ = smoother.run(spectrum, smoother.initial_state(3))
    alone, _ = smoother.run(spectrum[1:2], smoother.initial_state(1))
    np.testing.assert_allclose(together[1:2], alone, atol=1e-6)


def test_several_threads_give_the_same(tmp_path, smoother):
    spectrum = make_spectrum(1, 8)
    two = load(tiny_model.smoother(tmp_path), threads=2)
    expected, _ = smoother.run(spectrum, smoother.initial_state(1))
    actual, _ = two.run(spectrum, two.initial_state(1))
    np.testing.assert_allclose(actual, expected, atol=1e-6)


def test_a_model_that_gives_nan_is_an_error(tmp_path):
    model = load(tiny_model.constant(tmp_path, complex("nan")))
    with pytest.raises(ModelError, match="no numbers"):
        model.run(make_spectrum(1, 1), {})


def test_names_are_the_files_of_the_package(tmp_path, monkeypatch):
    monkeypatch.setattr(runtime, "WEIGHTS", tmp_path)
    assert available() == {}
    path = tiny_model.constant(tmp_path, name="whisperer")
    (tmp_path / "card.md").write_text("not a model")
    (tmp_path / "vqscore.onnx").write_text("no denoiser")
    assert available() == {"whisperer": path}
    assert load("whisperer").info.path == path


def test_an_unknown_name_lists_the_known_ones(tmp_path, monkeypatch):
    monkeypatch.setattr(runtime, "WEIGHTS", tmp_path)
    with pytest.raises(ModelError, match="none is installed"):
        load("speech")
    tiny_model.constant(tmp_path, name="speech")
    tiny_model.constant(tmp_path, name="music")
    with pytest.raises(ModelError, match=r"unknown model 'speach'; known: music, speech"):
        load("speach")


@pytest.mark.parametrize("name", ["nowhere.onnx", "folder/speech"])
def test_a_missing_file_is_named(name):
    with pytest.raises(ModelError, match="no such model file"):
        load(name)
    with pytest.raises(ModelError, match="no such model file"):
        Model(name)


def test_a_file_that_is_no_model(tmp_path):
    path = tmp_path / "text.onnx"
    path.write_text("once upon a time")
    with pytest.raises(ModelError, match="not an ONNX model"):
        load(path)
    path.write_bytes(tiny_model.constant(tmp_path).read_bytes()[:100])
    with pytest.raises(ModelError, match=r"not an ONNX model|lacks the metadata"):
        load(path)


@pytest.mark.parametrize("version", ["", "2"])
def test_a_foreign_model_is_told_what_it_lacks(tmp_path, version):
    path = tiny_model.constant(tmp_path, quieten_format=version)
    with pytest.raises(ModelError, match="lacks the metadata"):
        load(path)


@pytest.mark.parametrize(
    ("key", "value"),
    [("name", ""), ("n_fft", "many"), ("states", "{"), ("scores", "[1]"), ("parameters", "")],
)
def test_broken_metadata_is_an_error(tmp_path, key, value):
    path = tiny_model.constant(tmp_path, **{key: value})
    with pytest.raises(ModelError, match="broken metadata"):
        load(path)


@pytest.mark.parametrize(
    ("window", "margin", "latency_ms"),
    [("0", "0", 32), ("12", "3", 192), ("12", "0", 208), ("1", "0", 32)],
)
def test_a_model_that_looks_ahead_names_its_window(tmp_path, window, margin, latency_ms):
    path = tiny_model.constant(tmp_path, window_frames=window, margin_frames=margin)
    model = load(path)
    assert model.info.window_frames == int(window) and model.info.margin_frames == int(margin)
    assert model.info.latency_ms == latency_ms
    assert model.level_dependent == (window == "0")


@pytest.mark.parametrize(
    ("window", "margin"), [("12", "6"), ("0", "1"), ("-1", "0"), ("12", "-1"), ("12", "many")]
)
def test_windows_that_leave_nothing_are_an_error(tmp_path, window, margin):
    path = tiny_model.constant(tmp_path, window_frames=window, margin_frames=margin)
    with pytest.raises(ModelError, match="broken metadata"):
        load(path)


def test_a_window_and_a_state_are_an_error(tmp_path):
    with pytest.raises(ModelError, match="no states"):
        load(tiny_model.smoother(tmp_path, window_frames="12"))


def test_a_second_output_is_no_harm(tmp_path):
    path = tiny_model.constant(tmp_path, 0.5)
    model = onnx.load(str(path))
    model.graph.node.append(onnx.helper.make_node("Identity", ["nothing"], ["confidence"]))
    shape = ["batch", "frames", 257, 2]
    kind = onnx.TensorProto.FLOAT
    model.graph.output.append(onnx.helper.make_tensor_value_info("confidence", kind, shape))
    onnx.save(model, str(path))
    mask, state = load(path).run(make_spectrum(1, 2), {})
    assert (mask[..., 0] == 0.5).all() and state == {}


@pytest.mark.parametrize("states", [[], ["state_average", "state_more"]])
def test_states_must_fit_the_inputs(tmp_path, states):
    path = tiny_model.smoother(tmp_path, states=json.dumps(states))
    with pytest.raises(ModelError, match=r"state_(average|more)"):
        load(path)


def test_the_arithmetic_of_the_caller_stays_as_it_is(smoother):
    """ONNX Runtime can flush denormals, but does so for the whole thread of the caller."""
    smoother.run(make_spectrum(1, 1), smoother.initial_state(1))
    assert (np.array([1e-40], np.float32) * np.float32(1)).any()


def test_no_threads_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match="threads is 0"):
        load(tiny_model.constant(tmp_path), threads=0)


@pytest.mark.parametrize("name", sorted(available()) or ["speech"])
def test_shipped_models_keep_the_contract(name):
    if name not in available():
        pytest.skip(f"no shipped weight {name}")
    model = load(name)
    assert model.info.size_bytes <= (5_000_000 if model.level_dependent else 16_000_000)
    assert model.info.latency_ms <= (32 if model.level_dependent else 20_000)
    bins = model.info.n_fft // 2 + 1
    spectrum = np.random.default_rng(0).standard_normal((2, 3, bins, 2)).astype(np.float32)
    mask, state = model.run(spectrum, model.initial_state(2))
    assert mask.shape == (2, 3, bins, 4 if model.info.restores else 2)
    assert {key: value.shape for key, value in state.items()} == {
        key: value.shape for key, value in model.initial_state(2).items()
    }


@pytest.mark.skipif("piano-sr" not in available(), reason="no shipped weight piano-sr")
def test_a_restoring_model_fills_a_band_that_is_empty():
    """A tone with its harmonics below 2.5 kHz gets some above, far above the rounding."""
    time = np.arange(44_100) / 22_050
    tones = sum(np.sin(2 * np.pi * 220 * k * time) / k for k in range(1, 11))
    low = (0.1 * tones * np.exp(-2 * time)).astype(np.float32)
    restored = Restorer("super-resolution")(low, 22_050)
    before, after, error = (
        np.abs(np.fft.rfft(sound * np.hanning(low.size)))
        for sound in (low, restored, restored - low)
    )  # half a hertz a bin
    assert np.square(after[6000:12_000]).sum() > 100 * np.square(before[6000:12_000]).sum()
    assert np.square(error[:4000]).sum() < 0.05 * np.square(before[:4000]).sum()
