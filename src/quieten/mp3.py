"""MP3 files: ID3 tags and the true number of frames, which libsndfile leaves half done.

libsndfile labels UTF-8 tags as Latin-1, and guesses the length of a file without Xing header,
so that it may stop half way. No samples are decoded here.
"""

import io
import mmap
import re
import shutil
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

# our names -> frames of ID3v2.3/2.4 (the first is what is written) and of ID3v2.2
_FRAMES = {
    "title": ("TIT2", "TT2"),
    "artist": ("TPE1", "TP1"),
    "album": ("TALB", "TAL"),
    "date": ("TDRC", "TYER", "TYE"),
    "comment": ("COMM", "COM", "TXXX:comment"),
    "tracknumber": ("TRCK", "TRK"),
    "genre": ("TCON", "TCO"),
    "copyright": ("TCOP", "TCR"),
    "software": ("TSSE", "TSS"),
    "license": ("TXXX:license", "WCOP"),
}
_NAME_OF = {frame: name for name, frames in _FRAMES.items() for frame in frames}
_ENCODINGS = ("latin-1", "utf-16", "utf-16-be", "utf-8")
# kbit/s of layer III by "is MPEG-1", in the order of the header's index
_KBPS = {
    True: (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    False: (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_HEADER_ROOM = 192  # bytes of a frame that LAME's header fits into
_SAMPLE_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}


@dataclass(frozen=True)
class FrameHeader:
    """The four bytes before every MP3 frame, read."""

    mpeg1: bool
    sample_rate: int
    channels: int
    kbps: int
    size: int  # bytes, the header included
    samples: int  # per channel


def parse_header(data: bytes) -> FrameHeader | None:
    """Returns what the four bytes `data` of a layer III frame say, None if they are none."""
    if len(data) < 4 or data[0] != 0xFF or data[1] & 0xE0 != 0xE0:
        return None
    version, layer = data[1] >> 3 & 3, 4 - (data[1] >> 1 & 3)
    rate_index, bit_rate_index = data[2] >> 2 & 3, data[2] >> 4
    if version == 1 or layer != 3 or rate_index == 3 or bit_rate_index in (0, 15):
        return None
    mpeg1 = version == 3
    kbps = _KBPS[mpeg1][bit_rate_index - 1]
    sample_rate = _SAMPLE_RATES[version][rate_index]
    samples = 1152 if mpeg1 else 576
    size = samples // 8 * kbps * 1000 // sample_rate + (data[2] >> 1 & 1)
    return FrameHeader(mpeg1, sample_rate, 1 if data[3] >> 6 == 3 else 2, kbps, size, samples)


def encoder_settings(sample_rate: int, bit_rate: int) -> dict[str, float | str]:
    """Returns soundfile's settings for a bitrate: constant where it is a standard one.

    LAME tells the exact length in the first frame, but not where a constant bitrate leaves
    no room for it there; then an average one does.
    """
    mpeg1 = sample_rate >= 32000
    low, high = (32, 320) if mpeg1 else (8, 160 if sample_rate >= 16000 else 64)
    kbps = bit_rate / 1000
    nearest = min(_KBPS[mpeg1], key=lambda standard: abs(standard - kbps))
    room = (144 if mpeg1 else 72) * 1000 * nearest // sample_rate
    constant = abs(nearest - kbps) < 0.02 * nearest and room >= _HEADER_ROOM
    level = (high - (nearest if constant else kbps)) / (high - low)
    mode = "CONSTANT" if constant else "AVERAGE"
    return {"compression_level": min(0.999, max(0.0, level)), "bitrate_mode": mode}


def tag_size(path: Path) -> int:
    """Returns the length in bytes of the ID3v2 tag before the sound, 0 where there is none."""
    with path.open("rb") as file:
        return _id3_size(file.read(10))


def _id3_size(head: bytes) -> int:
    if len(head) < 10 or head[:3] != b"ID3":
        return 0
    return 10 + _synchsafe(head[6:10]) + (10 if head[5] & 0x10 else 0)


def _synchsafe(data: bytes) -> int:
    return data[0] << 21 | data[1] << 14 | data[2] << 7 | data[3]


def read_tags(path: Path) -> dict[str, str]:
    """Returns the tags of an MP3 file by our names: ID3v2, else ID3v1."""
    with path.open("rb") as file:
        head = file.read(10)
        size = _id3_size(head)
        body = file.read(size - 10) if size else b""
        file.seek(max(0, path.stat().st_size - 128))
        last = file.read(128)
    tags: dict[str, str] = {}
    for frame, content in _frames(head, body):
        name, text = _text_of(frame, content)
        if name and text:
            tags.setdefault(name, text)
    return tags or _read_id3v1(last)


def _frames(head: bytes, body: bytes) -> Iterator[tuple[str, bytes]]:
    """Yields (identifier, content) of each frame of an ID3v2.2, 2.3 or 2.4 tag."""
    if not body:
        return
    version, flags = head[3], head[5]
    if flags & 0x80 and version < 4:
        body = body.replace(b"\xff\x00", b"\xff")
    position = 0
    if flags & 0x40 and version > 2:  # extended header
        position = _synchsafe(body[:4]) if version == 4 else 4 + int.from_bytes(body[:4])
    name_length, head_length = (3, 6) if version == 2 else (4, 10)
    while position + head_length <= len(body) and body[position]:
        header = body[position : position + head_length]
        size_bytes = header[name_length : name_length + (3 if version == 2 else 4)]
        size = _synchsafe(size_bytes) if version == 4 else int.from_bytes(size_bytes)
        position += head_length
        content = body[position : position + size]
        if version == 4 and header[9] & 0x01:  # data length indicator
            content = content[4:]
        if version == 4 and header[9] & 0x02:
            content = content.replace(b"\xff\x00", b"\xff")
        if position + size > len(body):
            return
        yield header[:name_length].decode("latin-1"), content
        position += size


def _text_of(frame: str, content: bytes) -> tuple[str, str]:
    """Returns (our name or "", text) of an ID3v2 frame."""
    if not content or frame[0] not in "TCW":
        return "", ""
    if frame[0] == "W":
        return _NAME_OF.get(frame, ""), content.decode("latin-1").strip("\0")
    if frame not in _NAME_OF and frame not in ("TXXX", "TXX"):
        return "", ""
    has_language = frame in ("COMM", "COM")
    encoding = _ENCODINGS[content[0]] if content[0] < 4 else "latin-1"
    data = content[4 if has_language else 1 :]
    parts = [part.lstrip("\ufeff") for part in data.decode(encoding, "replace").split("\0")]
    if frame in ("TXXX", "TXX"):
        frame = f"TXXX:{parts[0].lower()}"
        return _NAME_OF.get(frame, ""), parts[1] if len(parts) > 1 else ""
    if has_language:  # a named comment (iTunNORM and the like) is no comment
        return ("comment" if not parts[0] else "", parts[1] if len(parts) > 1 else "")
    return _NAME_OF.get(frame, ""), parts[0]


def _read_id3v1(last: bytes) -> dict[str, str]:
    if last[:3] != b"TAG":
        return {}
    fields = {"title": (3, 33), "artist": (33, 63), "album": (63, 93), "date": (93, 97)}
    fields["comment"] = (97, 125)
    tags = {
        name: re.split(rb"\0", last[start:end])[0].decode("latin-1").strip()
        for name, (start, end) in fields.items()
    }
    if last[125] == 0 and last[126]:
        tags["tracknumber"] = str(last[126])
    return {name: text for name, text in tags.items() if text}


def build_tag(tags: dict[str, str]) -> bytes:
    """Returns an ID3v2.4 tag in UTF-8 that holds `tags`, nothing where there are none."""
    frames = b""
    for name, text in tags.items():
        frame, _, description = _FRAMES[name][0].partition(":")
        content = b"\x03" + text.encode()
        if frame == "COMM":
            content = b"\x03und\0" + text.encode()
        elif description:
            content = b"\x03" + description.encode() + b"\0" + text.encode()
        frames += frame.encode() + _to_synchsafe(len(content)) + b"\0\0" + content
    return b"ID3\x04\0\0" + _to_synchsafe(len(frames)) + frames if frames else b""


def _to_synchsafe(size: int) -> bytes:
    return bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0))


def put_tags_before(path: Path, spare: Path, tags: dict[str, str]) -> None:
    """Writes `tags` in front of the MP3 file at `path`, by way of the file `spare`."""
    with path.open("rb") as source, spare.open("wb") as target:
        target.write(build_tag(tags))
        shutil.copyfileobj(source, target, 1 << 20)
    spare.replace(path)


def first_frame(file: BinaryIO) -> tuple[int, bytes]:
    """Returns (position, bytes) of the first frame, (-1, b"") where this is no MP3 file."""
    file.seek(0)
    head = file.read(10)
    if head[:3] != b"ID3" and parse_header(head[:4]) is None:
        return -1, b""
    start = _id3_size(head)
    file.seek(start)
    data = file.read(1 << 16)
    for offset in range(len(data) - 3):
        header = parse_header(data[offset : offset + 4])
        if header is None:
            continue
        following = data[offset + header.size : offset + header.size + 4]
        if len(following) < 4 or parse_header(following) is not None:
            return start + offset, data[offset : offset + header.size]
    return -1, b""


@dataclass(frozen=True)
class _Promise:
    """What the first frame promises; 0 where it does not say."""

    frames: int = 0
    size: int = 0  # bytes, this frame included


def _promise(frame: bytes) -> _Promise | None:
    """Returns the fields of a Xing, Info or VBRI header, None where there is none."""
    match = re.search(rb"(Xing|Info|VBRI)(.{4})", frame, re.DOTALL)
    if match is None:
        return None
    (flags,) = struct.unpack(">I", match[2])
    if match[1] == b"VBRI" or flags & 3 != 3 or len(frame) < match.end() + 8:
        return _Promise()
    return _Promise(*struct.unpack(">II", frame[match.end() : match.end() + 8]))


def is_whole(path: Path) -> bool:
    """Returns whether a file holds the bytes that its Xing header promises, if it has one."""
    with path.open("rb") as file:
        start, frame = first_frame(file)
    promise = _promise(frame)
    return promise is None or path.stat().st_size >= start + promise.size


def mean_bit_rate(path: Path) -> int:
    """Returns the bits per second of the frames behind a Xing header, 0 where there is none."""
    with path.open("rb") as file:
        _, frame = first_frame(file)
    header, promise = parse_header(frame[:4]), _promise(frame)
    if header is None or promise is None or not promise.frames:
        return 0
    bits = 8 * (promise.size - header.size)
    return round(bits * header.sample_rate / (promise.frames * header.samples))


def count_frames(path: Path, start: int) -> int:
    """Returns how many whole frames lie in the file from position `start` on."""
    count = 0
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        position = start
        while 0 <= position <= len(data) - 4:
            header = parse_header(data[position : position + 4])
            if header is None:  # a tag or a gap
                position = data.find(b"\xff", position + 1)
                continue
            position += header.size
            count += position <= len(data)
    return count


class WithLength(io.RawIOBase):
    """An MP3 file behind a made-up Xing frame that tells its length.

    Without that libsndfile guesses from the first bitrate, and stops at half of many files
    of variable bitrate.
    """

    def __init__(self, path: Path, start: int, frame: bytes) -> None:
        """Takes the position and the bytes of the first frame, from `first_frame`."""
        self._file = path.open("rb")
        self._start = start
        self._size = path.stat().st_size - start
        self._front = _xing_frame(frame, count_frames(path, start), self._size)
        self._position = 0

    def readable(self) -> bool:
        """Returns True."""
        return True

    def seekable(self) -> bool:
        """Returns True."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Moves to `offset` bytes from the start, the position or the end."""
        base = {io.SEEK_CUR: self._position, io.SEEK_END: len(self._front) + self._size}
        self._position = base.get(whence, 0) + offset
        return self._position

    def tell(self) -> int:
        """Returns the position in bytes."""
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Fills `buffer` as far as there are bytes; returns their number."""
        wanted = len(buffer)
        data = self._front[self._position : self._position + wanted]
        if len(data) < wanted:
            behind = self._position + len(data) - len(self._front)
            self._file.seek(self._start + behind)
            data += self._file.read(wanted - len(data))
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def close(self) -> None:
        """Closes the file."""
        self._file.close()
        super().close()


def _xing_frame(frame: bytes, count: int, size: int) -> bytes:
    """Returns a silent frame of the kind of `frame` that promises `count` frames."""
    like = parse_header(frame[:4])
    assert like is not None
    bit_rate_index = 9 if like.mpeg1 else 8  # large enough for the fields
    head = bytes([0xFF, frame[1] | 1, bit_rate_index << 4 | frame[2] & 0x0C, frame[3]])
    header = parse_header(head)
    assert header is not None
    side_bytes = {(True, 2): 32, (True, 1): 17, (False, 2): 17, (False, 1): 9}
    fields = b"Xing" + struct.pack(">III", 3, count, size + header.size)
    body = head + bytes(side_bytes[like.mpeg1, like.channels]) + fields
    return body.ljust(header.size, b"\0")


def open_with_length(path: Path) -> WithLength | None:
    """Returns the file with its length told, None where it tells it itself or is no MP3."""
    with path.open("rb") as file:
        start, frame = first_frame(file)
    if start < 0 or _promise(frame) is not None:
        return None
    return WithLength(path, start, frame)
