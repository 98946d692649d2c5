"""Degradations in a row: read from a string or a list of tables, drawn, then applied.

The string is that of the audio restorer, which system 3 was: "sample 5000 10000, whitenoise 0
0.01, reverb 10000"; other settings follow as in "whitenoise snr_db=10". A list of tables says the
same: [{step = "sample", low_hz = 5000, high_hz = 10000}, ...]. Where a number is wanted, [low,
high] draws one, and so does low..high in a string: evenly; rates and cutoffs evenly in octaves.
Waveforms are float32 (T,).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pydantic import ValidationError

from quieten.degrade import Waveform
from quieten.errors import ConfigError
from quieten.testsets.steps import DEGRADATIONS, NoSounds, Sound, Sounds, Step

Pipeline = tuple[tuple[str, Step], ...]
"""Names of steps and their settings, in the order in which they are taken."""


def parse_pipeline(given: str | Sequence[Mapping[str, Any]]) -> Pipeline:
    """Returns the steps of a string or of a list of tables.

    Raises:
        ConfigError: a step is unknown, or a setting of it.
    """
    if isinstance(given, str):
        texts = [part.split() for part in given.split(",")]
        return tuple(_from_words(words) for words in texts if words)
    steps = []
    for table in given:
        name = table.get("step")
        if not isinstance(name, str):
            raise ConfigError("a step without a name: write step = NAME, such as whitenoise")
        steps.append((name, _step(name, {k: v for k, v in table.items() if k != "step"})))
    return tuple(steps)


def _from_words(words: Sequence[str]) -> tuple[str, Step]:
    name, *rest = words
    values = [word for word in rest if "=" not in word]
    named = {word.split("=", 1)[0]: _value(word.split("=", 1)[1]) for word in rest if "=" in word}
    positions = _kind(name).positions
    if len(values) > len(positions):
        raise ConfigError(f"step {name}: takes {', '.join(positions)}: leave the rest out")
    return name, _step(name, dict(zip(positions, values, strict=False)) | named)


def _value(text: str) -> str | tuple[str, ...]:
    return tuple(text.split("..", 1)) if ".." in text else text


def _kind(name: str) -> type[Step]:
    if name not in DEGRADATIONS:
        raise ConfigError(f"no step is called {name!r}: take {', '.join(DEGRADATIONS)}")
    return DEGRADATIONS[name]


def _step(name: str, settings: Mapping[str, Any]) -> Step:
    kind = _kind(name)
    try:
        return kind.model_validate(settings)
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(str(part) for part in problem["loc"][:1])
        known = ", ".join(kind.model_fields)
        raise ConfigError(f"step {name}, {key}: {problem['msg']}; it knows {known}") from None


def degrade(
    clean: Waveform,
    sample_rate: int,
    pipeline: Pipeline,
    rng: np.random.Generator,
    sounds: Sounds | None = None,
) -> Sound:
    """Returns a clean sound (T,) after all steps, with what it should be restored to.

    Raises:
        ConfigError: a step needs recordings and there are none.
    """
    sound = Sound(clean, clean, sample_rate)
    for name, step in pipeline:
        taken = rng.random() < step.chance
        values = step.draw(rng)  # in any case, so that a chance moves no later draw
        if taken:
            degraded, target = step.apply(sound, values, sounds or NoSounds())
            drawn = (*sound.drawn, (name, values))
            sound = Sound(degraded, target, sample_rate, drawn)
    return sound


def rate_of(pipeline: Pipeline) -> int | None:
    """Returns the rate that the first step names for its target, Hz; None where none does."""
    rates = (getattr(step, "high_hz", 0) or getattr(step, "rate_hz", 0) for _, step in pipeline)
    return next((round(rate) for rate in rates if rate), None)
