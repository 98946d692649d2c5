"""Denoises with a program of others, so that all can be measured alike.

    python benchmarks/peers.py NAME IN OUT      a file, or a folder of files into a folder
    python benchmarks/peers.py --list           which are here, and what the others need

Each peer runs with the settings that its documentation gives first, at the rate that it takes; the
sound is resampled to it and back. Results have the rate, channels and length of the input, and a
peer's constant delay is taken out. Needs numpy, soundfile and soxr, but not quieten.
"""

import argparse
import ctypes
import ctypes.util
import importlib.metadata
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

Waveform = NDArray[np.float32]
Step = Callable[[Waveform], Waveform]  # one channel (T,) -> (T,), keeps its state

FRAMES_PER_S = 100  # peers that take frames take 10 ms
INSTALL = "python -m pip install -r benchmarks/peers.txt"
ARNNDN_MODEL = "ARNNDN_MODEL"  # environment variable: file with weights of arnndn
SUFFIXES = {suffix.lower() for suffix in soundfile.available_formats()} | {"opus", "aif"}


class PeerError(Exception):
    """A peer is not installed, or failed; the message says what it needs."""


@dataclass(frozen=True)
class Peer:
    """A denoiser of others.

    Attributes:
        about: what runs, with its settings.
        open: makes a `Step` for one channel at a rate; raises PeerError.
        source: the distribution, library or program that does the work.
        rate: the only rate it takes, Hz; None: any.
        framewise: its step takes exactly 10 ms at a time; otherwise the whole waveform at once.
        delay_s: how far its output lags, found by cross-correlation with its input.
        sound_filter: the filter, where ffmpeg does the work.
    """

    about: str
    open: Callable[[int], Step]
    source: str
    rate: int | None = None
    framewise: bool = False
    delay_s: float = 0.0
    sound_filter: str = ""

    @property
    def latency_ms(self) -> float | None:
        """What a live sound waits for: delay and frame; None where the whole is needed first."""
        return 1000 * self.delay_s + 1000 / FRAMES_PER_S if self.framewise else None


def as_int16(frame: Waveform) -> NDArray[np.int16]:
    """Returns the samples as 16-bit integers, limited to full scale."""
    return np.clip(np.rint(frame * 32768), -32768, 32767).astype(np.int16)


def as_float(frame: NDArray[np.int16]) -> Waveform:
    """Returns 16-bit samples as float32 with full scale 1."""
    return frame.astype(np.float32) / np.float32(32768)


def fitted(waveform: Waveform, length: int) -> Waveform:
    """Returns the waveform (..., T) cut, or filled with zeros, to a length."""
    short = max(0, length - waveform.shape[-1])
    return np.pad(waveform[..., :length], [(0, 0)] * (waveform.ndim - 1) + [(0, short)])


def missing(name: str, remedy: str = INSTALL) -> PeerError:
    """Returns the error that names what is not there and how it is got."""
    return PeerError(f"{name} is not installed: {remedy}")


def open_noisereduce(rate: int, stationary: bool) -> Step:
    """Returns spectral gating of the package noisereduce (Sainburg & Zorea 2024)."""
    try:
        import noisereduce
    except ImportError:
        raise missing("noisereduce") from None
    return lambda waveform: noisereduce.reduce_noise(waveform, rate, stationary=stationary)


def open_rnnoise(rate: int) -> Step:
    """Returns RNNoise (Valin 2018; weights of the package pyrnnoise), frame by frame."""
    try:
        from pyrnnoise import rnnoise
    except ImportError:
        raise missing("pyrnnoise") from None
    state = rnnoise.create()
    return lambda frame: as_float(rnnoise.process_mono_frame(state, as_int16(frame))[0])


def open_webrtc(rate: int) -> Step:
    """Returns the noise suppression of WebRTC, level 2 of 4, without gain control."""
    try:
        from webrtc_noise_gain import AudioProcessor
    except ImportError:
        raise missing("webrtc-noise-gain") from None
    processor = AudioProcessor(0, 2)

    def step(frame: Waveform) -> Waveform:
        answer = processor.Process10ms(as_int16(frame).tobytes()).audio
        return as_float(np.frombuffer(answer, np.int16))

    return step


def open_logmmse(rate: int) -> Step:
    """Returns the package logmmse (Ephraim & Malah 1985), which leaves its last window out."""
    try:
        from logmmse import logmmse
    except ImportError:
        raise missing("logmmse") from None

    def step(waveform: Waveform) -> Waveform:
        window = 2 * (rate // 50)
        padded = np.pad(waveform, (0, window))  # float64 makes it fail
        return np.asarray(logmmse(padded, rate), np.float32)

    return step


def open_speexdsp(rate: int) -> Step:
    """Returns the preprocessor of libspeexdsp (Valin), which denoises by default."""
    library = ctypes.util.find_library("speexdsp")
    if library is None:
        raise missing("libspeexdsp", "apt-get install libspeexdsp1")
    speex = ctypes.CDLL(library)
    speex.speex_preprocess_state_init.restype = ctypes.c_void_p
    speex.speex_preprocess_run.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    state = speex.speex_preprocess_state_init(rate // FRAMES_PER_S, rate)

    def step(frame: Waveform) -> Waveform:
        samples = as_int16(frame)
        speex.speex_preprocess_run(state, samples.ctypes.data)
        return as_float(samples)

    return step


def open_ffmpeg(rate: int, sound_filter: str, folder: Path | None = None) -> Step:
    """Returns an audio filter of ffmpeg, run in `folder`; each call starts a process."""
    program = shutil.which("ffmpeg")
    if program is None:
        raise missing("ffmpeg", "apt-get install ffmpeg")
    raw = ["-f", "f32le", "-ar", str(rate), "-ac", "1"]
    command = [program, "-v", "error", "-nostdin", "-filter_threads", "1", *raw, "-i", "pipe:0"]
    command += ["-af", sound_filter, *raw, "pipe:1"]

    def step(waveform: Waveform) -> Waveform:
        given = waveform.astype("<f4").tobytes()
        done = subprocess.run(command, input=given, capture_output=True, cwd=folder)
        if done.returncode:
            raise PeerError(f"ffmpeg failed: {done.stderr.decode(errors='replace').strip()}")
        return np.frombuffer(done.stdout, "<f4").astype(np.float32)

    return step


def open_arnndn(rate: int) -> Step:
    """Returns ffmpeg's RNNoise of 2018 with the weights that the environment names."""
    weights = os.environ.get(ARNNDN_MODEL, "")
    if not Path(weights).is_file():
        raise PeerError(
            f"arnndn needs a file with weights (.rnnn): set {ARNNDN_MODEL} or give --arnndn-model"
        )

    def step(waveform: Waveform) -> Waveform:
        # a plain name in a folder of its own, since filters have quoting rules of their own
        with tempfile.TemporaryDirectory() as folder:
            shutil.copyfile(weights, Path(folder) / "weights.rnnn")
            return open_ffmpeg(rate, "arnndn=m=weights.rnnn", Path(folder))(waveform)

    return step


def ffmpeg_peer(about: str, sound_filter: str, delay_s: float) -> Peer:
    """Returns a filter of ffmpeg that takes any rate."""

    def opened(rate: int) -> Step:
        return open_ffmpeg(rate, sound_filter)

    return Peer(about, opened, "ffmpeg", delay_s=delay_s, sound_filter=sound_filter)


PEERS: dict[str, Peer] = {
    "noisereduce": Peer(
        "noisereduce, non-stationary", lambda rate: open_noisereduce(rate, False), "noisereduce"
    ),
    "noisereduce-stationary": Peer(
        "noisereduce, stationary", lambda rate: open_noisereduce(rate, True), "noisereduce"
    ),
    "rnnoise": Peer("RNNoise (pyrnnoise)", open_rnnoise, "pyrnnoise", 48_000, True, 0.02),
    "webrtc": Peer(
        "WebRTC (webrtc-noise-gain), moderate",
        open_webrtc,
        "webrtc-noise-gain",
        16_000,
        True,
        0.006,
    ),
    "logmmse-pypi": Peer("logmmse (PyPI)", open_logmmse, "logmmse"),
    "speexdsp": Peer("speexdsp", open_speexdsp, "speexdsp", None, True, 0.01),
    "afftdn": ffmpeg_peer("ffmpeg afftdn", "afftdn", 0.025),
    "afftdn-25": ffmpeg_peer("ffmpeg afftdn, noise floor -25 dB", "afftdn=nf=-25", 0.025),
    "arnndn": Peer("ffmpeg arnndn", open_arnndn, "ffmpeg", 48_000, delay_s=0.01),
}


class PeerStream:
    """A framewise peer on a sound that arrives in blocks, resampled to its rate and back.

    Args:
        peer: one whose `framewise` is true.
        sample_rate: of the blocks, Hz.
        n_channels: of every block; each channel gets a state of its own.

    Raises:
        PeerError: it is not installed.
    """

    def __init__(self, peer: Peer, sample_rate: int, n_channels: int = 1) -> None:
        rate = peer.rate or sample_rate
        self._steps = [peer.open(rate) for _ in range(n_channels)]
        self._frame = rate // FRAMES_PER_S
        self._delay = self._to_skip = int(rate * peer.delay_s)
        self._waiting: Waveform = np.zeros((n_channels, 0), np.float32)  # less than a frame
        self._owed = 0  # samples that went in and did not come out
        self._there = self._back = None
        if rate != sample_rate:
            self._there = soxr.ResampleStream(sample_rate, rate, n_channels)
            self._back = soxr.ResampleStream(rate, sample_rate, n_channels)

    def feed(self, block: Waveform) -> Waveform:
        """Returns what is ready (C, T') after a block (C, T)."""
        self._owed += block.shape[1]
        ready = resampled(self._back, self._work(resampled(self._there, block)))
        self._owed -= ready.shape[1]
        return ready

    def flush(self) -> Waveform:
        """Returns the rest: all output is as long as all input."""
        nothing = np.zeros((len(self._steps), 0), np.float32)
        last = resampled(self._there, nothing, last=True)
        filling = np.zeros((len(self._steps), self._delay + self._frame), np.float32)
        rest = self._work(np.concatenate([last, filling], axis=1))
        return fitted(resampled(self._back, rest, last=True), self._owed)

    def _work(self, block: Waveform) -> Waveform:
        """Returns the frames (C, T') that a block at the peer's rate fills, delay taken out."""
        block = np.concatenate([self._waiting, block], axis=1)
        stop = block.shape[1] - block.shape[1] % self._frame
        self._waiting = block[:, stop:]
        done = np.empty((len(self._steps), stop), np.float32)
        for start in range(0, stop, self._frame):
            frame = slice(start, start + self._frame)
            for channel, step in enumerate(self._steps):
                done[channel, frame] = step(block[channel, frame])
        skipped = min(self._to_skip, stop)
        self._to_skip -= skipped
        return done[:, skipped:]


def resampled(stream: soxr.ResampleStream | None, block: Waveform, last: bool = False) -> Waveform:
    """Returns what a resampler gives after a block (C, T); None leaves the rate as it is."""
    if stream is None:
        return block
    answer = stream.resample_chunk(np.ascontiguousarray(block.T), last=last)
    return np.asarray(answer, np.float32).reshape(-1, block.shape[0]).T


def denoise(peer: Peer, waveform: Waveform, sample_rate: int) -> Waveform:
    """Returns the waveform (C, T) denoised by a peer: same shape, delay taken out.

    Raises:
        PeerError: it is not installed, or ffmpeg failed.
    """
    if peer.framewise:
        stream = PeerStream(peer, sample_rate, len(waveform))
        return np.concatenate([stream.feed(waveform), stream.flush()], axis=1)
    return np.stack([denoise_channel(peer, channel, sample_rate) for channel in waveform])


def denoise_channel(peer: Peer, channel: Waveform, sample_rate: int) -> Waveform:
    """Returns one channel (T,) from a peer that takes it whole."""
    rate = peer.rate or sample_rate
    given = soxr.resample(channel, sample_rate, rate)
    delay = int(rate * peer.delay_s)
    answer = peer.open(rate)(np.pad(given, (0, delay)))
    answer = fitted(np.asarray(answer[delay:], np.float32), len(given))
    return fitted(soxr.resample(answer, rate, sample_rate), len(channel))


def denoise_file(peer: Peer, source: Path, target: Path) -> None:
    """Writes the denoised file: 32-bit floats in WAV, else what soundfile takes by default."""
    waveform, sample_rate = soundfile.read(source, dtype="float32", always_2d=True)
    denoised = denoise(peer, waveform.T, sample_rate)
    target.parent.mkdir(parents=True, exist_ok=True)
    subtype = "FLOAT" if target.suffix.lower() == ".wav" else None
    soundfile.write(target, denoised.T, sample_rate, subtype=subtype)


def denoise_path(peer: Peer, source: Path, target: Path) -> None:
    """Writes a denoised file, or every sound of a folder under the same name."""
    if source.is_file():
        return denoise_file(peer, source, target)
    paths = (path for path in sorted(source.rglob("*")) if path.suffix[1:].lower() in SUFFIXES)
    for path in paths:
        denoise_file(peer, path, target / path.relative_to(source))


def version(source: str) -> str:
    """Returns the version of a distribution or of ffmpeg, the file's name for a library."""
    if source == "ffmpeg" and shutil.which("ffmpeg"):
        done = subprocess.run(["ffmpeg", "-version"], capture_output=True, text=True)
        return done.stdout.split()[2]
    try:
        return importlib.metadata.version(source)
    except importlib.metadata.PackageNotFoundError:
        return ctypes.util.find_library(source) or ""


def inventory() -> dict[str, dict[str, str]]:
    """Returns what each peer is: about, source, version, and what is missing (or "")."""
    found = {}
    for name, peer in PEERS.items():
        try:
            peer.open(peer.rate or 16_000)
            lacks = ""
        except PeerError as error:
            lacks = str(error)
        about = {"about": peer.about, "source": peer.source}
        found[name] = about | {"version": version(peer.source), "missing": lacks}
    return found


def main() -> None:
    """Denoises, or lists the peers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", nargs="?", choices=PEERS)
    parser.add_argument("source", nargs="?", type=Path)
    parser.add_argument("target", nargs="?", type=Path)
    parser.add_argument("--list", action="store_true", help="says which peers are here")
    parser.add_argument("--json", action="store_true", help="the list for a program")
    parser.add_argument("--arnndn-model", help=f"weights of arnndn (or set {ARNNDN_MODEL})")
    options = parser.parse_args()
    if options.arnndn_model:
        os.environ[ARNNDN_MODEL] = options.arnndn_model
    if options.list:
        found = inventory()
        lines = (f"{n:24}{p['missing'] or p['version']}" for n, p in found.items())
        print(json.dumps(found) if options.json else "\n".join(lines))
    elif options.target is None:
        parser.error("give NAME IN OUT, or --list")
    else:
        run(PEERS[options.name], options.source, options.target)


def run(peer: Peer, source: Path, target: Path) -> None:
    """Denoises; what goes wrong becomes one line and a failure.

    Raises:
        SystemExit: the peer is missing, or a file cannot be read or written.
    """
    try:
        denoise_path(peer, source, target)
    except (PeerError, OSError, soundfile.LibsndfileError) as error:
        raise SystemExit(str(error)) from None


if __name__ == "__main__":
    main()
