"""File headers: what libsndfile does not tell about WAV, AIFF and Ogg files, or gets wrong.

Here are whole-or-cut checks, the few header repairs and the bitrate of lossy files. No samples
are decoded here; MP3 has its own module.
"""

import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

RIFF_LIMIT = 2**32 - 2**16  # bytes of samples that fit a WAV or AIFF file, with room for the rest
_PLACEHOLDERS = {0, 0xFFFFFFFF, 0x7FFFFFFF}  # data sizes that streaming programs leave behind
_PLACEHOLDER_FLOOR = 0x7FFFF000  # sox: "about 2 GiB", rounded down to whole frames
_BIG_ENDIAN = {b"FORM", b"RIFX"}


def iterate_chunks(file: BinaryIO) -> Iterator[tuple[bytes, int, int]]:
    """Yields (name, position of its content, promised size) for each chunk of a RIFF or FORM file.

    Stops behind the samples' chunk, which may be cut or have an unknown size.
    """
    file.seek(0)
    head = file.read(12)
    order = ">" if head[:4] in _BIG_ENDIAN else "<"
    while len(header := file.read(8)) == 8:
        name, (size,) = header[:4], struct.unpack(order + "I", header[4:])
        position = file.tell()
        yield name, position, size
        if name in (b"data", b"SSND"):
            return
        file.seek(position + size + size % 2)


def is_placeholder(size: int) -> bool:
    """Returns whether a data size comes from a program that could not know the length."""
    return size in _PLACEHOLDERS or _PLACEHOLDER_FLOOR <= size < 2**31 or size >= 2**32 - 2**12


def missing_bytes(path: Path) -> int:
    """Returns how many bytes of samples a WAV, RF64 or AIFF file promises beyond its end."""
    long_size = 0
    file_size = path.stat().st_size
    with path.open("rb") as file:
        for name, position, size in iterate_chunks(file):
            if name == b"ds64":
                file.seek(position + 8)
                long_size = struct.unpack("<Q", file.read(8))[0]
            elif name in (b"data", b"SSND"):
                if size == 0xFFFFFFFF and long_size:
                    size = long_size
                elif is_placeholder(size):
                    return 0
                return max(0, position + size - file_size)
    return 0


def log_says_cut(log: str) -> bool:
    """Returns whether libsndfile's log shows a size (AU, CAF, W64) larger than the file."""
    sizes = re.findall(r"(\d+) \(should be (\d+)\)", log)
    return any(
        int(promised) > int(there) + 8 and int(promised) not in _PLACEHOLDERS
        for promised, there in sizes
    )


def ogg_is_whole(path: Path) -> bool:
    """Returns whether an Ogg file ends with a complete page that is marked as the last."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 2 * 65307))  # 65307 bytes: the largest page
        tail = file.read()
    start = tail.rfind(b"OggS")
    if start < 0 or len(tail) < start + 27:
        return False
    end_of_stream = tail[start + 5] & 4
    lacing = tail[start + 27 : start + 27 + tail[start + 26]]
    complete = len(tail) >= start + 27 + tail[start + 26] + sum(lacing)
    return bool(end_of_stream) and complete


def vorbis_nominal_bit_rate(head: bytes) -> int:
    """Returns the bits per second that a Vorbis stream's first page names, 0 where it does not."""
    start = head.find(b"\x01vorbis")
    if start < 0 or len(head) < start + 24:
        return 0
    return max(0, int.from_bytes(head[start + 20 : start + 24], "little", signed=True))


def shrink_rf64(path: Path) -> None:
    """Turns an RF64 file into plain WAV in place, where its samples fit into 4 GiB."""
    size = path.stat().st_size
    with path.open("r+b") as file:
        if size > RIFF_LIMIT or file.read(4) != b"RF64":
            return
        chunks = list(iterate_chunks(file))
        long_size = 0
        for name, position, _ in chunks:
            if name == b"ds64":
                file.seek(position + 8)
                long_size = struct.unpack("<Q", file.read(8))[0]
                file.seek(position - 8)
                file.write(b"JUNK")
            elif name == b"data":
                file.seek(position - 4)
                file.write(struct.pack("<I", long_size))
        file.seek(0)
        file.write(b"RIFF" + struct.pack("<I", size - 8))


def set_aiff_frames(path: Path, frames: int, channels: int) -> None:
    """Writes the true length of an 8-bit AIFF: libsndfile counts a padding byte as a sample."""
    with path.open("r+b") as file:
        for name, position, _ in list(iterate_chunks(file)):
            if name == b"COMM":
                file.seek(position + 2)
                file.write(struct.pack(">I", frames))
            elif name == b"SSND":
                file.seek(position - 4)
                file.write(struct.pack(">I", frames * channels + 8))
