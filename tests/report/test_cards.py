"""Cards: which items are shown, that their versions are in step, and what the sounds decode to."""

import io
from dataclasses import replace

import numpy as np
import pytest
import soundfile

import tiny_evaluation
from quieten.audio import write_audio
from quieten.errors import AudioError, ConfigError
from quieten.report.cards import (
    BEST,
    CHOSEN,
    MAX_SECONDS,
    MIDDLE,
    WORST,
    Source,
    choose,
    encode,
    fit_cards,
    improvements,
    make_card,
    played_rate,
)


def card_of(evaluation, removed=1):
    item = evaluation.items[0]
    denoised = [
        Source("denoised", system.name, evaluation.sound(system.name, item.name))
        for system in evaluation.systems[1:]
    ]
    sources = [
        Source("noisy", "Noisy", item.noisy),
        *denoised,
        Source("clean", "Clean", item.clean),
    ]
    return make_card(item.name, BEST, item.labels, sources, removed)


def test_best_worst_and_median_are_those_of_the_improvement(tmp_path):
    evaluation = tiny_evaluation.make(tmp_path, count=5)
    chosen = choose(evaluation, "speech", "pesq_wb", 1, ["001"])
    assert chosen == [("001", CHOSEN), ("004", BEST), ("000", WORST), ("002", MIDDLE)]


def test_every_item_is_shown_once(tmp_path):
    evaluation = tiny_evaluation.make(tmp_path, count=4)
    names = [name for name, _ in choose(evaluation, "speech", "pesq_wb", 9, ["002"])]
    assert sorted(names) == ["000", "001", "002", "003"]


def test_lower_is_better_turns_the_order_round(tmp_path):
    evaluation = tiny_evaluation.make(tmp_path, count=2)
    worse = replace(evaluation.scores["speech", "001"], values={"lsd": 5.0})
    evaluation.scores["speech", "001"] = worse
    assert improvements(evaluation, "speech", "lsd") == {"000": 1.0, "001": -3.0}
    assert choose(evaluation, "speech", "lsd", 1, [])[0] == ("000", BEST)


def test_items_without_a_number_are_not_ranked(tmp_path):
    evaluation = tiny_evaluation.make(tmp_path, count=3)
    evaluation.scores["speech", "002"] = replace(evaluation.scores["speech", "002"], values={})
    del evaluation.scores["noisy", "001"]
    assert improvements(evaluation, "speech", "pesq_wb") == {"000": 0.0}


@pytest.mark.parametrize(("count", "named"), [(1, ["none"]), (-1, [])])
def test_a_choice_that_cannot_be_made(tmp_path, count, named):
    with pytest.raises(ConfigError):
        choose(tiny_evaluation.make(tmp_path), "speech", "pesq_wb", count, named)


def test_removed_is_noisy_minus_denoised_at_its_own_level(tmp_path):
    card = card_of(tiny_evaluation.make(tmp_path))
    noisy, denoised, removed, clean = (one.waveform for one in card.versions)
    assert [one.role for one in card.versions] == ["noisy", "denoised", "removed", "clean"]
    np.testing.assert_array_equal(removed, noisy - denoised)
    expected = tiny_evaluation.tone(tiny_evaluation.NOISE_HZ, 0.396)
    np.testing.assert_allclose(removed[0], expected, atol=1e-3)  # 16-bit files
    assert clean.shape == noisy.shape == (1, 32_000)


def test_each_system_has_its_removed_sound_where_asked(tmp_path):
    evaluation = tiny_evaluation.make(tmp_path, systems=("a", "b"))
    assert [one.name for one in card_of(evaluation, 2).versions][3:5] == [
        "Removed by a",
        "Removed by b",
    ]
    assert sum(one.role == "removed" for one in card_of(evaluation, 1).versions) == 1


def test_too_loud_sounds_are_turned_down_together(tmp_path):
    loud, quiet = tmp_path / "loud.wav", tmp_path / "quiet.wav"
    write_audio(loud, np.full(16_000, 2.0, np.float32), 16_000, subtype="FLOAT")
    write_audio(quiet, np.full(16_000, 0.5, np.float32), 16_000, subtype="FLOAT")
    card = make_card("x", "", {}, [Source("noisy", "N", loud), Source("denoised", "D", quiet)])
    noisy, denoised, removed = (float(one.waveform.max()) for one in card.versions)
    assert noisy == pytest.approx(0.98) and noisy / denoised == pytest.approx(4)
    assert removed == pytest.approx(noisy - denoised)
    assert "6.2 dB lower" in card.notes[0]


def test_versions_of_other_rate_length_and_channels_come_into_step(tmp_path):
    tone = tiny_evaluation.tone
    noisy, other = tmp_path / "noisy.wav", tmp_path / "other.wav"
    write_audio(noisy, tone(440, 0.5), 16_000)
    write_audio(other, np.stack([tone(440, 0.5, 1.0, 48_000)] * 2), 48_000)
    card = make_card("x", "", {}, [Source("noisy", "N", noisy), Source("denoised", "D", other)])
    denoised = card.versions[1].waveform
    assert denoised.shape == (1, 32_000)
    np.testing.assert_allclose(denoised[0, 2000:14_000], tone(440, 0.5)[2000:14_000], atol=2e-3)
    assert not denoised[0, 16_000:].any()


@pytest.mark.parametrize("delay", [160, -160])
def test_a_delay_is_taken_out(tmp_path, rng, delay):
    sound = rng.uniform(-0.5, 0.5, 16_000).astype(np.float32)
    noisy, late = tmp_path / "noisy.wav", tmp_path / "late.wav"
    write_audio(noisy, sound, 16_000, subtype="FLOAT")
    write_audio(late, np.roll(sound, delay), 16_000, subtype="FLOAT")
    sources = [Source("noisy", "N", noisy), Source("denoised", "D", late, {}, delay / 16_000)]
    versions = make_card("x", "", {}, sources).versions
    np.testing.assert_array_equal(
        versions[1].waveform[0, 160:-160], versions[0].waveform[0, 160:-160]
    )


def test_long_sounds_are_cut_and_it_is_said(tmp_path):
    write_audio(tmp_path / "long.wav", np.full(8000 * 70, 0.1, np.float32), 8000)
    sources = [Source("noisy", "N", tmp_path / "long.wav")]
    card = make_card("x", "", {}, sources)
    assert card.duration_s == MAX_SECONDS
    assert card.notes == ("first 60 s of 70 s",)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(AudioError, match=r"gone\.wav"):
        make_card("x", "", {}, [Source("noisy", "N", tmp_path / "gone.wav")])


@pytest.mark.parametrize("rate", [8000, 16_000, 44_100, 96_000])
def test_mp3_is_in_step_with_the_sound(speech_like, rate):
    wave = speech_like(1.5, rate)[None]
    decoded, played = soundfile.read(io.BytesIO(encode(wave, rate, 96)), always_2d=True)
    assert played == played_rate(rate)
    assert len(decoded) == pytest.approx(1.5 * played, abs=1)
    if played == rate:  # best correlation at no shift
        shifts = range(-40, 41)
        middle = slice(rate // 2, rate)
        match = [float(np.roll(decoded[:, 0], shift)[middle] @ wave[0, middle]) for shift in shifts]
        assert shifts[int(np.argmax(match))] == 0
        error = decoded[middle, 0] - wave[0, middle]
        assert np.sum(wave[0, middle] ** 2) > 30 * np.sum(error**2)  # 15 dB: coded by ear


def test_stereo_stays_stereo():
    wave = np.stack([tiny_evaluation.tone(300, 0.5), tiny_evaluation.tone(2000, 0.1)])
    decoded, _ = soundfile.read(io.BytesIO(encode(wave, 16_000, 64)))
    assert decoded.std(axis=0) == pytest.approx(wave.std(axis=1), rel=0.05)


def test_the_rate_goes_down_before_cards_are_left_out(tmp_path):
    cards = [card_of(tiny_evaluation.make(tmp_path))] * 4
    assert fit_cards(cards, 10**9) == (cards, 96)
    sound = 4 * 4 * 4 / 3 * 125 * 2.1  # bytes for each kbit/s
    full = next(size for size in range(500_000, 10**7, 1000) if fit_cards(cards, size)[1] == 96)
    assert fit_cards(cards, int(full - 10 * sound)) == (cards, 64)
    kept, kbps = fit_cards(cards, int(full - 60 * sound))
    assert kbps == 48 and 1 <= len(kept) < 4
    assert len(fit_cards(cards, 1)[0]) == 1
