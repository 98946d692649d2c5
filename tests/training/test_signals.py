"""Batches of 1-D signals: what they hold, that (seed, step) alone decides, runs from end to end."""

import csv

import numpy as np
import pytest
import torch

from quieten.errors import ConfigError
from quieten.training import train as loop
from quieten.training.config import load_config
from quieten.training.signals import (
    check_signals,
    load_signals,
    measure,
    snr_db,
    validation_signals,
)
from quieten.training.tensorfile import load_checkpoint

RATE = 128


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A folder with pulses of two channels around 9.81 in an npy file: T rows, C columns."""
    folder = tmp_path_factory.mktemp("recorded")
    time = np.arange(40 * RATE) / RATE
    pulses = np.exp(-200 * (time % 1.3 - 0.5) ** 2)
    np.save(folder / "pulses.npy", np.stack([pulses, 3 * np.roll(pulses, 40)], 1) + 9.81)
    return folder


@pytest.fixture
def make(recorded):
    """A function (*overrides, name="signal_gan", own=False) -> TrainConfig of a small run."""

    def config(*more, name="signal_gan", own=False):
        mine = [f"data.clean={recorded}", f"data.sample_rate={RATE}", "data.snr_db=[0, 10]"]
        small = ["data.batch_size=8", "validation.items=16"]
        return load_config(name, [*small, *(mine if own else []), *more])

    return config


def batch(config, seed=1, step=0):
    return load_signals(config).batch(seed, step)


def centred(parts):
    return parts - parts.mean(1, keepdims=True)


@pytest.mark.parametrize("own", [False, True])
def test_a_batch_depends_on_seed_and_step_alone(make, own):
    config = make(own=own)
    one, same = batch(config, step=7), batch(config, step=7)
    assert all(np.array_equal(a, b) for a, b in zip(one, same, strict=True))
    for other in (batch(config, step=8), batch(config, seed=2, step=7)):
        assert not np.array_equal(one[0], other[0]) and not np.array_equal(one[1], other[1])


@pytest.mark.parametrize("name", ["signal_gan", "signal_general", "signal_gan_paper"])
def test_batches_are_what_the_network_takes(make, name):
    config = make(name=name)
    for part in (*batch(config), *(p[:8] for p in validation_signals(config))):
        assert part.shape == (8, 256) and part.dtype == np.float32 and np.isfinite(part).all()


def test_published_mixtures_have_minus_two_decibels(make):
    """Of the clean part in the mixture: 0.695 of it, the rest is noise."""
    noisy, clean = batch(make("data.batch_size=500"))
    gain = (noisy * clean).sum(1) / np.square(clean).sum(1)
    assert gain.mean() == pytest.approx(0.695, abs=0.01)


def test_the_target_may_be_as_loud_as_in_the_mixture(make):
    def gain(target):
        noisy, clean = batch(make(f"data.signals.target={target}", "data.batch_size=500"))
        return (noisy * clean).sum() / np.square(clean).sum()

    assert gain("mixture") == pytest.approx(1.0, abs=0.02)
    assert gain("clean") == pytest.approx(0.695, abs=0.02)


def test_fixed_signals_come_once_in_every_epoch(make):
    config = make("data.signals.fixed=32")
    source = load_signals(config)
    epochs = [np.concatenate([source.batch(1, 4 * e + i)[1] for i in range(4)]) for e in (0, 1)]
    assert not np.array_equal(*epochs)
    first, second = (np.sort(epoch[:, 5]) for epoch in epochs)
    assert np.array_equal(first, second) and len(np.unique(first)) == 32


def test_validation_is_the_same_for_every_seed_and_none_of_the_training(make):
    config, other = make("data.signals.fixed=32"), make("seed=9", "data.signals.fixed=32")
    clean = validation_signals(config)[1]
    assert np.array_equal(clean, validation_signals(other)[1])
    known = np.concatenate([load_signals(config).batch(1, i)[1] for i in range(4)])
    assert not set(known[:, 5]) & set(clean[:, 5])


def test_windows_of_recordings_lie_around_zero_at_the_asked_snr(make):
    noisy, clean = batch(make("data.batch_size=400", "data.snr_db=[6, 6]", own=True))
    noise = noisy - clean
    assert np.abs(clean.mean(1)).max() < 1e-5  # the 9.81 is gone
    assert np.square(noise).mean() == pytest.approx(10 ** (-6 / 10), rel=0.03)
    assert clean.std() == pytest.approx(1.0, rel=0.2)  # both channels, whatever their units


def test_recorded_noise_replaces_the_made_one(make, tmp_path):
    tone = np.sin(2 * np.pi * 40 * np.arange(1000) / RATE)
    np.save(tmp_path / "hum.npy", tone)
    noisy, clean = batch(make(f"data.noise={tmp_path}", own=True))
    power = np.square(np.abs(np.fft.rfft(noisy - clean))).mean(0)
    assert power.argmax() == 40 and power[39:42].sum() > 0.9 * power.sum()


def test_coloured_noise_falls_with_frequency(make):
    config = make("data.signals.noise_colour=[2, 2]", "data.batch_size=200", own=True)
    noisy, clean = batch(config)
    power = np.square(np.abs(np.fft.rfft(noisy - clean))).mean(0)
    assert power[1:9].sum() > 10 * power[9:].sum() / 4


def test_the_end_of_a_recording_is_held_back(make, tmp_path):
    ramp = np.arange(2000.0)
    np.save(tmp_path / "ramp.npy", np.sin(ramp**2 / 4000))
    config = make(f"data.clean={tmp_path}", f"data.sample_rate={RATE}")
    train, held = load_signals(config).clean, validation_signals(config)[1]
    assert [part.size for part in train] == [1800]
    assert held.shape == (16, RATE)
    whole = make(
        f"data.clean={tmp_path}", f"data.sample_rate={RATE}", f"validation.clean={tmp_path}"
    )
    assert [part.size for part in load_signals(whole).clean] == [2000]


def test_measures_have_known_values():
    clean = np.ones((20, 4), np.float32)
    denoised = clean + np.float32(0.1)
    denoised[3] += 0.9
    values = measure(denoised, clean, 0 * clean)
    assert snr_db(denoised, clean)[0] == pytest.approx(20, abs=1e-3)
    assert values["snr_db"] == pytest.approx(19.0, abs=1e-3)
    assert values["improvement_db"] == pytest.approx(19.0, abs=1e-3)
    assert values["snr_db_worst5"] == pytest.approx(0.0, abs=1e-3)
    assert values["l1"] == pytest.approx((19 * 0.1 + 1.0) / 20)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (['validation.metrics=["stoi"]'], "not measured by stoi: choose among l1"),
        (["validation.select=improvement_db"], "none of validation.metrics"),
        (["data.signals.frequency_hz=[10, 200]"], "frequency_hz"),
        (["data.signals.count=[3, 1]"], "count"),
    ],
)
def test_wrong_settings_are_explained(make, overrides, words):
    with pytest.raises(ConfigError, match=words):
        check_signals(make(*overrides))


def test_recordings_that_are_too_short_are_explained(make, tmp_path):
    np.save(tmp_path / "short.npy", np.arange(200.0))
    config = make(f"data.clean={tmp_path}", f"data.sample_rate={RATE}")
    with pytest.raises(ConfigError, match=r"fills a window of 128.*segment_s"):
        validation_signals(config)


def test_a_batch_larger_than_the_fixed_set_is_explained(make):
    with pytest.raises(ConfigError, match=r"data\.batch_size"):
        load_signals(make("data.signals.fixed=4"))


RUN = ["steps=6", "validation.every_steps=2", "checkpoint_every_steps=2", "log_every_steps=1"]
PAPER_RUN = [*RUN, "data.signals.fixed=16", "data.batch_size=8", "validation.items=8"]
PAPER_RUN += ["model.generator_only_steps=2"]


def run(out, *overrides, name="signal_gan_paper", resume=False):
    loop.main("signal_gan", name, [*PAPER_RUN, *overrides], out, resume)
    return out


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_resumed_equals_uninterrupted(tmp_path):
    """Both networks, fixed epochs and the lowest l1."""
    whole = run(tmp_path / "whole")
    part = run(tmp_path / "part", "steps=4")
    run(part, resume=True)
    for name in ("last", "best"):
        ours, theirs = (load_checkpoint(out / f"{name}.safetensors") for out in (whole, part))
        assert ours[1]["step"] == theirs[1]["step"]
        assert all(torch.equal(tensor, theirs[0][key]) for key, tensor in ours[0].items())
    assert (whole / "log.csv").read_text() == (part / "log.csv").read_text()


def test_best_is_the_lowest_l1_and_the_log_shows_the_discriminator(tmp_path):
    out = run(tmp_path / "run")
    scores = {int(row["step"]): float(row["l1"]) for row in rows(out / "validation.csv")}
    best = load_checkpoint(out / "best.safetensors")[1]["step"]
    assert scores[best] == min(scores.values())
    assert {"l1", "adversarial", "discriminator", "discriminator_accuracy"} <= set(
        rows(out / "log.csv")[0]
    )


def test_a_run_ends_when_patience_does_and_stays_ended(tmp_path, monkeypatch):
    scores = iter([0.5, 0.3, 0.4, 0.4, 0.1])
    monkeypatch.setattr(loop, "validate", lambda *_: {"l1": next(scores)})
    out = run(tmp_path / "run", "steps=100", "validation.patience=2")
    assert [row["step"] for row in rows(out / "validation.csv")] == ["2", "4", "6", "8"]
    last = load_checkpoint(out / "last.safetensors")[1]
    assert (last["step"], last["best_step"], last["best"]) == (8, 4, -0.3)
    run(out, "steps=100", "validation.patience=2", resume=True)
    assert load_checkpoint(out / "last.safetensors")[1]["step"] == 8


def test_own_recordings_are_learnt(recorded, tmp_path):
    """Pulses, no sines: some steps beat what the noise leaves."""
    settings = [f"data.clean={recorded}", f"data.sample_rate={RATE}", "data.snr_db=[0, 0]"]
    settings += ["steps=60", "validation.every_steps=60", "data.batch_size=32", "threads=1"]
    settings += ['validation.metrics=["improvement_db"]', "validation.select=improvement_db"]
    loop.main("signal_gan", None, settings, tmp_path / "run", False)
    assert float(rows(tmp_path / "run" / "validation.csv")[-1]["improvement_db"]) > 3
