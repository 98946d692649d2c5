"""Audio files in and out: what comes out has the rate, length, format and tags of what came in.

Waveforms are (C, T), float32 in [-1, 1]; float64 where the file's subtype holds more than
float32 does. Files are read and written in blocks, so their length costs no memory. Formats
that libsndfile does not know are read by `quieten.media`; WAV on pipes is `quieten.wav_pipe`.
"""

import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from quieten import containers, mp3
from quieten.errors import AudioError
from quieten.formats import (
    AUDIO_SUFFIXES,
    MEDIA_SUFFIXES,
    SOUNDFILE_SUFFIXES,
    TAG_NAMES,
    WIDE_SUBTYPES,
    AudioInfo,
    encoder_settings,
    output_format,
    target_format,
    truncated,
)
from quieten.pcm import Waveform, repair, to_stored, with_channels
from quieten.sndfile import (
    check_readable,
    check_writable,
    inspect,
    open_forward,
    reason_of,
)

if TYPE_CHECKING:
    import soundfile

__all__ = [
    "AUDIO_SUFFIXES",
    "AudioInfo",
    "AudioReader",
    "AudioWriter",
    "Waveform",
    "output_format",
    "probe",
    "read_audio",
    "readable_formats",
    "write_audio",
]

_BLOCK_LENGTH = 65536  # samples per channel that go to libsndfile at a time
_SYSTEM_ERROR, _MALFORMED = 2, 3  # error codes of libsndfile


def probe(path: str | Path) -> AudioInfo:
    """Returns what the file at `path` holds, without reading its samples.

    Raises:
        AudioError: it is missing, a folder, empty, without samples, truncated or not audio.
    """
    path = Path(path)
    check_readable(path)
    if path.suffix.lower() in MEDIA_SUFFIXES:
        return _probe_media(path)
    import soundfile

    try:
        return inspect(path)
    except soundfile.LibsndfileError as error:
        return _probe_other(path, error)


def _probe_media(path: Path) -> AudioInfo:
    from quieten import media

    return media.probe(path)


def _probe_other(path: Path, error: "soundfile.LibsndfileError") -> AudioInfo:
    """Tries the media decoders on a file that libsndfile does not know."""
    from quieten import media

    if error.code == _MALFORMED:
        raise AudioError(f"{path}: is truncated or damaged: copy it again") from None
    if media.decoders():
        with suppress(AudioError):
            info = media.probe(path)
            next(media.blocks(info, 1))  # a header alone is no sound
            return info
    raise AudioError(
        f"{path}: is not an audio file that can be read ({_words(error)}): check that it plays"
    ) from None


def _words(error: Exception) -> str:
    """Returns libsndfile's own words, without the file's name."""
    words = str(error).rsplit(": ", 1)[-1].rstrip(".")
    return words[:1].lower() + words[1:]


class AudioReader:
    """Reads a file in blocks of (C, T); a context manager.

    `non_finite` counts the NaN and infinite samples that were replaced by silence so far.
    """

    def __init__(self, path: str | Path) -> None:
        """Probes the file at `path`.

        Raises:
            AudioError: as `probe` does.
        """
        self.info = probe(path)
        self.non_finite = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        """Leaves nothing to close: `blocks` closes the file when it ends or is dropped."""

    def blocks(self, block_length: int) -> Iterator[Waveform]:
        """Yields the samples in order, (C, block_length) each, the last one shorter.

        Raises:
            AudioError: the file is damaged or ends before its header says.
        """
        source = self._file_blocks if self.info.decoder == "soundfile" else self._media_blocks
        for block in source(block_length):
            repaired, replaced = repair(block)
            self.non_finite += replaced
            yield repaired

    def _file_blocks(self, block_length: int) -> Iterator[Waveform]:
        import soundfile

        info, done = self.info, 0
        dtype = "float64" if info.subtype in WIDE_SUBTYPES else "float32"
        try:
            with open_forward(info.path) as handle:
                while not info.frames or done < info.frames:
                    length = min(block_length, info.frames - done) if info.frames else block_length
                    block = handle.read(length, dtype=dtype, always_2d=True)  # (T, C)
                    if len(block) == 0:
                        break
                    done += len(block)
                    yield np.ascontiguousarray(block.T)
        except soundfile.LibsndfileError as error:
            raise AudioError(
                f"{info.path}: is damaged after {done / info.sample_rate:.1f} s "
                f"({_words(error)}): copy it again"
            ) from None
        if done < max(1, info.frames):
            raise truncated(info.path)

    def _media_blocks(self, block_length: int) -> Iterator[Waveform]:
        from quieten import media

        return media.blocks(self.info, block_length)


class AudioWriter:
    """Writes a file in blocks; a context manager.

    The samples go to a temporary file in the same folder, which takes the final name when the
    context ends well and is removed when it ends with an exception, Ctrl-C included.
    `limited` counts the samples beyond full scale that were limited so far.
    """

    def __init__(self, path: str | Path, like: AudioInfo) -> None:
        """Prepares a file at `path` with the rate, channels, subtype and tags of `like`.

        The suffix of `path` names the format; its subtype is that of `like` where the format
        holds it.

        Raises:
            AudioError: the suffix names no format that can be written.
        """
        self.path = Path(path)
        self.limited = 0
        self.format, self.subtype = target_format(self.path, like)
        self._like = replace(
            like, subtype=self.subtype, bit_rate=like.bit_rate * (like.subtype == self.subtype)
        )
        self._frames = 0
        self._handle: Any = None
        folder = self.path.resolve().parent  # a link's own folder may lie on another disk
        self._temporary = folder / f".quieten-{secrets.token_hex(6)}.part"

    def __enter__(self) -> Self:
        check_writable(self.path)
        try:
            with _writing(self.path):
                os.close(os.open(self._temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
                self._open()
        except BaseException:
            self._discard()
            raise
        return self

    def _open(self) -> None:
        import soundfile

        like, container = self._like, self.format
        settings = encoder_settings(like)
        long = not 0 < like.size_bytes < containers.RIFF_LIMIT
        if container in ("WAV", "WAVEX") and long:
            container = "RF64"
        if container == "AIFF" and like.size_bytes >= containers.RIFF_LIMIT:
            raise AudioError(f"{self.path}: AIFF holds at most 4 GiB: write .wav or .flac")
        rate, channels = like.sample_rate, like.channels
        try:
            self._handle = soundfile.SoundFile(
                self._temporary, "w", rate, channels, self.subtype, None, container, **settings
            )
        except soundfile.LibsndfileError as error:
            if error.code == _SYSTEM_ERROR:
                raise
            raise AudioError(
                f"{self.path}: {self.subtype} does not hold {channels} channels at {rate} Hz: "
                "write .flac or .wav"
            ) from None
        self._handle.seekable = lambda: False  # see open_forward: one seek less for every write
        for name in TAG_NAMES if self.format != "MP3" else ():
            if name in like.tags:
                with suppress(soundfile.LibsndfileError):  # a format without tags
                    setattr(self._handle, name, like.tags[name])

    def write(self, waveform: Waveform) -> Waveform:
        """Writes samples (C, T) or (T,) and returns them as they are stored.

        Raises:
            AudioError: the disk is full, or the number of channels differs.
        """
        samples = with_channels(waveform)  # (C, T)
        if samples.shape[0] != self._like.channels:
            raise AudioError(
                f"{self.path}: got {samples.shape[0]} channels, the file has "
                f"{self._like.channels}: pass (channels, samples)"
            )
        parts = [
            self._write_block(samples[:, start : start + _BLOCK_LENGTH])
            for start in range(0, samples.shape[1], _BLOCK_LENGTH)
        ]
        stored = np.concatenate(parts, axis=1) if parts else samples
        return stored.reshape(np.shape(waveform))

    def _write_block(self, samples: Waveform) -> Waveform:
        data, stored, limited = to_stored(samples, self.subtype)
        self.limited += limited
        with _writing(self.path):
            self._handle.write(data.T)
        self._frames += samples.shape[1]
        return stored

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self._commit()
        finally:
            self._discard()

    def _commit(self) -> None:
        with _writing(self.path):
            self._handle.close()
            if self._frames == 0:
                raise AudioError(f"{self.path}: there are no samples to write: check the input")
            self._finish_header()
            self._check_stored()
            self._temporary.replace(self.path.resolve())

    def _check_stored(self) -> None:
        """Raises OSError where the file lacks samples: encoders keep silent on a full disk."""
        try:
            whole = inspect(self._temporary).frames >= self._frames
        except AudioError:
            whole = False
        if not whole:
            raise OSError("not all samples arrived")

    def _finish_header(self) -> None:
        """Repairs and completes what libsndfile leaves undone in the file just closed."""
        if self.format in ("WAV", "WAVEX"):
            containers.shrink_rf64(self._temporary)
        elif self.format == "AIFF" and self.subtype == "PCM_S8":
            containers.set_aiff_frames(self._temporary, self._frames, self._like.channels)
        elif self.format == "MP3" and self._like.tags:
            spare = self._temporary.with_suffix(".tag")
            try:
                mp3.put_tags_before(self._temporary, spare, self._like.tags)
            finally:
                spare.unlink(missing_ok=True)

    def _discard(self) -> None:
        if self._handle is not None:
            with suppress(Exception):  # the disk may be full
                self._handle.close()
        self._temporary.unlink(missing_ok=True)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Turns what goes wrong while writing into an AudioError."""
    import soundfile

    try:
        yield
    except OSError as error:
        reason = reason_of(error)
    except (soundfile.LibsndfileError, AssertionError):  # soundfile asserts lengths
        reason = "the system took no more"
    else:
        return
    raise AudioError(f"{path}: cannot be written ({reason}): check the space and permissions")


def read_audio(path: str | Path) -> tuple[Waveform, int]:
    """Returns (waveform (C, T), sample rate in Hz) of a whole file.

    Raises:
        AudioError: as `probe` does, or the file is damaged.
    """
    with AudioReader(path) as reader:
        blocks = list(reader.blocks(_BLOCK_LENGTH))
    waveform: NDArray[Any] = np.concatenate(blocks, axis=1)
    return waveform, reader.info.sample_rate


def write_audio(
    path: str | Path,
    waveform: Waveform,
    sample_rate: int,
    *,
    like: AudioInfo | None = None,
    subtype: str | None = None,
    tags: Mapping[str, str] | None = None,
) -> None:
    """Writes (C, T) or (T,) to `path`; its suffix names the format.

    Subtype and tags are those given, else those of `like`, else 16 bit and none.

    Raises:
        AudioError: as `AudioWriter` does.
    """
    path = Path(path)
    channels, frames = with_channels(waveform).shape
    like = like or AudioInfo(path, sample_rate, channels, frames, "", "PCM_16")
    like = replace(
        like,
        sample_rate=sample_rate,
        channels=channels,
        frames=frames,
        subtype=subtype or like.subtype,
        tags=dict(tags) if tags is not None else like.tags,
    )
    with AudioWriter(path, like) as writer:
        writer.write(waveform)


def readable_formats() -> dict[str, str]:
    """Returns suffix -> what reads it here: "soundfile", "pyav", "ffmpeg" or what is missing."""
    from quieten import media

    other = next(iter(media.decoders()), "needs quieten[media] or ffmpeg")
    return {s: "soundfile" if s in SOUNDFILE_SUFFIXES else other for s in sorted(AUDIO_SUFFIXES)}
