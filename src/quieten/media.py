"""Sound from files that libsndfile does not read: m4a, mp4, webm, mkv and the like.

PyAV decodes them where it is installed, else the ffmpeg program. Nothing is written here, and
pictures are left alone. Samples are float32 (C, T): every lossless codec up to 24 bit fits.
"""

import importlib.util
import json
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from quieten.errors import AudioError, MissingExtra
from quieten.formats import TAG_NAMES, AudioInfo, truncated

Block = NDArray[np.float32]  # (C, T)

_SHORT = 8192  # samples that a stream may lack of its stated duration: codec frames, edit lists
_READ_LENGTH = 1 << 16  # samples per channel read from the pipe at a time
_TAG_ALIASES = {"track": "tracknumber", "encoder": "software", "year": "date"}
_TIMEOUT_S = 60  # for reading a header


def decoders() -> tuple[str, ...]:
    """Returns which of "pyav" and "ffmpeg" are here, the preferred one first."""
    found = []
    if importlib.util.find_spec("av"):
        found.append("pyav")
    if shutil.which("ffmpeg") and shutil.which("ffprobe"):
        found.append("ffmpeg")
    return tuple(found)


def probe(path: Path) -> AudioInfo:
    """Returns what the first sound stream of the file holds; `frames` is 0 where it is not said.

    Raises:
        MissingExtra: neither PyAV nor ffmpeg is here.
        AudioError: the file has no sound, or cannot be read.
    """
    found = decoders()
    if not found:
        kind = path.suffix or "this kind of file"
        raise MissingExtra("media", f"{path}: without ffmpeg on the PATH, reading {kind}")
    try:
        return _PROBES[found[0]](path)
    except AudioError:
        if len(found) == 1:
            raise
        return _PROBES[found[1]](path)


def blocks(info: AudioInfo, block_length: int) -> Iterator[Block]:
    """Yields the samples of a file that `probe` described, (C, block_length) each.

    The padding that codecs append is cut off where the file states its duration.

    Raises:
        AudioError: the file is damaged or much shorter than it states.
    """
    done = 0
    for block in _reblock(_trim(_DECODERS[info.decoder](info), info.frames), block_length):
        done += block.shape[1]
        yield block
    if done == 0:
        raise AudioError(f"{info.path}: holds no samples: record or copy it again")
    if done < info.frames - _SHORT:
        raise truncated(info.path)


def _trim(chunks: Iterator[Block], frames: int) -> Iterator[Block]:
    """Passes on the first `frames` samples, all where `frames` is 0."""
    done = 0
    for chunk in chunks:
        yield chunk[:, : frames - done] if frames else chunk
        done += chunk.shape[1]
        if frames and done >= frames:
            return


def _reblock(chunks: Iterator[Block], block_length: int) -> Iterator[Block]:
    """Cut chunks of any length into blocks of `block_length`, the last one shorter."""
    waiting: list[Block] = []
    length = 0
    for chunk in chunks:
        waiting.append(chunk)
        length += chunk.shape[1]
        if length < block_length:
            continue
        joined = np.concatenate(waiting, axis=1)
        whole = length - length % block_length
        for start in range(0, whole, block_length):
            yield joined[:, start : start + block_length]
        waiting, length = [joined[:, whole:]], length - whole
    if length:
        yield np.concatenate(waiting, axis=1)


def _url(path: Path) -> str:
    """Returns a name that libav never takes for a protocol or an option."""
    return f"file:{path}"


def _tags(*sources: dict[str, str]) -> dict[str, str]:
    tags: dict[str, str] = {}
    for source in sources:
        for key, text in source.items():
            name = _TAG_ALIASES.get(key.lower(), key.lower())
            if name in TAG_NAMES and text:
                tags.setdefault(name, text)
    return tags


def _subtype(codec: str, sample_format: str) -> str:
    """Returns the codec's name, with _24 where a lossless one holds more than 16 bit."""
    lossless = codec in ("alac", "flac", "tta", "wavpack") or codec.startswith("pcm_")
    fine = sample_format.rstrip("p") in ("s32", "flt", "dbl")
    return codec.upper() + ("_24" if lossless and fine else "")


def _frames(samples: Fraction, container: str) -> int:
    """Returns the stated length: only the mp4 family states it, others have it guessed."""
    return round(samples) if "mp4" in container else 0


def _failure(path: Path, reason: str) -> AudioError:
    return AudioError(f"{path}: cannot be decoded ({reason}): check that it plays")


def _probe_pyav(path: Path) -> AudioInfo:
    import av

    try:
        with av.open(_url(path)) as container:
            if not container.streams.audio:
                raise AudioError(f"{path}: has no sound in it: name a file with sound")
            stream = container.streams.audio[0]
            context = stream.codec_context
            seconds = (stream.duration or 0) * (stream.time_base or Fraction(0))
            if not context.sample_rate:
                raise _failure(path, "no sample rate")
            return AudioInfo(
                path=path,
                sample_rate=context.sample_rate,
                channels=context.channels,
                frames=_frames(seconds * context.sample_rate, container.format.name),
                format=container.format.name.upper(),
                subtype=_subtype(context.name, context.format.name if context.format else ""),
                tags=_tags(container.metadata, stream.metadata),
                decoder="pyav",
            )
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise _failure(path, getattr(error, "strerror", None) or str(error)) from None


def _decode_pyav(info: AudioInfo) -> Iterator[Block]:
    import av

    try:
        with av.open(_url(info.path)) as container:
            stream = container.streams.audio[0]
            to_float = av.AudioResampler(format="fltp")  # rate and layout stay
            for frame in container.decode(stream):
                for converted in to_float.resample(frame):
                    yield converted.to_ndarray().astype(np.float32, copy=False)
            for converted in to_float.resample(None):
                yield converted.to_ndarray().astype(np.float32, copy=False)
    except (av.error.FFmpegError, ValueError) as error:
        raise _failure(info.path, getattr(error, "strerror", None) or str(error)) from None


def _probe_ffmpeg(path: Path) -> AudioInfo:
    entries = "stream=codec_name,sample_fmt,sample_rate,channels,duration_ts,time_base"
    command = ["ffprobe", "-v", "error", "-select_streams", "a:0", "-of", "json"]
    command += ["-show_entries", f"{entries}:stream_tags:format=format_name:format_tags"]
    try:
        result = subprocess.run(
            [*command, _url(path)], capture_output=True, timeout=_TIMEOUT_S, check=False
        )
        found = json.loads(result.stdout or b"{}")
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        raise _failure(path, str(error)) from None
    if result.returncode:
        raise _failure(path, _last_words(result.stderr, path))
    if not found.get("streams"):
        raise AudioError(f"{path}: has no sound in it: name a file with sound")
    stream, container = found["streams"][0], found.get("format", {})
    sample_rate = int(stream.get("sample_rate", 0))
    if not sample_rate:
        raise _failure(path, "no sample rate")
    seconds = int(stream.get("duration_ts", 0)) * Fraction(stream.get("time_base", "0/1"))
    name = str(container.get("format_name", ""))
    return AudioInfo(
        path=path,
        sample_rate=sample_rate,
        channels=int(stream["channels"]),
        frames=_frames(seconds * sample_rate, name),
        format=name.upper(),
        subtype=_subtype(stream.get("codec_name", ""), stream.get("sample_fmt", "")),
        tags=_tags(container.get("tags", {}), stream.get("tags", {})),
        decoder="ffmpeg",
    )


def _last_words(stderr: bytes, path: Path) -> str:
    lines = stderr.decode("utf-8", "replace").strip().splitlines() or ["no reason given"]
    return lines[-1].replace(f"{_url(path)}: ", "")


def _decode_ffmpeg(info: AudioInfo) -> Iterator[Block]:
    command = ["ffmpeg", "-v", "error", "-nostdin", "-i", _url(info.path)]
    command += ["-map", "0:a:0", "-f", "f32le", "-c:a", "pcm_f32le", "-"]
    with (
        tempfile.TemporaryFile() as talk,  # a pipe could fill up and stop the program
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=talk) as process,
    ):
        assert process.stdout is not None
        try:
            yield from _read_floats(process.stdout, info.channels)
        except GeneratorExit:
            process.kill()  # the reader needs no more
            raise
        if process.wait():
            talk.seek(0)
            raise _failure(info.path, _last_words(talk.read(), info.path))


def _read_floats(pipe: IO[bytes], channels: int) -> Iterator[Block]:
    frame_bytes = 4 * channels
    while data := pipe.read(_READ_LENGTH * frame_bytes):
        whole = len(data) - len(data) % frame_bytes
        samples = np.frombuffer(data[:whole], "<f4").astype(np.float32)
        yield np.ascontiguousarray(samples.reshape(-1, channels).T)


_PROBES: dict[str, Callable[[Path], AudioInfo]] = {
    "pyav": _probe_pyav,
    "ffmpeg": _probe_ffmpeg,
}
_DECODERS: dict[str, Callable[[AudioInfo], Iterator[Block]]] = {
    "pyav": _decode_pyav,
    "ffmpeg": _decode_ffmpeg,
}
