"""Notes and pedals as a standard MIDI file."""

import io
import struct
from dataclasses import dataclass

TICKS_PER_S = 960  # 480 to a quarter note of half a second
PEDAL = 64  # the controller


@dataclass(frozen=True)
class Note:
    """One stroke of a key: seconds, MIDI pitch and velocity 1 to 127."""

    start_s: float
    duration_s: float
    pitch: int
    velocity: int


@dataclass(frozen=True)
class Piece:
    """Notes in any order, and when the pedal goes down and up."""

    notes: tuple[Note, ...]
    pedals: tuple[tuple[float, float], ...]


def to_midi(piece: Piece, program: int = 0) -> bytes:
    """Returns a piece as a standard MIDI file of one track (format 0)."""
    events: list[tuple[int, int, bytes]] = [(0, 0, bytes([0xC0, program]))]
    for note in piece.notes:
        first = round(note.start_s * TICKS_PER_S)
        last = max(first + 1, round((note.start_s + note.duration_s) * TICKS_PER_S))
        events.append((first, 2, bytes([0x90, note.pitch, note.velocity])))
        events.append((last, 1, bytes([0x80, note.pitch, 0])))
    for down_s, up_s in piece.pedals:
        events.append((round(down_s * TICKS_PER_S), 3, bytes([0xB0, PEDAL, 127])))
        events.append((round(up_s * TICKS_PER_S), 1, bytes([0xB0, PEDAL, 0])))
    track, before = io.BytesIO(), 0
    for tick, _, message in sorted(events):  # at one tick: ends before starts
        track.write(variable_length(tick - before) + message)
        before = tick
    track.write(b"\x00\xff\x2f\x00")
    body = track.getvalue()
    header = b"MThd" + struct.pack(">IHHH", 6, 0, 1, TICKS_PER_S // 2)
    return header + b"MTrk" + struct.pack(">I", len(body)) + body


def variable_length(value: int) -> bytes:
    """Returns a number as MIDI has it: seven bits a byte, the high bit on all but the last."""
    parts = [value & 0x7F]
    while value := value >> 7:
        parts.append(0x80 | (value & 0x7F))
    return bytes(reversed(parts))
