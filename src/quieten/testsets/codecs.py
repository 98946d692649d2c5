"""What lossy codecs make of a sound: written to a file by a codec, and read back.

Files go through `quieten.audio`. The result is as long as the sound and in step with it.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quieten.audio import read_audio, write_audio
from quieten.degrade import Waveform, fit_length, resample
from quieten.errors import ConfigError
from quieten.formats import AudioInfo

_MP3_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
_LATEST = 4  # samples; codecs of several modes lag or lead by up to 50 us


@dataclass(frozen=True)
class Codec:
    """How a codec is written, and what it takes."""

    suffix: str
    subtype: str  # in libsndfile's words
    sample_rates: tuple[int, ...] = ()  # ascending; none: any rate
    kbps: tuple[int, int] | None = None  # lowest and highest bitrate where it can be chosen


CODECS: dict[str, Codec] = {
    "mp3": Codec(".mp3", "MPEG_LAYER_III", _MP3_RATES, (8, 320)),
    "opus": Codec(".opus", "OPUS", (8000, 12000, 16000, 48000), (6, 256)),
    "vorbis": Codec(".ogg", "VORBIS", (), (16, 500)),
    "gsm": Codec(".wav", "GSM610", (8000,)),
    "mulaw": Codec(".wav", "ULAW"),
    "alaw": Codec(".wav", "ALAW"),
}
"""Names that `round_trip` takes. GSM 06.10 works at 8 kHz; the two laws (G.711) at any rate."""


def parse_codec(text: str) -> tuple[Codec, int]:
    """Returns (codec, bits per second or 0 for its own choice) of NAME or NAME:KBPS.

    Raises:
        ConfigError: the name is unknown, or it cannot have that bitrate.
    """
    name, colon, rate = text.partition(":")
    if name not in CODECS:
        raise ConfigError(f"codec {text!r} is not known: take one of {', '.join(CODECS)}")
    codec = CODECS[name]
    if not colon:
        return codec, 0
    if codec.kbps is None:
        raise ConfigError(f"codec {text!r}: {name} has one bitrate: write {name}")
    low, high = codec.kbps
    if not rate.isdecimal() or not low <= int(rate) <= high:
        raise ConfigError(f"codec {text!r}: write {name}:KBPS with {low} to {high} kbit/s")
    return codec, 1000 * int(rate)


def round_trip(waveform: Waveform, sample_rate: int, codec: str) -> Waveform:
    """Returns the sound (T,) after coding and decoding, at the same rate and in step.

    A codec that does not know the rate works at its next higher one, or at its highest.

    Args:
        waveform: float32 (T,) in [-1, 1].
        codec: a name of `CODECS`, with `:KBPS` behind it where a bitrate is wanted. The codec
            takes the nearest one that it has at this rate; that is mono.

    Raises:
        ConfigError: as `parse_codec` does.
    """
    kind, bit_rate = parse_codec(codec)
    if waveform.size == 0:
        return waveform
    rate = _coded_rate(kind, sample_rate)
    sound = resample(waveform, sample_rate, rate)
    decoded = _align(fit_length(_through_file(sound, rate, kind, bit_rate), sound.size), sound)
    return fit_length(resample(decoded, rate, sample_rate), waveform.size)


def _coded_rate(codec: Codec, sample_rate: int) -> int:
    enough = [rate for rate in codec.sample_rates if rate >= sample_rate]
    return min(enough, default=max(codec.sample_rates, default=sample_rate))


def _through_file(waveform: Waveform, sample_rate: int, codec: Codec, bit_rate: int) -> Waveform:
    with tempfile.TemporaryDirectory(prefix="quieten-") as folder:
        path = Path(folder, f"sound{codec.suffix}")
        like = AudioInfo(path, sample_rate, 1, waveform.size, "", codec.subtype, bit_rate=bit_rate)
        write_audio(path, waveform, sample_rate, like=like)
        decoded, _ = read_audio(path)
    mono: NDArray[Any] = decoded[0]
    return mono.astype(np.float32)


def _align(decoded: Waveform, original: Waveform) -> Waveform:
    """The decoded sound moved by the few samples at which it fits the original best."""
    lags = sorted(range(-_LATEST, _LATEST + 1), key=abs)  # of equals, the smallest
    best = max(lags, key=lambda lag: float(np.dot(_advanced(decoded, lag), original)))
    return _advanced(decoded, best)


def _advanced(waveform: Waveform, lag: int) -> Waveform:
    """The sound `lag` samples earlier, later where negative; silence comes in at the end."""
    later: Waveform = np.pad(waveform, (max(-lag, 0), 0))
    return fit_length(later[max(lag, 0) :], waveform.size)
