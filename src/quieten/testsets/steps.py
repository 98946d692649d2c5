"""The degradations that a pipeline is made of: settings, what is drawn, what it does.

Waveforms are float32 (T,).
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from quieten.degrade import (
    FILTERS,
    Waveform,
    clip_at,
    convolve,
    direct_and_tail,
    make_noise,
    make_room_response,
    reverberate,
    rms,
    shape_spectrum,
    through_rate,
)
from quieten.errors import ConfigError
from quieten.testsets.codecs import parse_codec, round_trip

Number = float | tuple[float, float]
Values = dict[str, float | str]


class Sounds(Protocol):
    """Where recorded noise and measured rooms come from."""

    def noise(self, rng: np.random.Generator, length: int, sample_rate: int) -> Waveform | None:
        """Returns (T,) samples of a recorded noise; None where there is none."""

    def room(self, rng: np.random.Generator, sample_rate: int) -> Waveform | None:
        """Returns a measured impulse response; None where there is none."""


class NoSounds:
    """No recorded noise and no measured room."""

    def noise(self, rng: np.random.Generator, length: int, sample_rate: int) -> Waveform | None:
        """Returns None."""
        return None

    def room(self, rng: np.random.Generator, sample_rate: int) -> Waveform | None:
        """Returns None."""
        return None


@dataclass(frozen=True)
class Sound:
    """A sound on its way through the steps: what it has become, and what it should be restored to.

    Attributes:
        degraded: (T,).
        target: (T,).
        sample_rate: of both, Hz.
        drawn: for each step that was taken: its name and values.
    """

    degraded: Waveform
    target: Waveform
    sample_rate: int
    drawn: tuple[tuple[str, Values], ...] = ()

    def describe(self) -> str:
        """Returns the steps that were taken, such as "sample low_hz=5000 filter=usual"."""
        return "; ".join(
            " ".join([name, *(f"{k}={_plain(v)}" for k, v in values.items() if k != "seed")])
            for name, values in self.drawn
        )


class Step(BaseModel, ABC):
    """One degradation and its settings; the subclasses are `DEGRADATIONS`."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    positions: ClassVar[tuple[str, ...]] = ()  # settings of the string form, in their order
    chance: float = Field(1.0, ge=0, le=1)
    """How probable it is that the step is taken."""

    @abstractmethod
    def draw(self, rng: np.random.Generator) -> Values:
        """Returns what is left to chance, drawn."""

    @abstractmethod
    def apply(self, sound: Sound, values: Values, sounds: Sounds) -> tuple[Waveform, Waveform]:
        """Returns (degraded, target) after the step with drawn values."""


class Sample(Step):
    """Down to a lower rate and back up: the band above half of it is lost."""

    positions = ("low_hz", "high_hz")
    low_hz: Number
    high_hz: float = Field(0, ge=0)
    """Rate that the target is limited to; 0: that of the sound."""
    filter: Literal["sinc", "usual", "gentle", "any"] = "usual"
    limits_target: bool = False
    """The target takes the same way: nothing is lost that could be restored."""

    def draw(self, rng: np.random.Generator) -> Values:
        names = list(FILTERS)
        chosen = names[rng.integers(len(names))] if self.filter == "any" else self.filter
        return {"low_hz": float(round(in_octaves(self.low_hz, rng))), "filter": chosen}

    def apply(self, sound: Sound, values: Values, sounds: Sounds) -> tuple[Waveform, Waveform]:
        degraded, target, rate = sound.degraded, sound.target, sound.sample_rate
        if 0 < self.high_hz < rate:
            degraded, target = (through_rate(w, rate, self.high_hz) for w in (degraded, target))
        way = float(values["low_hz"]), str(values["filter"])
        if self.limits_target:
            target = through_rate(target, rate, *way)
        return through_rate(degraded, rate, *way), target


class MadeNoise(Step):
    """Gaussian noise of a colour, or white noise with a triangular density (tpdf).

    Its level is an intensity, the RMS where full scale is 1; or an SNR against the whole sound.
    """

    positions = ("variance", "intensity")
    variance: float = Field(0, ge=0)
    """Of the intensity, or of the SNR in dB, from sound to sound."""
    intensity: float = Field(0.01, ge=0)
    snr_db: Number | None = None
    colour: ClassVar[str]

    def draw(self, rng: np.random.Generator) -> Values:
        spread = around_zero(self.variance, rng)
        seed = float(rng.integers(2**31))
        if self.snr_db is None:
            return {"intensity": max(0.0, self.intensity + spread), "seed": seed}
        return {"snr_db": evenly(self.snr_db, rng) + spread, "seed": seed}

    def apply(self, sound: Sound, values: Values, sounds: Sounds) -> tuple[Waveform, Waveform]:
        rng = np.random.default_rng(int(values["seed"]))
        noise = make_noise(self.colour, sound.degraded.size, sound.sample_rate, rng)
        level = values.get("intensity")
        if level is None:
            level = rms(sound.degraded) * 10 ** (-float(values["snr_db"]) / 20)
        return sound.degraded + np.float32(level) * noise, sound.target


class WhiteNoise(MadeNoise):
    """As loud at every frequency."""

    colour = "whitenoise"


class PinkNoise(MadeNoise):
    """As loud in every octave."""

    colour = "pinknoise"


class BrownNoise(MadeNoise):
    """6 dB less in every octave."""

    colour = "brownnoise"


class TpdfNoise(MadeNoise):
    """White, with a triangular density: what dithering adds."""

    colour = "tpdfnoise"


class AnyNoise(MadeNoise):
    """One of the four, or a colour between them."""

    colour = "anynoise"


class FileNoise(Step):
    """Recorded noise at an SNR against the whole sound."""

    positions = ("snr_db", "variance")
    snr_db: Number = 10.0
    variance: float = Field(0, ge=0)

    def draw(self, rng: np.random.Generator) -> Values:
        spread = around_zero(self.variance, rng)
        return {"snr_db": evenly(self.snr_db, rng) + spread, "seed": float(rng.integers(2**31))}

    def apply(self, sound: Sound, values: Values, sounds: Sounds) -> tuple[Waveform, Waveform]:
        rng = np.random.default_rng(int(values["seed"]))
        noise = sounds.noise(rng, sound.degraded.size, sound.sample_rate)
        if noise is None:
            raise ConfigError("step noise: there are no recordings of noise: name a folder of them")
        level = rms(sound.degraded) / max(rms(noise), 1e-9)
        level *= 10 ** (-float(values["snr_db"]) / 20)
        return sound.degraded + np.float32(level) * noise, sound.target


class Reverb(Step):
    """A room: measured where there are responses, made by code, or either."""

    positions = ("rate_hz",)
    rate_hz: float = Field(0, ge=0)
    """The original's number: the rate that the target is limited to; 0: that of the sound."""
    room: Literal["measured", "made", "either"] = "either"
    drr_db: Number | None = None
    """Energy of the direct sound over that of the reverberation; else that of the room itself."""
    target: Literal["dry", "early"] = "dry"
    """To restore the sound itself, or the sound with the first 50 ms of reflections."""

    def draw(self, rng: np.random.Generator) -> Values:
        measured = self.room == "measured" or (self.room == "either" and rng.random() < 0.5)
        drawn = {} if self.drr_db is None else {"drr_db": evenly(self.drr_db, rng)}
        room = {"room": "measured" if measured else "made", "seed": float(rng.integers(2**31))}
        return drawn | room

    def apply(self, sound: Sound, values: Values, sounds: Sounds) -> tuple[Waveform, Waveform]:
        rng, rate = np.random.default_rng(int(values["seed"])), sound.sample_rate
        response = sounds.room(rng, rate) if values["room"] == "measured" else None
        if response is None and self.room == "measured":
            raise ConfigError("step reverb: there are no room responses: name a folder of them")
        if response is None:
            response = make_room_response(rate, rng)
        degraded, target = sound.degraded, sound.target
        if 0 < self.rate_hz < rate:
            degraded, target = (through_rate(w, rate, self.rate_hz) for w in (degraded, target))
        if self.target == "early":
            degraded, _ = reverberate(degraded, response, rate)
            return degraded, reverberate(target, response, rate)[1]
        drr_db = values.get("drr_db")
        room = direct_and_tail(response, rate, None if drr_db is None else float(drr_db))
        return convolve(degraded, room), target


class LowPass(Step):
    """A low-pass filter of 24 dB in an octave, 6 dB down at its cutoff."""

    positions = ("cutoff_hz",)
    cutoff_hz: Number

    def draw(self, rng: np.random.Generator) -> Values:
        return {"cutoff_hz": in_octaves(self.cutoff_hz, rng)}

    def apply(self, sound: Sound, values: Values, sounds: Sounds) -> tuple[Waveform, Waveform]:
        cutoff_hz = float(values["cutoff_hz"])
        filtered = shape_spectrum(
            sound.degraded, sound.sample_rate, lambda hz: 1 / (1 + (hz / cutoff_hz) ** 4)
        )
        return filtered, sound.target


class Clip(Step):
    """Cut off some dB below its peak."""

    positions = ("below_peak_db",)
    below_peak_db: Number = 6.0

    def draw(self, rng: np.random.Generator) -> Values:
        return {"below_peak_db": evenly(self.below_peak_db, rng)}

    def apply(self, sound: Sound, values: Values, sounds: Sounds) -> tuple[Waveform, Waveform]:
        return clip_at(sound.degraded, float(values["below_peak_db"])), sound.target


class Quantize(Step):
    """Rounded to so many bits, without dither."""

    positions = ("bits",)
    bits: int = Field(8, ge=2, le=24)

    def draw(self, rng: np.random.Generator) -> Values:
        return {"bits": float(self.bits)}

    def apply(self, sound: Sound, values: Values, sounds: Sounds) -> tuple[Waveform, Waveform]:
        steps = np.float32(2 ** (self.bits - 1))
        return np.clip(np.rint(sound.degraded * steps) / steps, -1, 1), sound.target


class Coded(Step):
    """What a lossy codec leaves: mp3, opus, vorbis, gsm, mulaw or alaw, perhaps with :KBPS."""

    positions = ("codec",)
    codec: str

    def draw(self, rng: np.random.Generator) -> Values:
        parse_codec(self.codec)
        return {"codec": self.codec}

    def apply(self, sound: Sound, values: Values, sounds: Sounds) -> tuple[Waveform, Waveform]:
        limited = np.clip(sound.degraded, -1, 1)
        return round_trip(limited, sound.sample_rate, self.codec), sound.target


DEGRADATIONS: dict[str, type[Step]] = {
    "sample": Sample,
    "whitenoise": WhiteNoise,
    "pinknoise": PinkNoise,
    "brownnoise": BrownNoise,
    "tpdfnoise": TpdfNoise,
    "anynoise": AnyNoise,
    "noise": FileNoise,
    "reverb": Reverb,
    "lowpass": LowPass,
    "clip": Clip,
    "quantize": Quantize,
    "codec": Coded,
}
"""The steps by their names in strings and tables."""


def _plain(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.6g}"


def evenly(value: Number, rng: np.random.Generator) -> float:
    """Returns a number, or one between two."""
    return float(rng.uniform(*value)) if isinstance(value, tuple) else value


def around_zero(variance: float, rng: np.random.Generator) -> float:
    """Returns a normal number; 0, and nothing is drawn, without a variance."""
    return float(rng.normal(0, math.sqrt(variance))) if variance else 0.0


def in_octaves(value: Number, rng: np.random.Generator) -> float:
    """Returns a frequency, or one between two, each octave as probable."""
    if not isinstance(value, tuple):
        return value
    return float(2 ** rng.uniform(math.log2(value[0]), math.log2(value[1])))
