"""The piano maker: the same seed gives the same notes, MIDI is well formed, sound is made of it."""

import shutil
import struct

import numpy as np
import pytest

from quieten.audio import read_audio
from quieten.corpora import piano
from quieten.corpora.midi import Note, Piece, to_midi, variable_length
from quieten.corpora.piano import (
    HIGHEST,
    LOWEST,
    SOUNDFONTS,
    TEXTURES,
    PianoLayout,
    compose,
    draw_harmony,
    find_soundfont,
    write_piano,
)
from quieten.errors import ConfigError

HAS_SYNTH = shutil.which("fluidsynth") and any(path.is_file() for path in SOUNDFONTS)


def read_events(midi):
    """The (tick, status, data) of a MIDI file of one track, read by the standard."""
    assert midi[:14] == b"MThd" + struct.pack(">IHHH", 6, 0, 1, 480) and midi[14:18] == b"MTrk"
    (length,) = struct.unpack(">I", midi[18:22])
    assert len(midi) == 22 + length
    place, tick, events = 22, 0, []
    while place < len(midi):
        delta = 0
        while True:
            byte = midi[place]
            place += 1
            delta = delta << 7 | byte & 0x7F
            if not byte & 0x80:
                break
        tick += delta
        size = {0xC0: 2, 0xFF: 3}.get(midi[place], 3)
        events.append((tick, midi[place], tuple(midi[place + 1 : place + size])))
        place += size
    return events


def test_one_seed_one_piece():
    first, again, other = (compose(np.random.default_rng(seed), 30) for seed in (1, 1, 2))
    assert first == again != other
    assert len(first.notes) > 20
    assert all(
        LOWEST <= note.pitch <= HIGHEST and 1 <= note.velocity <= 127 for note in first.notes
    )
    assert all(0 <= note.start_s < 30 and note.duration_s > 0 for note in first.notes)


@pytest.mark.parametrize("name", TEXTURES)
def test_every_texture_plays(name):
    for seed in range(5):
        rng = np.random.default_rng(seed)
        harmony = draw_harmony(rng, 8.0)
        notes = TEXTURES[name](rng, harmony)
        assert notes and all(LOWEST <= note.pitch <= HIGHEST for note in notes)


def test_keys_use_the_whole_piano():
    pitches = [
        note.pitch for seed in range(20) for note in compose(np.random.default_rng(seed), 60).notes
    ]
    assert min(pitches) < 36 and max(pitches) > 90 and len(set(pitches)) > 60


def test_midi_says_what_the_piece_says():
    piece = Piece((Note(0.5, 1.0, 60, 80), Note(1.5, 0.25, 60, 90)), ((0.0, 2.0),))
    events = read_events(to_midi(piece, 5))
    assert events == [
        (0, 0xC0, (5,)),
        (0, 0xB0, (64, 127)),
        (480, 0x90, (60, 80)),
        (1440, 0x80, (60, 0)),  # ends before the same key is struck again
        (1440, 0x90, (60, 90)),
        (1680, 0x80, (60, 0)),
        (1920, 0xB0, (64, 0)),
        (1920, 0xFF, (0x2F, 0)),
    ]


@pytest.mark.parametrize(
    ("value", "bytes_"), [(0, "00"), (127, "7f"), (128, "8100"), (0x1FFFFF, "ffff7f")]
)
def test_variable_lengths_of_the_standard(value, bytes_):
    assert variable_length(value).hex() == bytes_


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        (PianoLayout(0, 0), "no pieces"),
        (PianoLayout(seconds=1), "5 s or more"),
        (PianoLayout(program=128), "0 to 127"),
    ],
)
def test_layouts_that_make_no_sense(layout, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        write_piano(tmp_path / "out", layout)


def test_what_is_missing_is_named(tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="fluid-soundfont-gm"):
        find_soundfont(tmp_path / "none.sf2")
    font = tmp_path / "font.sf2"
    font.touch()
    monkeypatch.setattr(piano.shutil, "which", lambda name: None)
    with pytest.raises(ConfigError, match="apt-get install fluidsynth"):
        write_piano(tmp_path / "out", PianoLayout(1, 0), font)
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(not HAS_SYNTH, reason="needs fluidsynth and a soundfont")
def test_pieces_sound(tmp_path):
    out = tmp_path / "pieces"
    seen = []
    layout = PianoLayout(1, 1, seconds=8)
    assert write_piano(out, layout, progress=lambda *args: seen.append(args)) == 2
    assert [args[:2] for args in seen] == [(1, 2), (2, 2)]
    waveform, rate = read_audio(out / "train/0000.flac")
    assert rate == 44_100 and len(waveform) == 1 and waveform.shape[1] > 6 * rate
    assert np.abs(waveform).max() == pytest.approx(0.7, abs=0.01)
    write_piano(tmp_path / "again", layout)
    np.testing.assert_array_equal(waveform, read_audio(tmp_path / "again/train/0000.flac")[0])
    with pytest.raises(ConfigError, match="exists already"):
        write_piano(out, layout)
