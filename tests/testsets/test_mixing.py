"""Test sets measure what their manifest says, and the same recipe gives the same bytes."""

from dataclasses import replace

import numpy as np
import pytest

from quieten.audio import read_audio, write_audio
from quieten.degrade import active_rms, reverberate, rms
from quieten.errors import AudioError, ConfigError
from quieten.testsets import mixing
from quieten.testsets.mixing import mix, write_testset
from quieten.testsets.pairs import read_testset
from quieten.testsets.recipes import Recipe, plan_mixtures

RATE = 16_000


def put(path, waveform, rate=RATE):
    path.parent.mkdir(parents=True, exist_ok=True)
    write_audio(path, np.asarray(waveform, np.float32), rate)
    return path


@pytest.fixture
def recipe(tmp_path, speech_like, rng):
    """Two voices, two noises (one shorter than any speech), 5 dB."""
    for number, voice in enumerate(("ann", "bob")):
        put(tmp_path / "clean" / voice / "talk.flac", 0.4 * speech_like(1.0, seed=number))
    put(tmp_path / "noise" / "fan.wav", 0.05 * rng.standard_normal(3 * RATE))
    put(tmp_path / "noise" / "hum.wav", 0.05 * rng.standard_normal(RATE // 3))
    return Recipe((tmp_path / "clean",), (tmp_path / "noise",), (5.0,))


def sounds(item):
    """(noisy, clean) as (T,) float64."""
    return tuple(read_audio(path)[0][0].astype(np.float64) for path in (item.noisy, item.clean))


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("snr_db", [-10.0, 5.0, 20.0])
def test_pairs_measure_the_snr_of_the_manifest(recipe, tmp_path, snr_db):
    """Active speech level over noise RMS; 0.01 dB leaves room for the rounding to 16 bit."""
    for item in write_testset(replace(recipe, snr_db=(snr_db,)), tmp_path / "set"):
        noisy, clean = sounds(item)
        measured_db = 20 * np.log10(active_rms(clean, RATE) / rms(noisy - clean))
        assert measured_db == pytest.approx(float(item.labels["snr_db"]), abs=0.01)
        assert float(item.labels["snr_db"]) == snr_db


def test_the_manifest_tells_what_was_done(recipe, tmp_path):
    items = write_testset(replace(recipe, clip_db=3.0, codec="mp3:64", seed=7), tmp_path / "set")
    assert items == read_testset(tmp_path / "set", where=["snr_db=5", "codec=mp3:64"])
    assert items[1].name == "002"
    assert items[1].labels == {
        "snr_db": "5",
        "noise_type": items[1].labels["noise_file"].removesuffix(".wav"),
        "speaker": "bob",
        "seconds": "1.00",
        "sample_rate": "16000",
        "reverb": "0",
        "low_rate_hz": "",
        "clip_db": "3",
        "codec": "mp3:64",
        "clean_file": "bob/talk.flac",
        "noise_file": items[1].labels["noise_file"],
        "rir_file": "",
        "seed": "7",
    }
    assert {item.labels["noise_type"] for item in items} == {"fan", "hum"}


def test_the_same_recipe_gives_the_same_bytes(recipe, tmp_path):
    everything = replace(recipe, room=True, clip_db=6.0, low_rate_hz=8000, codec="opus:24", count=3)
    for name, seed in (("one", 0), ("two", 0), ("other", 1)):
        write_testset(replace(everything, seed=seed), tmp_path / name)
    one, two, other = (contents(tmp_path / name) for name in ("one", "two", "other"))
    assert one == two
    assert len(one) == 3 * 3 + 2  # noisy, clean, clean_early; manifest and recipe
    assert all(one[name] != other[name] for name in one if name.startswith("noisy/"))
    assert str(tmp_path).encode() not in one["recipe.json"] + one["manifest.csv"]


def test_an_interrupted_run_is_finished(recipe, tmp_path, monkeypatch):
    recipe = replace(recipe, count=5)
    write_testset(recipe, tmp_path / "whole")

    def stop(done, total):
        assert total == 5
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_testset(recipe, tmp_path / "set", progress=stop)
    assert not (tmp_path / "set").exists()  # nothing half done under the final name
    made = []
    monkeypatch.setattr(mixing, "mix", lambda m, r: made.append(m.name) or mix(m, r))
    write_testset(recipe, tmp_path / "set")
    assert made == ["003", "004", "005"]
    assert contents(tmp_path / "set") == contents(tmp_path / "whole")
    assert not list(tmp_path.glob(".*"))


def test_remains_of_another_recipe_are_not_used(recipe, tmp_path):
    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_testset(recipe, tmp_path / "set", progress=stop)
    other = replace(recipe, seed=1)
    write_testset(other, tmp_path / "set")
    write_testset(other, tmp_path / "whole")
    assert contents(tmp_path / "set") == contents(tmp_path / "whole")


def test_what_a_killed_run_left_torn_does_not_stay(recipe, tmp_path):
    def kill(done, total):
        (tmp_path / ".set.part" / "noisy" / ".quieten-0.part").write_bytes(b"fLaC")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_testset(recipe, tmp_path / "set", progress=kill)
    write_testset(recipe, tmp_path / "set")
    write_testset(recipe, tmp_path / "whole")
    assert contents(tmp_path / "set") == contents(tmp_path / "whole")


def test_a_finished_test_set_is_returned_as_it_is(recipe, tmp_path, monkeypatch):
    items = write_testset(recipe, tmp_path / "set")
    monkeypatch.setattr(mixing, "mix", None)  # making anything would fail
    assert write_testset(recipe, tmp_path / "set") == items


def test_other_recipes_and_changed_files_are_noticed(recipe, tmp_path, speech_like):
    write_testset(recipe, tmp_path / "set")
    before = contents(tmp_path / "set")
    with pytest.raises(ConfigError, match=r"holds another test set: .*--overwrite"):
        write_testset(replace(recipe, snr_db=(6.0,)), tmp_path / "set")
    put(tmp_path / "clean" / "bob" / "talk.flac", speech_like(1.0, seed=9))
    with pytest.raises(ConfigError, match="holds another test set"):
        write_testset(recipe, tmp_path / "set")
    assert contents(tmp_path / "set") == before
    write_testset(recipe, tmp_path / "set", overwrite=True)
    write_testset(recipe, tmp_path / "fresh")
    assert contents(tmp_path / "set") == contents(tmp_path / "fresh")


def test_nothing_of_others_is_ever_removed(recipe, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "diary.txt").write_text("dear diary")
    write_testset(recipe, tmp_path / "set")
    (tmp_path / "set" / "diary.txt").write_text("dear diary")
    (tmp_path / ".new.part").mkdir()
    (tmp_path / ".new.part" / "diary.txt").write_text("dear diary")
    (tmp_path / "file").write_text("dear diary")
    for name in ("mine", "set", "file", "new"):
        with pytest.raises(ConfigError, match=f"{name}.*: holds more than a test set"):
            write_testset(replace(recipe, seed=3), tmp_path / name, overwrite=True)
    assert len(list(tmp_path.glob("*/diary.txt"))) == 3
    assert (tmp_path / "set" / "noisy" / "001.flac").exists()


def test_a_test_set_that_lost_files_says_so_and_can_be_renewed(recipe, tmp_path):
    before = write_testset(recipe, tmp_path / "set")
    before[0].noisy.unlink()
    assert before[0].clean is not None
    before[0].clean.unlink()
    with pytest.raises(ConfigError, match="has 1 of 2 pairs: say --overwrite"):
        write_testset(recipe, tmp_path / "set")
    assert write_testset(recipe, tmp_path / "set", overwrite=True) == before


def test_the_result_does_not_lie_among_its_sources(recipe, tmp_path):
    with pytest.raises(ConfigError, match="which it is made of"):
        write_testset(recipe, tmp_path / "clean" / "set")


def test_an_empty_folder_is_filled(recipe, tmp_path):
    (tmp_path / "set").mkdir()
    assert len(write_testset(recipe, tmp_path / "set")) == 2


def test_a_place_that_cannot_be_written_is_named(recipe, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"file.*: check space and permissions"):
        write_testset(recipe, tmp_path / "file" / "set")


def test_rooms_give_reverberant_and_early_references(recipe, tmp_path, rng):
    """The clean file is what a listener in the room hears; the early one has 50 ms of it."""
    response = rng.standard_normal(RATE // 4) * np.exp(-np.arange(RATE // 4) / 800)
    put(tmp_path / "rir" / "hall.wav", 0.9 * response / np.abs(response).max())
    items = write_testset(replace(recipe, rir=(tmp_path / "rir",)), tmp_path / "set")
    dry = read_audio(tmp_path / "clean" / "ann" / "talk.flac")[0][0]
    heard, early = reverberate(dry, read_audio(tmp_path / "rir" / "hall.wav")[0][0], RATE)
    noisy, clean = sounds(items[0])
    early_file = read_audio(tmp_path / "set" / "clean_early" / "001.flac")[0][0]
    gain = float(np.dot(clean, heard) / np.dot(heard, heard))  # one gain for all, none above 1
    assert gain <= 1.001
    np.testing.assert_allclose(clean, gain * heard, atol=2 / 32768)
    np.testing.assert_allclose(early_file, gain * early, atol=2 / 32768)
    assert items[0].labels["reverb"] == "1" and items[0].labels["rir_file"] == "hall.wav"
    measured_db = 20 * np.log10(active_rms(clean, RATE) / rms(noisy - clean))
    assert measured_db == pytest.approx(5.0, abs=0.01)


def test_nothing_clips_and_the_pair_keeps_its_proportion(recipe, speech_like):
    """Loud speech under much louder noise: scaled together until the peak stands at 0.99."""
    loud = put(recipe.clean[0] / "ann" / "talk.flac", 1.9 * speech_like(1.0))
    recipe = replace(recipe, clean=(loud,), snr_db=(-20.0,))
    pair = mix(plan_mixtures(recipe)[0], recipe)
    assert np.abs(pair.noisy).max() == pytest.approx(0.99, abs=1e-6)
    measured_db = 20 * np.log10(active_rms(pair.clean, RATE) / rms(pair.noisy - pair.clean))
    assert measured_db == pytest.approx(-20.0, abs=0.01)


def test_quiet_sound_keeps_its_level(recipe):
    pair = mix(plan_mixtures(recipe)[0], recipe)
    np.testing.assert_array_equal(
        pair.clean, read_audio(recipe.clean[0] / "ann" / "talk.flac")[0][0]
    )


@pytest.mark.parametrize(
    "damage", [{"clip_db": 12.0}, {"low_rate_hz": 4000}, {"codec": "gsm"}, {"codec": "mulaw"}]
)
def test_damage_is_done_to_the_noisy_sound_alone(recipe, damage):
    mixture = plan_mixtures(recipe)[0]
    plain, damaged = mix(mixture, recipe), mix(mixture, replace(recipe, **damage))
    np.testing.assert_array_equal(damaged.clean, plain.clean)
    assert damaged.noisy.shape == plain.noisy.shape
    assert np.any(damaged.noisy != plain.noisy)


def test_damages_do_what_they_say(recipe):
    mixture = plan_mixtures(recipe)[0]
    plain = mix(mixture, recipe).noisy
    clipped = mix(mixture, replace(recipe, clip_db=12.0)).noisy
    assert np.abs(clipped).max() == pytest.approx(10 ** (-12 / 20) * np.abs(plain).max(), rel=1e-6)
    power = np.abs(np.fft.rfft(mix(mixture, replace(recipe, low_rate_hz=4000)).noisy, RATE)) ** 2
    assert power[2100:].sum() < 1e-4 * power.sum()  # bins of 1 Hz


def test_a_telephone_narrows_both_and_compands_the_noisy_one(recipe):
    recipe = replace(recipe, telephone=True)
    pair = mix(plan_mixtures(recipe)[0], recipe)
    assert pair.sample_rate == 8000
    for sound in (pair.noisy, pair.clean):
        power = np.abs(np.fft.rfft(sound, 8000)) ** 2  # bins of 1 Hz
        assert power[:150].sum() + power[3800:].sum() < 1e-3 * power.sum()
    assert np.unique(pair.noisy).size <= 256 < np.unique(pair.clean).size


def test_a_telephone_takes_another_rate_and_codec(recipe):
    recipe = replace(recipe, telephone=True, sample_rate=RATE, codec="alaw")
    mixture = plan_mixtures(recipe)[0]
    pair, plain = mix(mixture, recipe), mix(mixture, replace(recipe, codec=None))
    assert pair.sample_rate == RATE
    assert np.any(pair.noisy != plain.noisy)


def test_rates_are_those_of_the_clean_file_or_as_asked(recipe, tmp_path, speech_like):
    wide = put(tmp_path / "wide.wav", np.stack([speech_like(1.0, 48_000)] * 2), 48_000)
    recipe = replace(recipe, clean=(wide,))
    own, asked = (
        mix(plan_mixtures(recipe)[0], replace(recipe, sample_rate=rate)) for rate in (None, 8000)
    )
    assert (own.sample_rate, own.noisy.shape) == (48_000, (48_000,))  # two channels become one
    assert (asked.sample_rate, asked.noisy.shape) == (8000, (8000,))


def test_lengths_as_asked_are_cut_or_joined(recipe):
    for seconds in (0.4, 1.7):
        asked = replace(recipe, seconds=seconds)
        pairs = [mix(mixture, asked) for mixture in plan_mixtures(asked)]
        assert {pair.noisy.size for pair in pairs} == {round(seconds * RATE)}
        assert {pair.clean.size for pair in pairs} == {round(seconds * RATE)}


def test_excerpts_are_no_mere_pauses(tmp_path, speech_like):
    """Speech and noise fill a tenth of their files: excerpts of 0.2 s come from there."""
    speech, gap = speech_like(1.0), np.zeros(9 * RATE, np.float32)
    clean = put(tmp_path / "clean.wav", np.concatenate([gap, speech]))
    noise = put(tmp_path / "noise.wav", np.concatenate([speech[::-1], gap]))
    recipe = Recipe((clean,), (noise,), (0.0,), seconds=0.2, count=30)
    for mixture in plan_mixtures(recipe):
        pair = mix(mixture, recipe)
        assert rms(pair.clean) > 0.09 * rms(read_audio(clean)[0][0])
        assert rms(pair.noisy - pair.clean) > 0


def test_short_noise_repeats(recipe, rng):
    """hum.wav lasts a third of a second: the noise has its period."""
    recipe = replace(recipe, noise=(recipe.noise[0] / "hum.wav",))
    pair = mix(plan_mixtures(recipe)[0], recipe)
    noise, period = pair.noisy - pair.clean, RATE // 3
    np.testing.assert_allclose(noise[period:], noise[:-period], atol=1e-6)


@pytest.mark.parametrize("place", ["clean/ann/talk.flac", "noise/fan.wav"])
def test_silent_files_are_named(recipe, tmp_path, place):
    put(tmp_path / place, np.zeros(RATE))
    with pytest.raises(AudioError, match=rf"{place}: is silent"):
        write_testset(recipe, tmp_path / "set")


def test_without_noise_only_the_damage_differs(recipe, tmp_path):
    items = write_testset(replace(recipe, noise=(), snr_db=()), tmp_path / "set")
    for item in items:
        np.testing.assert_array_equal(*sounds(item))
    assert items[0].labels["snr_db"] == items[0].labels["noise_type"] == ""


def test_a_pipeline_makes_pairs_and_says_what_it_drew(recipe, tmp_path):
    """The target of `sample` is limited to its high rate, which is the rate of the files."""
    steps = "sample 4000 8000, whitenoise snr_db=20"
    made = replace(recipe, noise=(), snr_db=(), preprocessing=steps)
    for item in write_testset(made, tmp_path / "set"):
        noisy, clean = sounds(item)
        assert item.labels["drawn"] == "sample low_hz=4000 filter=usual; whitenoise snr_db=20"
        assert (item.labels["sample_rate"], item.labels["reverb"]) == ("8000", "0")
        assert read_audio(item.noisy)[1] == 8000 and noisy.shape == clean.shape
        lost = np.abs(np.fft.rfft(noisy - clean))[: clean.size // 4]
        assert rms(noisy - clean) > 0 and lost.size
    assert contents(tmp_path / "set") == contents_of_again(made, tmp_path)


def contents_of_again(recipe, tmp_path):
    write_testset(recipe, tmp_path / "again")
    return contents(tmp_path / "again")


def test_a_pipeline_takes_the_noise_and_rooms_that_were_dealt(recipe, tmp_path):
    response = np.zeros(RATE // 2)
    response[[0, RATE // 10]] = 0.9, 0.9
    put(tmp_path / "rooms" / "echo.wav", response)
    steps = "reverb room=measured drr_db=6, noise 10"
    made = replace(
        recipe, snr_db=(), rir=(tmp_path / "rooms",), preprocessing=steps, count=3, seconds=0.8
    )
    for item in write_testset(made, tmp_path / "set"):
        noisy, clean = sounds(item)
        assert item.labels["noise_file"] and item.labels["reverb"] == "1"
        echo = clean[: -RATE // 10] * 10 ** (-6 / 20)
        wet = clean.copy()
        wet[RATE // 10 :] += echo
        level_db = 20 * np.log10(rms(wet) / rms(noisy - wet))
        assert level_db == pytest.approx(10, abs=0.1)
    assert not (tmp_path / "set/clean_early").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"snr_db": (5.0,), "preprocessing": "clip 3"}, "says all but the rate itself"),
        ({"clip_db": 3.0, "snr_db": (), "preprocessing": "clip 3"}, "says all but the rate itself"),
        ({"snr_db": (), "preprocessing": "shout"}, "no step is called 'shout'"),
    ],
)
def test_a_pipeline_stands_alone(recipe, tmp_path, change, words):
    with pytest.raises(ConfigError, match=words):
        write_testset(replace(recipe, **change), tmp_path / "set")
