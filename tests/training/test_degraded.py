"""Batches of the restorer: a function of (seed, step), windows, limits, MAESTRO."""

import json

import numpy as np
import pytest

from quieten.errors import ConfigError
from quieten.training.config import load_config
from quieten.training.degraded import load_degrader, validation_pairs

RATE = 16_000
STEPS = "sample 4000, whitenoise snr_db=20"


@pytest.fixture
def config(folders):
    """A function (*overrides) -> the configuration of a tiny run."""

    def load(*more):
        places = [
            f"data.clean={json.dumps(str(folders['clean']))}",
            f"validation.clean={json.dumps(str(folders['valid_clean']))}",
            f"data.cache={json.dumps(str(folders['cache']))}",
            f"data.preprocessing={STEPS}",
            f"data.sample_rate={RATE}",
            "data.segment_s=0.25",
            "data.batch_size=3",
            "validation.items=3",
            "validation.seconds=0.5",
        ]
        return load_config("restorer", [*places, *more])

    return load


def test_a_batch_follows_from_seed_and_step(config):
    source = load_degrader(config())
    first, again, later, other = (source.batch(*key) for key in ((1, 5), (1, 5), (1, 6), (2, 5)))
    for one, same in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, same)
        assert one.shape == (3, RATE // 4) and one.dtype == np.float32
    assert np.any(first[1] != later[1]) and np.any(first[1] != other[1])


def test_the_target_is_a_piece_of_a_recording(config, folders):
    source = load_degrader(config("data.speed=[1.0,1.0]", "data.level_dbfs=[-20.0,-20.0]"))
    degraded, clean = source.batch(1, 0)
    assert np.sqrt(np.square(clean).mean(1)) == pytest.approx(0.1, rel=1e-3)
    spectra = np.abs(np.fft.rfft(degraded - clean)) ** 2
    lost = np.abs(np.fft.rfft(clean))[:, 550:] ** 2  # above 2200 Hz nothing is left but noise
    assert spectra[:, 550:].sum() > 0.8 * lost.sum()
    names = source.clean.names
    whole = [source.clean.read(i) for i in range(len(names))]
    piece = clean[0] / np.linalg.norm(clean[0])
    best = max(
        np.abs(
            np.correlate(sound, piece, "valid")
            / np.sqrt(np.convolve(sound**2, np.ones(piece.size), "valid") + 1e-9)
        ).max()
        for sound in whole
    )
    assert best == pytest.approx(1, abs=1e-3)


def test_windows_begin_at_multiples_of_the_stride(config):
    source = load_degrader(config("data.stride=4000", "data.speed=[1.0,1.0]"))
    starts = set()
    original = source.clean.read

    class Spy:
        def __getattr__(self, name):
            return getattr(source.clean, name)

        def __len__(self):
            return len(source.clean)

        def read(self, index, start, length):
            starts.add(start)
            return original(index, start, length)

    spied = type(source)(source.config, Spy(), source.sounds, source.pipeline)
    for step in range(5):
        spied.batch(1, step)
    assert len(starts) > 1 and all(start % 4000 == 0 for start in starts)


def test_limits_of_the_original(config):
    few = load_degrader(config("data.train_n=1"))
    assert len(few.clean) == 1 and len(load_degrader(config()).clean) > 1
    repeated = load_degrader(config("data.count=2"))
    np.testing.assert_array_equal(repeated.batch(1, 0)[0], repeated.batch(1, 2)[0])
    assert np.any(repeated.batch(1, 0)[0] != repeated.batch(1, 1)[0])


def test_validation_is_always_the_same(config):
    one, other = (validation_pairs(config(f"seed={seed}")) for seed in (1, 2))
    assert len(one) == 3
    for (degraded, clean), (same, _) in zip(one, other, strict=True):
        np.testing.assert_array_equal(degraded, same)
        assert degraded.shape == clean.shape == (RATE // 2,)
    quiet = validation_pairs(config("validation.preprocessing=sample 4000"))
    assert np.abs(quiet[0][0] - quiet[0][1]).sum() < np.abs(one[0][0] - one[0][1]).sum()


def test_maestro_trains_on_its_own_split(config, folders, tmp_path, voice, write_sounds):
    sounds = {name: voice(seed, 1.0) for seed, name in enumerate(("a.wav", "b.wav", "c.wav"))}
    write_sounds(tmp_path / "2004", sounds)
    rows = [
        {"split": split, "year": "2004", "audio_filename": f"2004/{name}"}
        for split, name in (("train", "a.wav"), ("validation", "b.wav"), ("train", "c.wav"))
    ]
    (tmp_path / "maestro-v3.0.0.json").write_text(json.dumps(rows))
    root = json.dumps(str(tmp_path))
    made = config("data.corpus=maestro", f"data.clean={root}", f"validation.clean={root}")
    assert load_degrader(made).clean.names == ("a.wav", "c.wav")
    assert len(validation_pairs(made)) == 3


def test_no_steps_are_an_error(config):
    with pytest.raises(ConfigError, match="names no step"):
        load_degrader(config("data.preprocessing="))
