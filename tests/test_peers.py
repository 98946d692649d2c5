"""Other people's denoisers as the benchmarks run them: same length, in step, clear when missing."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

import peers

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"
DELAY_S = 0.006


def delayed(rate: int) -> peers.Step:
    """A step that does nothing but lag by DELAY_S."""
    kept = np.zeros(round(DELAY_S * rate), np.float32)

    def step(frame):
        nonlocal kept
        sound = np.concatenate([kept, frame])
        kept = sound[len(frame) :]
        return sound[: len(frame)]

    return step


def frames_only(rate: int) -> peers.Step:
    """The same, but a frame of another length than 10 ms is an error."""
    step = delayed(rate)

    def checked(frame):
        assert frame.shape == (rate // 100,) and frame.dtype == np.float32
        return step(frame)

    return checked


def fake(framewise: bool, rate: int | None = None) -> peers.Peer:
    opened = frames_only if framewise else delayed
    return peers.Peer("a delay", opened, "nothing", rate, framewise, DELAY_S)


def stereo(speech_like, rate: int, seconds: float = 0.731) -> np.ndarray:
    """Two channels that differ; no multiple of 10 ms long."""
    return np.stack([speech_like(seconds, rate, seed) for seed in (0, 1)])


@pytest.mark.parametrize("rate", [8000, 16_000, 48_000])
@pytest.mark.parametrize("framewise", [True, False])
def test_a_peer_that_only_delays_is_the_identity(speech_like, framewise, rate):
    noisy = stereo(speech_like, rate)
    denoised = peers.denoise(fake(framewise), noisy, rate)
    assert np.array_equal(denoised, noisy)


@pytest.mark.parametrize(("rate", "peer_rate"), [(16_000, 48_000), (44_100, 48_000)])
@pytest.mark.parametrize("framewise", [True, False])
def test_a_peer_with_a_rate_of_its_own_stays_in_step(speech_like, framewise, rate, peer_rate):
    spectrum = np.fft.rfft(stereo(speech_like, rate))
    spectrum[:, int(0.8 * spectrum.shape[1]) :] = 0  # resamplers cut the top
    noisy = np.fft.irfft(spectrum, round(0.731 * rate)).astype(np.float32)
    denoised = peers.denoise(fake(framewise, peer_rate), noisy, rate)
    assert denoised.shape == noisy.shape and denoised.dtype == np.float32
    error = np.mean((denoised - noisy)[:, 100:-100] ** 2)  # the filters ring at the ends
    assert error < 1e-7 * np.mean(noisy**2)
    assert np.mean((denoised[:, 1:] - noisy[:, :-1]) ** 2) > 1e-3 * np.mean(noisy**2)  # can fail


@pytest.mark.parametrize("block", [1, 160, 441, 5000])
def test_blocks_of_any_size_give_the_same_samples(speech_like, block):
    noisy = stereo(speech_like, 16_000)
    peer = fake(True, 48_000)
    stream = peers.PeerStream(peer, 16_000, 2)
    starts = range(0, noisy.shape[1], block)
    ready = [stream.feed(noisy[:, start : start + block]) for start in starts]
    together = np.concatenate([*ready, stream.flush()], axis=1)
    assert together.shape == noisy.shape
    # soxr rounds by the size of its blocks
    assert together == pytest.approx(peers.denoise(peer, noisy, 16_000), abs=1e-6)


def test_sound_shorter_than_a_frame_keeps_its_length():
    noisy = np.full((1, 7), 0.5, np.float32)
    assert np.array_equal(peers.denoise(fake(True), noisy, 16_000), noisy)


def test_channels_have_states_of_their_own(speech_like):
    noisy = stereo(speech_like, 16_000)
    both = peers.denoise(fake(True), noisy, 16_000)
    alone = peers.denoise(fake(True), noisy[1:], 16_000)
    assert np.array_equal(both[1:], alone)


def test_16_bits_there_and_back():
    samples = np.array([-32768, -1, 0, 1, 32767], np.int16)
    assert np.array_equal(peers.as_int16(peers.as_float(samples)), samples)
    assert list(peers.as_int16(np.array([-3, 3], np.float32))) == [-32768, 32767]


def test_a_folder_is_mirrored(tmp_path, speech_like, monkeypatch):
    sounds = {"a.wav": 16_000, "deep/b c;.flac": 8000}
    for name, rate in sounds.items():
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, stereo(speech_like, rate).T, rate, subtype="PCM_16")
    (tmp_path / "in" / "notes.txt").write_text("no sound")
    peers.denoise_path(fake(True), tmp_path / "in", tmp_path / "out")
    made = sorted(p for p in (tmp_path / "out").rglob("*") if p.is_file())
    assert [str(path.relative_to(tmp_path / "out")) for path in made] == list(sounds)
    for name, rate in sounds.items():
        (noisy, _), (denoised, found) = (
            soundfile.read(tmp_path / side / name) for side in ("in", "out")
        )
        assert found == rate and np.array_equal(denoised, noisy)


@pytest.mark.parametrize(
    ("name", "module", "words"),
    [
        ("rnnoise", "pyrnnoise", "pyrnnoise is not installed: python -m pip install"),
        ("webrtc", "webrtc_noise_gain", "webrtc-noise-gain is not installed: python -m pip"),
        ("noisereduce", "noisereduce", "noisereduce is not installed"),
        ("logmmse-pypi", "logmmse", "logmmse is not installed"),
    ],
)
def test_what_a_missing_package_needs_is_said(monkeypatch, name, module, words):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(peers.PeerError, match=words):
        peers.PEERS[name].open(16_000)


def test_what_missing_programs_and_weights_need_is_said(monkeypatch):
    monkeypatch.setattr(peers.shutil, "which", lambda name: None)
    monkeypatch.setattr(peers.ctypes.util, "find_library", lambda name: None)
    monkeypatch.delenv(peers.ARNNDN_MODEL, raising=False)
    for name, words in (("afftdn", "ffmpeg"), ("speexdsp", "libspeexdsp1"), ("arnndn", "rnnn")):
        with pytest.raises(peers.PeerError, match=words):
            peers.PEERS[name].open(48_000)


def test_a_missing_peer_is_one_line_and_a_failure(tmp_path):
    soundfile.write(tmp_path / "in.wav", np.zeros(480), 48_000)
    command = [sys.executable, str(FOLDER / "peers.py"), "arnndn", "in.wav", "out.wav"]
    env = {name: value for name, value in os.environ.items() if name != peers.ARNNDN_MODEL}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=env)
    assert done.returncode == 1 and not (tmp_path / "out.wav").exists()
    assert done.stderr.count("\n") == 1 and "--arnndn-model" in done.stderr


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg")
def test_ffmpeg_is_given_raw_samples_and_gives_them_back(speech_like):
    noisy = stereo(speech_like, 11_025)
    halved = peers.ffmpeg_peer("half", "volume=0.5", 0.0)
    assert np.array_equal(peers.denoise(halved, noisy, 11_025), 0.5 * noisy)
    with pytest.raises(peers.PeerError, match=r"ffmpeg failed: .*nosuchfilter"):
        peers.denoise(peers.ffmpeg_peer("none", "nosuchfilter", 0.0), noisy, 11_025)


@pytest.mark.parametrize("name", peers.PEERS)
def test_a_peer_that_is_here_is_in_step_and_keeps_speech(speech_like, name):
    """Its output is most like its input where nothing is shifted: the stated delay is right."""
    noisy = speech_like(3.0)[None] + 0.001 * np.random.default_rng(3).standard_normal(48_000)
    noisy = noisy.astype(np.float32)
    try:
        denoised = peers.denoise(peers.PEERS[name], noisy, 16_000)
    except peers.PeerError as error:
        pytest.skip(str(error))
    assert denoised.shape == noisy.shape
    spectra = [np.fft.rfft(sound[0], 2 * noisy.shape[1]) for sound in (denoised, noisy)]
    alike = np.fft.irfft(spectra[0] * spectra[1].conj())
    lag = (np.argmax(alike) + noisy.shape[1]) % (2 * noisy.shape[1]) - noisy.shape[1]
    assert abs(lag) <= 1  # some delays are no whole number of samples
