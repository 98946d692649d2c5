"""The original's mistakes cost what arithmetic says that they cost."""

from collections.abc import Callable

import numpy as np
import pytest

from quieten.reproduce.clips import Clip
from quieten.reproduce.pitfalls import measure_pitfalls

RATE = 8000


@pytest.fixture
def rows(speech_like: Callable) -> dict:
    """Method -> row, of three different clips."""
    clips = [
        Clip(f"{seed}.wav", f"{seed}.wav", seed, speech_like(4.0, RATE, seed=seed))
        for seed in range(3)
    ]
    return {row.method: row for row in measure_pitfalls(clips, RATE, {"E": 9.7})}


def test_the_real_part_is_half_of_the_sound(rows):
    """Re X = (X + conj X) / 2: half of x (an NSR of 0.25), and frames backwards, which blur."""
    assert rows["real_part"].condition == "clean"
    assert 0.25 < rows["real_part"].means["nsr"][0] < 0.35


def test_most_noise_on_bins_does_not_survive_the_redundancy(rows):
    """As strong as the sound on each bin, but a hop of 31 of 519 leaves a 17th of it."""
    survived_db = 10 * np.log10(rows["bin_noise"].means["nsr"][0])
    assert survived_db == pytest.approx(-12.3, abs=1.0)


def test_utterances_that_do_not_belong_together_are_far_apart(rows):
    """At 9.7 dB a pair has an NSR of 0.107; strangers share nothing, and add up."""
    assert rows["unpaired"].condition == "E" and rows["unpaired"].count == 2
    assert rows["unpaired"].means["nsr"][0] > 1
