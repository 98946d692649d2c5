"""A recipe is checked, and its files are dealt fairly and by the seed alone."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from quieten.audio import write_audio
from quieten.errors import ConfigError
from quieten.testsets.recipes import Recipe, plan_mixtures


def put(path, seconds=0.5):
    path.parent.mkdir(parents=True, exist_ok=True)
    write_audio(path, np.full(round(8000 * seconds), 0.1, np.float32), 8000)
    return path


@pytest.fixture
def recipe(tmp_path):
    """Four clean files of two voices, three noises, two levels."""
    for name in ("ann/1.wav", "ann/2.wav", "bob/1.wav", "bob/2.wav"):
        put(tmp_path / "clean" / name)
    for name in ("fan.wav", "rain.wav", "street.wav"):
        put(tmp_path / "noise" / name)
    return Recipe((tmp_path / "clean",), (tmp_path / "noise",), (0.0, 10.0))


def test_every_clean_file_meets_every_level(recipe):
    mixtures = plan_mixtures(recipe)
    assert [mixture.name for mixture in mixtures] == [f"{n:03}" for n in range(1, 9)]
    pairs = [(mixture.clean[0].name, mixture.snr_db) for mixture in mixtures]
    clean = ["ann/1.wav", "ann/2.wav", "bob/1.wav", "bob/2.wav"]
    assert pairs == [(name, level) for name in clean for level in (0.0, 10.0)]
    assert {mixture.rir for mixture in mixtures} == {None}


def test_files_are_dealt_evenly(recipe):
    """30 pairs of 4 clean files and 3 noises: each as often as the others, but for a remainder."""
    mixtures = plan_mixtures(replace(recipe, count=30))
    assert len(mixtures) == 30
    clean = Counter(mixture.clean[0].name for mixture in mixtures)
    assert sorted(clean.values()) == [7, 7, 8, 8]
    assert set(Counter(mixture.noise.name for mixture in mixtures).values()) == {10}
    assert set(Counter(mixture.snr_db for mixture in mixtures).values()) == {15}
    assert len({(mixture.noise.name, mixture.snr_db) for mixture in mixtures}) == 6


def test_the_seed_decides(recipe):
    plans = [plan_mixtures(replace(recipe, count=12, seed=seed)) for seed in (1, 1, 2)]
    assert plans[0] == plans[1] != plans[2]
    assert len({mixture.seed for mixture in plans[0]}) == 12  # excerpts differ from pair to pair


def test_voices_and_noises_are_named_by_folder_or_file(recipe, tmp_path):
    extra = put(tmp_path / "else" / "cy.wav")
    mixtures = plan_mixtures(replace(recipe, clean=(*recipe.clean, extra)))
    assert [mixture.clean[0].group for mixture in mixtures[::2]] == ["ann"] * 2 + ["bob"] * 2 + [
        "cy"
    ]
    assert {mixture.noise.group for mixture in mixtures} == {"fan", "rain", "street"}


def test_a_file_named_twice_counts_once(recipe, tmp_path):
    again = replace(recipe, clean=(*recipe.clean, tmp_path / "clean" / "bob" / "2.wav"))
    assert plan_mixtures(again) == plan_mixtures(recipe)


def test_files_are_joined_until_they_last(recipe):
    """Half a second each: 1.2 s take three, the last one followed by the first."""
    mixtures = plan_mixtures(replace(recipe, seconds=1.2))
    joined = [[source.name for source in mixture.clean] for mixture in mixtures[::2]]
    assert joined[0] == ["ann/1.wav", "ann/2.wav", "bob/1.wav"]
    assert joined[3] == ["bob/2.wav", "ann/1.wav", "ann/2.wav"]
    assert [len(mixture.clean) for mixture in plan_mixtures(replace(recipe, seconds=0.4))] == [
        1
    ] * 8


def test_noise_may_be_left_out(recipe):
    mixtures = plan_mixtures(replace(recipe, noise=(), snr_db=()))
    assert [(mixture.noise, mixture.snr_db) for mixture in mixtures] == [(None, None)] * 4


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"clean": ()}, "no clean files"),
        ({"snr_db": ()}, "noise without an SNR"),
        ({"noise": ()}, "an SNR without noise"),
        ({"snr_db": (0.0, float("nan"))}, "between -100 and 100"),
        ({"snr_db": (1000.0,)}, "between -100 and 100"),
        ({"rir": (Path("x"),), "room": True}, "choose one"),
        ({"count": 0}, "count must be 1"),
        ({"seconds": 0.0}, "seconds must be"),
        ({"seconds": float("nan")}, "seconds must be"),
        ({"seconds": 2.5}, "last 2.0 s in all"),
        ({"seed": -1}, "seed must not"),
        ({"clip_db": -3.0}, "clipping must be"),
        ({"sample_rate": 16}, "rates must be"),
        ({"low_rate_hz": 0}, "rates must be"),
        ({"codec": "aac"}, "take one of mp3"),
        ({"noise": (Path("nowhere"),)}, "nowhere: is not there: .* noise sound"),
        ({"rir": (Path(__file__).parent,)}, "holds no audio files: .* rir sound"),
    ],
)
def test_recipes_that_make_no_sense(recipe, change, reason):
    with pytest.raises(ConfigError, match=reason):
        plan_mixtures(replace(recipe, **change))
