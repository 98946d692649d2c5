"""What each file format holds: suffixes, subtypes, rates and the settings of its encoder.

Names of formats and subtypes are those of libsndfile. Nothing is read or written here.
"""

from dataclasses import dataclass, field
from pathlib import Path

from quieten import containers, mp3
from quieten.errors import AudioError

TAG_NAMES = [
    "title",
    "artist",
    "album",
    "date",
    "comment",
    "tracknumber",
    "genre",
    "copyright",
    "software",
    "license",
]
INTEGER_BITS = {
    "PCM_S8": 8,
    "PCM_U8": 8,
    "PCM_16": 16,
    "PCM_24": 24,
    "PCM_32": 32,
    "ULAW": 16,  # companded from 16 bit
    "ALAW": 16,
    "ALAC_16": 16,
    "ALAC_20": 20,
    "ALAC_24": 24,
    "ALAC_32": 32,
}
WIDE_SUBTYPES = frozenset({"PCM_32", "DOUBLE", "ALAC_32"})  # float32 would lose bits
FLOAT_SUBTYPES = frozenset({"FLOAT", "DOUBLE"})
LOSSY_SUBTYPES = frozenset({"VORBIS", "OPUS", "MPEG_LAYER_III"})
_READ_ONLY = frozenset({"MPEG_LAYER_I", "MPEG_LAYER_II"})  # whatever libsndfile says
_FINE_ENDINGS = ("_20", "_24", "_32", "FLOAT", "DOUBLE")  # more than 16 bit
_SAMPLE_BYTES = {"PCM_S8": 1, "PCM_U8": 1, "PCM_24": 3, "PCM_32": 4, "FLOAT": 4, "DOUBLE": 8}
# suffix -> libsndfile's formats that go by it, the first one where nothing else is asked
_FORMATS: dict[str, tuple[str, ...]] = {
    ".wav": ("WAV", "WAVEX", "RF64"),
    ".wave": ("WAV", "WAVEX", "RF64"),
    ".rf64": ("RF64",),
    ".w64": ("W64",),
    ".flac": ("FLAC",),
    ".ogg": ("OGG",),
    ".oga": ("OGG",),
    ".opus": ("OGG",),
    ".mp3": ("MP3",),
    ".aiff": ("AIFF",),
    ".aif": ("AIFF",),
    ".aifc": ("AIFF",),
    ".caf": ("CAF",),
    ".au": ("AU",),
    ".snd": ("AU",),
}
_SUFFIX_OF = {formats[0]: suffix for suffix, formats in reversed(_FORMATS.items())}
SOUNDFILE_SUFFIXES = frozenset(_FORMATS)
_MPEG4 = {".m4a", ".m4b", ".mp4", ".m4v", ".mov", ".3gp"}
_MATROSKA = {".webm", ".mkv", ".mka"}
_OTHER_MEDIA = {".aac", ".ac3", ".eac3", ".wma", ".amr", ".avi", ".flv"}
MEDIA_SUFFIXES = frozenset(_MPEG4 | _MATROSKA | _OTHER_MEDIA)
AUDIO_SUFFIXES = SOUNDFILE_SUFFIXES | MEDIA_SUFFIXES
"""Suffixes that a folder scan picks up, in lower case."""


@dataclass(frozen=True)
class AudioInfo:
    """What a file says about itself; `frames` are samples per channel (0: not known).

    `bit_rate` is in bits per second, for lossy files only (else 0).
    """

    path: Path
    sample_rate: int
    channels: int
    frames: int
    format: str
    subtype: str
    tags: dict[str, str] = field(default_factory=dict)
    decoder: str = "soundfile"
    bit_rate: int = 0

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return self.frames / self.sample_rate

    @property
    def size_bytes(self) -> int:
        """Size of the bare samples in a file that does not compress them."""
        return self.frames * self.channels * _SAMPLE_BYTES.get(self.subtype, 2)


def truncated(path: Path) -> AudioError:
    """Returns the error for a file that ends early."""
    return AudioError(f"{path}: is truncated (it ends before its header says): copy it again")


def target_format(path: Path, like: AudioInfo) -> tuple[str, str]:
    """Returns (format, subtype) of a file at `path` that keeps what it can of `like`.

    Raises:
        AudioError: the suffix names no format that can be written.
    """
    suffix = path.suffix.lower()
    if suffix not in _FORMATS:
        known = ", ".join(sorted(_FORMATS))
        raise AudioError(f"{path}: cannot write {suffix or 'no suffix'}: use one of {known}")
    formats = _FORMATS[suffix]
    file_format = like.format if like.format in formats else formats[0]
    return file_format, _subtype(suffix, file_format, like.subtype)


def _subtype(suffix: str, file_format: str, wanted: str) -> str:
    """Returns `wanted` or the nearest subtype that the format holds."""
    import soundfile

    eight_bit = {"PCM_U8": "PCM_S8", "PCM_S8": "PCM_U8"}.get(wanted, wanted)
    fine = "PCM_24" if wanted.endswith(_FINE_ENDINGS) else "PCM_16"
    candidates = [wanted, eight_bit, fine, "MPEG_LAYER_III", "VORBIS"]
    if suffix == ".opus":
        candidates = ["OPUS"]
    writable = [name for name in candidates if name not in _READ_ONLY]
    if file_format != "MP3":  # WAV knows MP3 by name, but libsndfile does not write it there
        writable = [name for name in writable if name != "MPEG_LAYER_III"]
    return next(name for name in writable if soundfile.check_format(file_format, name))


def output_format(info: AudioInfo) -> tuple[str, str]:
    """Returns (suffix, note) for a result like `info`; the note is empty if nothing changes."""
    own = info.path.suffix.lower()
    if info.decoder != "soundfile" or info.format not in {
        f for fs in _FORMATS.values() for f in fs
    }:
        suffix = ".flac" if info.channels <= 8 else ".wav"  # FLAC holds at most 8 channels
        name = own[1:] if own in MEDIA_SUFFIXES else info.format.split(",")[0].lower()
        return suffix, f"{name} cannot be written yet: {suffix[1:].upper()} instead"
    suffix, note = own, ""
    if info.format not in _FORMATS.get(own, ()):
        suffix = ".opus" if info.subtype == "OPUS" else _SUFFIX_OF.get(info.format, ".wav")
        note = f"holds {info.format} sound: written as {suffix}"
    _, subtype = target_format(Path(f"x{suffix}"), info)
    if subtype != info.subtype:
        note = f"{info.subtype} cannot be written: {subtype} instead"
    return suffix, note


def encoder_settings(like: AudioInfo) -> dict[str, float | str]:
    """Returns soundfile's compression settings for the bitrate of `like`, {} where it has none."""
    if not like.bit_rate:
        return {}
    if like.subtype == "OPUS":  # libsndfile: 6 to 256 kbit/s per channel
        level = (256_000 - like.bit_rate / like.channels) / 250_000
        return {"compression_level": min(1.0, max(0.0, level))}
    if like.subtype == "MPEG_LAYER_III":
        return mp3.encoder_settings(like.sample_rate, like.bit_rate)
    if like.subtype == "VORBIS":
        return {"compression_level": _vorbis_level(like)}
    return {}


def _vorbis_level(like: AudioInfo) -> float:
    """Returns the level whose header names the bitrate of `like`: quality has no other scale."""
    low, high = 0.0, 1.0  # the bitrate falls with the level
    sample_rate = min(like.sample_rate, 48000)  # above, the header names none
    for _ in range(7):
        middle = (low + high) / 2
        if _vorbis_bit_rate(sample_rate, like.channels, middle) > like.bit_rate:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _vorbis_bit_rate(sample_rate: int, channels: int, level: float) -> int:
    import io

    import soundfile

    file = io.BytesIO()
    soundfile.SoundFile(
        file, "w", sample_rate, channels, "VORBIS", format="OGG", compression_level=level
    ).close()
    return containers.vorbis_nominal_bit_rate(file.getvalue())
