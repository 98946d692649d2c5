"""Files on disk as libsndfile sees them, with its gaps closed.

Forward reading, whole-or-cut, tags; and what the system says about a path.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from quieten import containers, mp3
from quieten.errors import AudioError
from quieten.formats import LOSSY_SUBTYPES, AudioInfo, truncated

_UNKNOWN_FRAMES = 2**62  # libsndfile on a FLAC that came through a pipe


def inspect(path: Path) -> AudioInfo:
    """Returns what libsndfile and our own look at the headers say about a file."""
    if not mp3.is_whole(path):  # before libsndfile, whose decoder would talk on stderr
        raise truncated(path)
    with open_forward(path) as handle:
        if handle.format == "RAW":  # guessed from suffixes such as .au, whatever is inside
            raise AudioError(
                f"{path}: is not an audio file (it has no header): check that it plays"
            )
        info = _describe(path, handle)
        log, unknown = handle.extra_info, handle.frames >= _UNKNOWN_FRAMES
    if not unknown:
        _check_whole(info, log)
    return info


@contextmanager
def open_forward(path: Path) -> Iterator[Any]:
    """Opens a file with soundfile for reading strictly forward.

    soundfile seeks after every read of a seekable file; in Opus and MP3 a seek restarts the
    decoder, which gives other samples (and messages of libmpg123 on stderr).
    """
    import soundfile

    with (
        mp3.open_with_length(path) or nullcontext(path) as file,
        soundfile.SoundFile(file) as handle,
    ):
        handle.seekable = lambda: False
        yield handle


def _describe(path: Path, handle: Any) -> AudioInfo:
    tags = {name: text for name, text in handle.copy_metadata().items() if text}
    if "software" in tags:  # libsndfile signs what it writes
        tags["software"] = tags["software"].split(" (libsndfile-")[0]
    if handle.format == "MP3":
        tags = mp3.read_tags(path)
    info = AudioInfo(
        path=path,
        sample_rate=handle.samplerate,
        channels=handle.channels,
        frames=handle.frames if handle.frames < _UNKNOWN_FRAMES else 0,
        format=handle.format,
        subtype=handle.subtype,
        tags=tags,
    )
    return replace(info, bit_rate=_bit_rate(info))


def _bit_rate(info: AudioInfo) -> int:
    """Returns what the header of a lossy file says, else the mean over it; 0 for lossless ones."""
    if info.subtype not in LOSSY_SUBTYPES or info.frames == 0:
        return 0
    said = 0
    if info.subtype == "VORBIS":
        with info.path.open("rb") as file:
            said = containers.vorbis_nominal_bit_rate(file.read(4096))
    elif info.subtype == "MPEG_LAYER_III":
        said = mp3.mean_bit_rate(info.path)
    size = info.path.stat().st_size - mp3.tag_size(info.path)
    return said or round(8 * size * info.sample_rate / info.frames)


def _check_whole(info: AudioInfo, log: str) -> None:
    """Raises AudioError for a file without samples, or with fewer than its header promises."""
    cut = False
    if info.format in ("WAV", "WAVEX", "RF64", "AIFF"):
        cut = containers.missing_bytes(info.path) > 0
    elif info.format == "OGG":
        cut = not containers.ogg_is_whole(info.path)
    elif info.format == "FLAC":
        cut = info.frames > 0 and not _last_sample_is_there(info.path)
    elif info.format != "MP3":
        cut = containers.log_says_cut(log)
    if cut:
        raise truncated(info.path)
    if info.frames == 0:
        raise AudioError(f"{info.path}: holds no samples: record or copy it again")


def _last_sample_is_there(path: Path) -> bool:
    import soundfile

    with suppress(soundfile.LibsndfileError), soundfile.SoundFile(path) as handle:
        handle.seek(handle.frames - 1)
        return len(handle.read(1)) == 1
    return False


def check_readable(path: Path) -> None:
    """Raises AudioError where there is no file with bytes in it."""
    try:
        size = path.stat().st_size
        if path.is_dir():
            raise AudioError(f"{path}: is a folder, not an audio file: name a file in it")
        if not path.is_file():
            raise AudioError(f"{path}: is not a regular file: save the sound to a file first")
        with path.open("rb"):
            pass
    except OSError as error:
        raise AudioError(
            f"{path}: {reason_of(error)}: check the name and its permissions"
        ) from None
    if size == 0:
        raise AudioError(f"{path}: is empty (0 bytes): record or copy it again")


def reason_of(error: OSError) -> str:
    """Returns the operating system's words, in lower case and without numbers or paths."""
    words = error.strerror or str(error)
    return words[:1].lower() + words[1:]


def check_writable(path: Path) -> None:
    """Raises AudioError where `path` could not be replaced by a file."""
    if path.is_dir():
        raise AudioError(f"{path}: cannot be written (it is a folder): name a file")
    if path.exists() and not path.is_file():
        raise AudioError(f"{path}: cannot be written (not a regular file): name another")
    if path.exists() and not os.access(path, os.W_OK):
        raise AudioError(f"{path}: cannot be written (permission denied): name another")
    if not path.resolve().parent.is_dir():
        raise AudioError(f"{path}: cannot be written (its folder does not exist): create it")
