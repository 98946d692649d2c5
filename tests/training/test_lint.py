"""The linter finds what would teach the wrong thing, and nothing in sound folders."""

import shutil
from collections import Counter

import numpy as np
import pytest
import soundfile

from quieten.training.lint import (
    Finding,
    clipped_samples,
    empty_above_hz,
    lint,
    summarize,
)

RATE = 16_000


@pytest.fixture
def prepared(tmp_path, tiny, folders, write_sounds):
    """A function (role, {name: waveform}) -> findings for folders to which these are added."""

    def check(role, sounds, *more):
        copy = tmp_path / role
        shutil.copytree(folders[role], copy)
        write_sounds(copy, sounds)
        key = role.replace("valid_", "validation.") if "valid" in role else f"data.{role}"
        return lint(tiny(f'{key}=["{copy}"]', *more))

    return check


def kinds(findings):
    return Counter(finding.kind for finding in findings)


def band_limited(waveform, cutoff_hz):
    spectrum = np.fft.rfft(waveform)
    spectrum[np.fft.rfftfreq(waveform.size, 1 / RATE) > cutoff_hz] = 0
    return np.fft.irfft(spectrum, waveform.size).astype(np.float32)


def test_sound_folders_have_no_findings(tiny):
    assert lint(tiny()) == []


def test_silent_files_are_found_once(prepared):
    findings = prepared("clean", {"x_1.wav": np.zeros(RATE), "x_2.wav": np.zeros(RATE)})
    assert kinds(findings) == {"silent": 2}  # and they are no duplicates
    assert findings[0].file == "data.clean: x_1.wav"


def test_clipped_files_are_found(prepared, voice):
    loud = np.clip(4 * voice(7, 1.0), -1, 1)
    findings = prepared("clean", {"x_1.wav": loud, "y_1.wav": 2.4 * voice(8, 1.0)})
    assert kinds(findings) == {"clipped": 1} and "x_1.wav" in findings[0].file


def test_runs_at_full_scale_are_counted():
    full = np.array([0, 32767, 32767, 32767, 0, -32768, -32768, 5, 32767, -32768, 32767], np.int16)
    assert clipped_samples(full) == 6  # two runs of three; a pair may be chance
    assert clipped_samples(full[4:8]) == 0


@pytest.mark.parametrize(
    ("cutoff_hz", "found"), [(3400, 4000), (4000, 4000), (5500, 6000), (7000, None)]
)
def test_band_limits_are_found(voice, cutoff_hz, found):
    waveform = band_limited(voice(5, 2.0), cutoff_hz)
    assert empty_above_hz((waveform * 32767).astype(np.int16), RATE) == found


def test_the_rate_decides_what_can_be_there():
    """At 8 kHz there is nothing above 4 kHz, by nature."""
    noise = np.random.default_rng(1).integers(-9000, 9000, 8000).astype(np.int16)
    assert empty_above_hz(noise, 8000) is None
    assert empty_above_hz(noise[:100], 8000) is None


def test_band_limited_speech_is_reported_but_not_noise(prepared, voice):
    assert kinds(prepared("clean", {"x_1.wav": band_limited(voice(5, 2.0), 3900)})) == {
        "band_limited": 1
    }
    assert prepared("noise", {"x_1.wav": band_limited(voice(5, 2.0), 3900)}) == []


def test_duplicates_are_found_under_other_names_and_roles(prepared, voice):
    findings = prepared("clean", {"x_1.wav": voice(101, 1.3), "x_2.wav": voice(55, 1.0)})
    assert findings == [
        Finding("duplicate", "data.clean: x_1.wav", "the same sound as data.clean: anna_1.wav")
    ]
    assert kinds(prepared("noise", {"voices.wav": voice(101, 1.3)})) == {"duplicate": 1}


def test_short_files_are_found(prepared, voice):
    assert kinds(prepared("clean", {"x_1.wav": voice(5, 0.2)})) == {"short": 1}


def test_rooms_may_be_short_and_loud(prepared):
    click = np.zeros(1600, np.float32)
    click[:5] = 1.0
    assert prepared("rir", {"closet.wav": click}) == []


def test_leaked_sounds_come_first(prepared, voice):
    findings = prepared("clean", {"x_1.wav": voice(500, 1.6), "x_2.wav": voice(500, 1.6)})
    assert [finding.kind for finding in findings] == ["leaked", "leaked", "duplicate"]
    assert findings[0].detail == "the same sound as validation.clean: dora_0.wav"


def test_leaked_speakers_are_found_once_each(prepared, voice):
    findings = prepared("clean", {"dora_8.wav": voice(71, 1.0), "dora_9.wav": voice(72, 1.0)})
    assert [(f.kind, f.file) for f in findings] == [("leaked", "data.clean: dora*")]
    assert "2 files of a speaker of validation.clean" in findings[0].detail


def test_leaks_into_the_test_folder_are_found_in_any_format(tiny, tmp_path, folders):
    """A copy in another container decodes to the same samples."""
    (tmp_path / "test").mkdir()
    waveform, rate = soundfile.read(folders["clean"] / "ben_1.wav")
    soundfile.write(tmp_path / "test" / "007.flac", waveform, rate)
    (finding,) = lint(tiny(f'data.test=["{tmp_path / "test"}"]'))
    assert finding == Finding(
        "leaked", "data.clean: ben_1.wav", "the same sound as data.test: 007.flac"
    )


def test_leaked_noises_are_found(prepared, folders):
    rain, _ = soundfile.read(folders["valid_noise"] / "rain_1.wav")
    assert kinds(prepared("noise", {"other.wav": rain})) == {"leaked": 1}


def test_names_without_a_speaker_say_nothing(prepared, voice):
    """`001.wav` in two folders is no leak, nor are two recordings of one type of noise."""
    sounds = {"001.wav": voice(81, 1.0)}
    assert prepared("clean", sounds) == []
    rain = np.random.default_rng(5).normal(0, 0.1, RATE)
    assert prepared("noise", {"rain_7.wav": rain}) == []


def test_summary_counts_and_names_three():
    findings = [
        Finding("band_limited", f"data.clean: {i}.wav", "nothing above 4000 Hz") for i in range(9)
    ]
    findings += [Finding("band_limited", "data.clean: z.wav", "nothing above 6000 Hz")]
    findings += [Finding("short", "data.noise: s.wav", "0.10 s")]
    lines = summarize(findings).splitlines()
    assert lines[0] == (
        "data: 9 band_limited (nothing above 4000 Hz): "
        "data.clean: 0.wav, data.clean: 1.wav, data.clean: 2.wav, ..."
    )
    assert lines[1:] == [
        "data: 1 band_limited (nothing above 6000 Hz): data.clean: z.wav",
        "data: 1 short: data.noise: s.wav",
    ]
    assert summarize([]) == ""


def test_white_validation_noise_has_no_folder_to_look_into(tiny):
    assert lint(tiny("validation.noise=white")) == lint(tiny("validation.noise=[]"))
