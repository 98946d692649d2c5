"""Piano pieces composed by code, and rendered by fluidsynth with a soundfont.

Recorded piano is scarce where its licence matters; what is composed here belongs to whoever runs
it. The pieces are no art: they cover registers, textures, loudness and pedal as evenly as real
ones do. One seed gives the same notes; the same fluidsynth and soundfont give the same sound.
"""

import csv
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from quieten.audio import read_audio, write_audio
from quieten.corpora.midi import Note, Piece, to_midi
from quieten.errors import ConfigError
from quieten.sndfile import reason_of

Progress = Callable[[int, int, str], None]

SAMPLE_RATE = 44_100
MANIFEST = "manifest.csv"
SOUNDFONTS = (
    Path("/usr/share/sounds/sf2/FluidR3_GM.sf2"),
    Path("/usr/share/soundfonts/FluidR3_GM.sf2"),
    Path("/usr/local/share/soundfonts/default.sf2"),
)
"""Where packages put them."""

LOWEST, HIGHEST = 21, 108  # keys of a piano
SCALES = {
    "major": (0, 2, 4, 5, 7, 9, 11),
    "minor": (0, 2, 3, 5, 7, 8, 10),
    "harmonic": (0, 2, 3, 5, 7, 8, 11),
    "dorian": (0, 2, 3, 5, 7, 9, 10),
    "whole": (0, 2, 4, 6, 8, 10),
}


@dataclass(frozen=True)
class PianoLayout:
    """What is composed.

    Attributes:
        train: pieces in train/.
        valid: pieces in valid/.
        seconds: of each piece.
        seed: of all pieces.
        program: General MIDI instrument, 0 the grand piano.
    """

    train: int = 60
    valid: int = 4
    seconds: float = 60.0
    seed: int = 0
    program: int = 0


@dataclass(frozen=True)
class Harmony:
    """The chords of a passage: a scale on a root, and the degree that each beat stands on."""

    root: int
    scale: tuple[int, ...]
    degrees: tuple[int, ...]  # one a beat
    beat_s: float

    def pitch(self, step: int, octave: int) -> int:
        """Returns the key of a step of the scale, counted from the root of an octave."""
        size = len(self.scale)
        key = self.root + 12 * (octave + step // size) + self.scale[step % size]
        while key < LOWEST:
            key += 12
        while key > HIGHEST:
            key -= 12
        return key


def compose(rng: np.random.Generator, seconds: float) -> Piece:
    """Returns a piece: passages of 4 to 14 s, each with a key, a tempo and a texture."""
    notes: list[Note] = []
    pedals: list[tuple[float, float]] = []
    start_s = 0.2
    while start_s < seconds - 2:
        length_s = min(float(rng.uniform(4, 14)), seconds - 1 - start_s)
        harmony = draw_harmony(rng, length_s)
        textures = list(TEXTURES.values())
        texture = textures[int(rng.integers(len(textures)))]
        loudness = rng.uniform(35, 105)
        swell = rng.uniform(-30, 30)
        for note in texture(rng, harmony):
            share = note.start_s / length_s
            velocity = loudness + swell * share + rng.normal(0, 7) + note.velocity
            late_s = abs(rng.normal(0, 0.006))  # hands are no machines
            notes.append(
                Note(
                    start_s + note.start_s + late_s,
                    max(0.04, note.duration_s * rng.uniform(0.7, 1.02)),
                    note.pitch,
                    int(np.clip(velocity, 12, 124)),
                )
            )
        if rng.random() < 0.65:
            pedals += draw_pedals(rng, harmony, start_s)
        start_s += length_s + float(rng.choice([0.0, 0.0, rng.uniform(0.2, 1.5)]))
    return Piece(tuple(notes), tuple(pedals))


def draw_harmony(rng: np.random.Generator, length_s: float) -> Harmony:
    """Returns the chords of a passage: mostly by fourths and steps, some beats each."""
    beat_s = float(rng.uniform(0.28, 0.95))
    count = max(2, int(length_s / beat_s))
    names = list(SCALES)
    scale = SCALES[names[int(rng.choice(len(names), p=[0.36, 0.26, 0.2, 0.12, 0.06]))]]
    degrees: list[int] = []
    degree = 0
    while len(degrees) < count:
        degrees += [degree] * int(rng.choice([1, 2, 3, 4]))
        degree = (degree + int(rng.choice([3, 4, 1, -1, -2, 2, 5]))) % len(scale)
    return Harmony(int(rng.integers(0, 12)), scale, tuple(degrees[:count]), beat_s)


def draw_pedals(
    rng: np.random.Generator, harmony: Harmony, start_s: float
) -> list[tuple[float, float]]:
    """Returns (down, up) in seconds: a new pedal with every chord."""
    changes = [0] + [
        i for i in range(1, len(harmony.degrees)) if harmony.degrees[i] != harmony.degrees[i - 1]
    ]
    ends = [*changes[1:], len(harmony.degrees)]
    late_s = float(rng.uniform(0.02, 0.12))
    beat = harmony.beat_s
    return [
        (start_s + first * beat + late_s, start_s + last * beat)
        for first, last in zip(changes, ends, strict=True)
        if (last - first) * beat > 2 * late_s
    ]


def block_chords(rng: np.random.Generator, harmony: Harmony) -> list[Note]:
    """Chords on the beat over octaves in the bass, with a voice on top."""
    notes, octave = [], int(rng.integers(3, 6))
    size = int(rng.integers(3, 5))
    for beat, degree in enumerate(harmony.degrees):
        if rng.random() < 0.15:
            continue
        start_s = beat * harmony.beat_s
        length_s = harmony.beat_s * float(rng.choice([0.4, 0.9, 1.0]))
        steps = [degree + 2 * k for k in range(size)]
        if rng.random() < 0.5:
            steps.append(degree + len(harmony.scale))
        notes += [Note(start_s, length_s, harmony.pitch(s, octave), 0) for s in steps]
        bass = harmony.pitch(degree, 2)
        notes += [Note(start_s, length_s, key, 6) for key in {bass, max(bass - 12, LOWEST)}]
    return notes


def broken_chords(rng: np.random.Generator, harmony: Harmony) -> list[Note]:
    """Arpeggios in one or two hands, up and down over some octaves."""
    per_beat = int(rng.choice([2, 3, 4, 6, 8]))
    reach, octave = int(rng.integers(4, 12)), int(rng.integers(2, 5))
    notes = []
    step_s = harmony.beat_s / per_beat
    for i in range(len(harmony.degrees) * per_beat):
        degree = harmony.degrees[i // per_beat]
        turn = i % (2 * reach)
        place = turn if turn < reach else 2 * reach - turn
        step = degree + 2 * (place % 4) + len(harmony.scale) * (place // 4)
        notes.append(Note(i * step_s, step_s * 1.5, harmony.pitch(step, octave), 0))
        if i % per_beat == 0 and rng.random() < 0.8:
            bass = harmony.pitch(degree, int(rng.integers(1, 3)))
            notes.append(Note(i * step_s, harmony.beat_s, bass, 8))
    return notes


def song(rng: np.random.Generator, harmony: Harmony) -> list[Note]:
    """A melody over an Alberti bass or held chords."""
    notes = walk(rng, harmony, int(rng.integers(5, 7)), (0.5, 1, 1, 2, 3), 14)
    octave, alberti = int(rng.integers(3, 5)), rng.random() < 0.6
    for beat, degree in enumerate(harmony.degrees):
        start_s = beat * harmony.beat_s
        steps = (degree, degree + 4, degree + 2, degree + 4)
        if alberti:
            quarter_s = harmony.beat_s / 4
            notes += [
                Note(start_s + k * quarter_s, quarter_s, harmony.pitch(s, octave), -10)
                for k, s in enumerate(steps)
            ]
        elif beat % 2 == 0:
            notes += [
                Note(start_s, 2 * harmony.beat_s, harmony.pitch(s, octave), -8) for s in steps[:3]
            ]
    return notes


def counterpoint(rng: np.random.Generator, harmony: Harmony) -> list[Note]:
    """Two to four voices that move by themselves."""
    octaves = rng.choice([2, 3, 4, 5, 6], size=int(rng.integers(2, 5)), replace=False)
    return [
        note
        for octave in octaves
        for note in walk(rng, harmony, int(octave), (0.25, 0.5, 0.5, 1, 2), 0)
    ]


def runs(rng: np.random.Generator, harmony: Harmony) -> list[Note]:
    """Scales, repeated notes and trills, often in octaves."""
    per_beat = int(rng.choice([4, 6, 8]))
    step_s = harmony.beat_s / per_beat
    octaves = [int(rng.integers(3, 7))]
    if rng.random() < 0.4:
        octaves.append(octaves[0] - 1)
    notes, place, direction = [], 0, 1
    for i in range(len(harmony.degrees) * per_beat):
        kind = rng.random()
        if kind < 0.06:
            direction = -direction
        elif kind < 0.1:
            place = int(rng.integers(-7, 8))
        place += direction
        if abs(place) > 14:
            direction = -int(np.sign(place))
        steps = harmony.degrees[i // per_beat] + place
        notes += [Note(i * step_s, step_s, harmony.pitch(steps, octave), 0) for octave in octaves]
    return notes


def sparse(rng: np.random.Generator, harmony: Harmony) -> list[Note]:
    """Few long notes anywhere on the keys, which ring until they are gone."""
    notes = []
    for beat in range(0, len(harmony.degrees), int(rng.integers(1, 4))):
        for _ in range(int(rng.integers(1, 4))):
            step = harmony.degrees[beat] + 2 * int(rng.integers(0, 4))
            key = harmony.pitch(step, int(rng.integers(1, 8)))
            length_s = float(rng.uniform(0.5, 5))
            notes.append(Note(beat * harmony.beat_s, length_s, key, int(rng.integers(-25, 20))))
    return notes


def walk(
    rng: np.random.Generator,
    harmony: Harmony,
    octave: int,
    beats: Sequence[float],
    louder: int,
) -> list[Note]:
    """Returns a voice that goes by steps and small leaps; strong beats land on the chord."""
    notes, place, time = [], 0, 0.0
    while time < len(harmony.degrees):
        length = float(rng.choice(beats))
        degree = harmony.degrees[int(time)]
        if time % 1 == 0:
            place = degree + 2 * round((place - degree) / 2)
        if rng.random() > 0.12:
            start_s, length_s = time * harmony.beat_s, length * harmony.beat_s
            notes.append(Note(start_s, length_s, harmony.pitch(place, octave), louder))
        place += int(rng.choice([-3, -2, -1, -1, 0, 1, 1, 2, 3, 4]))
        place = int(np.clip(place, -9, 9))
        time += length
    return notes


TEXTURES: dict[str, Callable[[np.random.Generator, Harmony], list[Note]]] = {
    "block_chords": block_chords,
    "broken_chords": broken_chords,
    "song": song,
    "counterpoint": counterpoint,
    "runs": runs,
    "sparse": sparse,
}


def find_soundfont(given: Path | None) -> Path:
    """Returns the soundfont that was given, or one that a package has installed.

    Raises:
        ConfigError: there is none.
    """
    for path in (given,) if given else SOUNDFONTS:
        if path.is_file():
            return path
    place = f"{given}: no such soundfont" if given else "no soundfont"
    raise ConfigError(f"{place}: install fluid-soundfont-gm, or name an .sf2 file with --soundfont")


def render(midi: bytes, soundfont: Path, out: Path) -> None:
    """Writes the sound of a MIDI file: mono, 44.1 kHz, peak at -3 dB of full scale.

    Raises:
        ConfigError: fluidsynth is not installed, or did not do it.
    """
    program = shutil.which("fluidsynth")
    if program is None:
        raise ConfigError("fluidsynth is not installed: apt-get install fluidsynth, or the like")
    with tempfile.TemporaryDirectory() as folder:
        score, sound = Path(folder, "piece.mid"), Path(folder, "piece.wav")
        score.write_bytes(midi)
        rate = str(SAMPLE_RATE)
        command = [program, "-ni", "-q", "-r", rate, "-F", str(sound), str(soundfont), str(score)]
        done = subprocess.run(command, capture_output=True, check=False)
        if done.returncode or not sound.is_file():
            reason = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["no sound"]
            raise ConfigError(f"fluidsynth failed ({reason[0]}): check {soundfont}")
        waveform, _ = read_audio(sound)
    mono = waveform.mean(axis=0)
    gain = 0.7 / max(float(np.abs(mono).max(initial=0.0)), 1e-4)
    write_audio(out, (mono * np.float32(gain)).astype(np.float32), SAMPLE_RATE)


def write_piano(
    out: Path, layout: PianoLayout, soundfont: Path | None = None, progress: Progress | None = None
) -> int:
    """Writes pieces into the new folder `out`: train/0000.flac, valid/0000.flac and so on.

    The folder appears when all is done; an interrupted run leaves nothing.

    Returns: how many pieces there are.

    Raises:
        ConfigError: the layout makes no sense, `out` holds something, or what renders is missing.
    """
    counts = {"train": layout.train, "valid": layout.valid}
    if min(counts.values()) < 0 or not sum(counts.values()):
        raise ConfigError("no pieces: ask for 1 or more with --train and --valid")
    if layout.seconds < 5 or layout.seed < 0 or not 0 <= layout.program < 128:
        raise ConfigError("pieces need 5 s or more, a seed of 0 or more, a program of 0 to 127")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out}: exists already: name a new folder")
    font = find_soundfont(soundfont)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as folder:
            work = Path(folder, "pieces")
            rows = _write_pieces(work, layout, counts, font, progress)
            _write_manifest(work / MANIFEST, rows)
            if out.exists():
                out.rmdir()
            work.rename(out)
    except OSError as error:
        raise ConfigError(f"{error.filename or out}: {reason_of(error)}: check space") from None
    return len(rows)


def _write_pieces(
    work: Path,
    layout: PianoLayout,
    counts: dict[str, int],
    font: Path,
    progress: Progress | None,
) -> list[dict[str, str]]:
    rows: list[dict[str, str]] = []
    for split, (name, count) in enumerate(counts.items()):
        (work / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            piece = compose(np.random.default_rng([layout.seed, split, number]), layout.seconds)
            file = f"{name}/{number:04}.flac"
            render(to_midi(piece, layout.program), font, work / file)
            rows.append({"file": file, "notes": str(len(piece.notes)), "soundfont": font.name})
            if progress:
                progress(len(rows), sum(counts.values()), file)
    return rows


def _write_manifest(path: Path, rows: list[dict[str, str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
