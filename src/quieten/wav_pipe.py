"""WAV on pipes, in and out: never seeks, so a length may stay unknown until the end.

Programs that write to a pipe leave 0, 0xFFFFFFFF or a made-up size in the header; then the
stream ends where the pipe does. Other formats cannot be piped.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import numpy as np
from numpy.typing import NDArray

from quieten import containers
from quieten.errors import AudioError
from quieten.formats import INTEGER_BITS, AudioInfo, target_format
from quieten.pcm import Waveform, repair, to_stored, with_channels

_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_SUBTYPES = {
    (_PCM, 8): "PCM_U8",
    (_PCM, 16): "PCM_16",
    (_PCM, 24): "PCM_24",
    (_PCM, 32): "PCM_32",
    (_FLOAT, 32): "FLOAT",
    (_FLOAT, 64): "DOUBLE",
}
_CODES = {subtype: code for code, subtype in _SUBTYPES.items()}
_GUID_TAIL = bytes.fromhex("000000001000800000aa00389b71")  # what follows the code in a GUID
_INFO_TAGS = {
    b"INAM": "title",
    b"IART": "artist",
    b"IPRD": "album",
    b"ICRD": "date",
    b"ICMT": "comment",
    b"ITRK": "tracknumber",
    b"IGNR": "genre",
    b"ICOP": "copyright",
    b"ISFT": "software",
}
_NAME = "stdin"
_UNKNOWN = 0xFFFFFFFF
_READ_BYTES = 1 << 20


class WavStream:
    """A WAV header that was read, and the samples behind it.

    `info.frames` is 0 where the header does not know; `non_finite` counts the NaN and infinite
    samples that were replaced by silence so far.
    """

    def __init__(self, binary: BinaryIO, info: AudioInfo) -> None:
        self.info = info
        self.non_finite = 0
        self._binary = binary

    def blocks(self, block_length: int) -> Iterator[Waveform]:
        """Yields the samples in order, (C, block_length) each, the last one shorter.

        Raises:
            AudioError: the pipe closes before the promised length, or without any samples.
        """
        info, done = self.info, 0
        frame_bytes = info.channels * _CODES[info.subtype][1] // 8
        while not info.frames or done < info.frames:
            wanted = min(block_length, info.frames - done) if info.frames else block_length
            data = _read_up_to(self._binary, wanted * frame_bytes)
            frames = len(data) // frame_bytes
            if frames:
                samples = _decode(data[: frames * frame_bytes], info.subtype)
                block, replaced = repair(samples.reshape(frames, info.channels).T)
                self.non_finite += replaced
                done += frames
                yield block
            if frames < wanted:
                break
        if done == 0:
            raise AudioError(f"{_NAME}: holds no samples: check the program that writes to it")
        if done < info.frames:
            raise AudioError(f"{_NAME}: is truncated (it ends before its header says): try again")
        while self._binary.read(_READ_BYTES):  # chunks behind the samples, so that no writer stops
            pass


def read_wav_stream(binary: BinaryIO) -> WavStream:
    """Reads a WAV header from a pipe and returns it with the samples behind it.

    Raises:
        AudioError: it is not WAV, or of a kind that is not read here.
    """
    head = _read_up_to(binary, 12)
    if not head:
        raise AudioError(f"{_NAME}: is empty (0 bytes): pipe a WAV into it")
    if head[:4] not in (b"RIFF", b"RF64") or head[8:] != b"WAVE":
        raise AudioError(f"{_NAME}: is not WAV: pipe WAV into it, e.g. with ffmpeg -f wav -")
    form: tuple[str, str, int, int] | None = None
    tags: dict[str, str] = {}
    long_size = 0
    while len(header := _read_up_to(binary, 8)) == 8:
        name, (size,) = header[:4], struct.unpack("<I", header[4:])
        if name == b"data":
            if form is None:
                break
            return WavStream(binary, _info(form, tags, size, long_size))
        content = _read_up_to(binary, size + size % 2)
        if name == b"fmt ":
            form = _read_format(content)
        elif name == b"ds64" and len(content) >= 16:
            (long_size,) = struct.unpack("<Q", content[8:16])
        elif name == b"LIST" and content[:4] == b"INFO":
            tags = _read_info(content[4:])
    raise AudioError(f"{_NAME}: is WAV without samples: check the program that writes to it")


def _info(
    form: tuple[str, str, int, int], tags: dict[str, str], size: int, long_size: int
) -> AudioInfo:
    file_format, subtype, channels, sample_rate = form
    if size == _UNKNOWN and long_size:
        size = long_size
    elif containers.is_placeholder(size):
        size = 0
    frames = size // (channels * _CODES[subtype][1] // 8)
    return AudioInfo(Path("-"), sample_rate, channels, frames, file_format, subtype, tags)


def _read_format(content: bytes) -> tuple[str, str, int, int]:
    """Returns (format, subtype, channels, sample rate in Hz) of a fmt chunk."""
    if len(content) < 16:
        raise AudioError(f"{_NAME}: is WAV with a broken header: check what writes to it")
    code, channels, sample_rate, _, _, bits = struct.unpack("<HHIIHH", content[:16])
    file_format = "WAV"
    if code == _EXTENSIBLE and len(content) >= 26:
        file_format, code = "WAVEX", struct.unpack("<H", content[24:26])[0]
    subtype = _SUBTYPES.get((code, bits))
    if subtype is None or not channels or not sample_rate:
        raise AudioError(
            f"{_NAME}: is WAV of a kind that is not read here (code {code}, {bits} bit): "
            "pipe PCM or float"
        )
    return file_format, subtype, channels, sample_rate


def _read_info(content: bytes) -> dict[str, str]:
    tags = {}
    position = 0
    while position + 8 <= len(content):
        name, size = content[position : position + 4], content[position + 4 : position + 8]
        position += 8
        end = position + int.from_bytes(size, "little")
        text = content[position:end].split(b"\0")[0].decode("utf-8", "replace")
        if name in _INFO_TAGS and text:
            tags[_INFO_TAGS[name]] = text
        position = end + end % 2
    return tags


def _read_up_to(binary: BinaryIO, size: int) -> bytes:
    """Reads `size` bytes, fewer only at the end: a pipe gives what it has."""
    parts, missing = [], size
    while missing and (part := binary.read(min(missing, _READ_BYTES))):
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)


def _decode(data: bytes, subtype: str) -> Waveform:
    """Returns the samples, still interleaved."""
    if subtype == "FLOAT":
        return np.frombuffer(data, "<f4").astype(np.float32)
    if subtype == "DOUBLE":
        return np.frombuffer(data, "<f8").astype(np.float64)
    if subtype == "PCM_32":
        return np.frombuffer(data, "<i4") / 2.0**31
    if subtype == "PCM_U8":
        return (np.frombuffer(data, np.uint8).astype(np.float32) - 128) / np.float32(128)
    if subtype == "PCM_16":
        return np.frombuffer(data, "<i2").astype(np.float32) / np.float32(2**15)
    padded = np.zeros((len(data) // 3, 4), np.uint8)  # 24 bit, at the top of 32
    padded[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
    return padded.view("<i4")[:, 0].astype(np.float32) / np.float32(2**31)


class WavStreamWriter:
    """Writes WAV to a pipe; a context manager.

    `limited` counts the samples beyond full scale that were limited so far. What the pipe
    refuses comes out as OSError.
    """

    def __init__(self, binary: BinaryIO, like: AudioInfo) -> None:
        """Prepares a stream with the rate, channels and subtype of `like`, as far as WAV has it."""
        self.limited = 0
        file_format, self.subtype = target_format(Path("-.wav"), like)
        if self.subtype not in _CODES:
            self.subtype = "PCM_16"
        self._binary = binary
        self._like = like
        self._extensible = file_format == "WAVEX" or like.channels > 2
        self._size = 0
        size = like.frames * like.channels * _CODES[self.subtype][1] // 8
        self._length_is_known = 0 < size < containers.RIFF_LIMIT

    def __enter__(self) -> Self:
        self._binary.write(self._header())
        return self

    def _header(self) -> bytes:
        like, (code, bits) = self._like, _CODES[self.subtype]
        frame_bytes = like.channels * bits // 8
        rates = (like.channels, like.sample_rate, like.sample_rate * frame_bytes, frame_bytes)
        form = struct.pack("<HHIIHH", _EXTENSIBLE if self._extensible else code, *rates, bits)
        if self._extensible:
            form += struct.pack("<HHIH", 22, bits, 0, code) + _GUID_TAIL
        size = data_size = _UNKNOWN
        if self._length_is_known:
            data_size = like.frames * frame_bytes
            size = 4 + 8 + len(form) + 8 + data_size + data_size % 2
        head = struct.pack("<4sI4s", b"RIFF", size, b"WAVE")
        head += struct.pack("<4sI", b"fmt ", len(form)) + form
        return head + struct.pack("<4sI", b"data", data_size)

    def write(self, waveform: Waveform) -> Waveform:
        """Writes samples (C, T) or (T,) and returns them as they are stored."""
        samples = with_channels(waveform)
        data, stored, limited = to_stored(samples, self.subtype)
        self.limited += limited
        encoded = _encode(data, self.subtype)
        self._binary.write(encoded)
        self._size += len(encoded)
        return stored.reshape(np.shape(waveform))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            return
        if self._length_is_known:  # else the padding would be taken for a sample
            self._binary.write(bytes(self._size % 2))
        self._binary.flush()


def _encode(data: NDArray[Any], subtype: str) -> bytes:
    """Returns the interleaved bytes of (C, T): floats, or integers at the top of 16 or 32 bit."""
    frames = np.ascontiguousarray(data.T)
    if subtype not in INTEGER_BITS:
        return frames.astype("<f4" if subtype == "FLOAT" else "<f8").tobytes()
    if subtype == "PCM_U8":
        return ((frames >> 8) + 128).astype(np.uint8).tobytes()
    if subtype == "PCM_16":
        return frames.astype("<i2").tobytes()
    if subtype == "PCM_32":
        return frames.astype("<i4").tobytes()
    return frames.astype("<i4").view(np.uint8).reshape(-1, 4)[:, 1:].tobytes()
