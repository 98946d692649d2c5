"""The guard notices a voice that is gone, and nothing else."""

import numpy as np
import pytest

from quieten.guard import Verdict, VoiceGuard

SECONDS = 10.0


def verdict(before, after, sample_rate, block=None):
    guard = VoiceGuard(sample_rate)
    before, after = np.atleast_2d(before), np.atleast_2d(after)
    length = block or before.shape[1]
    for start in range(0, before.shape[1], length):
        part = slice(start, start + length)
        guard.feed(before[:, part], after[:, part], last=start + length >= before.shape[1])
    return guard.verdict()


@pytest.mark.parametrize("sample_rate", [8000, 16_000, 44_100])
def test_a_voice_that_is_gone_is_noticed(speech_like, sample_rate):
    sound = speech_like(SECONDS, sample_rate)
    result = verdict(sound, 0.05 * sound, sample_rate)
    assert result.voiced_s > 1 and result.lost_s == pytest.approx(result.voiced_s)
    assert result.alarming


def test_a_voice_that_stayed_is_no_alarm(speech_like):
    sound = speech_like(SECONDS)
    noise = 0.03 * np.random.default_rng(1).standard_normal(sound.size).astype(np.float32)
    result = verdict(sound + noise, sound, 16_000)
    assert result.voiced_s > 0.5 and result.lost_s == 0 and not result.alarming


@pytest.mark.parametrize("kind", ["noise", "hum", "silence"])
def test_noise_may_go(kind):
    rng, time = np.random.default_rng(1), np.arange(int(16_000 * SECONDS)) / 16_000
    sound = {
        "noise": 0.1 * rng.standard_normal(time.size),
        "hum": sum(0.1 * np.sin(2 * np.pi * 100 * k * time) for k in range(1, 8)),
        "silence": np.zeros(time.size),
    }[kind].astype(np.float32)
    assert verdict(sound, 0 * sound, 16_000) == Verdict(0.0, 0.0)


def test_blocks_and_a_late_output_change_nothing(speech_like):
    sound = speech_like(SECONDS)
    whole = verdict(sound, 0.1 * sound, 16_000)
    assert verdict(sound, 0.1 * sound, 16_000, block=1000) == whole
    guard = VoiceGuard(16_000)
    guard.feed(sound[None], sound[None, :0])
    guard.feed(sound[None, :0], 0.1 * sound[None], last=True)
    assert guard.verdict() == whole


def test_nothing_gives_no_alarm():
    assert not VoiceGuard(16_000).verdict().alarming
