"""Classical denoisers beside the models: what a network has to beat, and what bounds it.

Each gives one real gain for each bin and frame, knows the past only and keeps its memory in an
explicit state, so `Denoiser("logmmse")`, streams and files treat it like a model; the frames are
those of `denoise.py`. `oracle_mask` is no denoiser: it needs the clean sound and shows the ceiling.
Gains depend on ratios of power alone, so level does not matter. numpy is all they need.
Letters: B signals, N frames, F bins; powers and gains are float32 (B, F), one frame of them.
"""

import os
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quieten.errors import AudioError
from quieten.runtime import Array, MaskModel, ModelInfo, State, check_threads, load
from quieten.stft import Waveform, istft, stft

Floats = NDArray[np.floating[Any]]
Step = Callable[[Array, State], tuple[Array, State]]  # power of a frame -> its gains, new memory

SAMPLE_RATE = 16_000
N_FFT, HOP = 512, 256  # 32 ms every 16 ms

TINY = np.float32(1e-20)  # power of a bin; far below one bin of 24-bit rounding noise
MOST_SNR = np.float32(1e4)  # 40 dB; beyond it a bin stays as it is anyway

CUTOFF_HZ, ORDER = 4000.0, 4

# What is tuned was tuned on validation mixtures of speech with nine noises, -5 to 15 dB.
FIRST_FRAMES = 3  # their mean starts the noise; more would take early speech for it
NOISE_MEMORY, PRESENCE_MEMORY = 0.8, 0.9
SPEECH_SNR = 10.0**1.5  # 15 dB: what speech has, where there is speech

PRIORI_MEMORY = 0.95  # 0.98 in the paper, whose frames come twice as often
LEAST_PRIORI = 10.0**-1.5  # -15 dB; lower ones let single bins flicker: musical noise
LEAST_GAIN = np.float32(10.0 ** (-16 / 20))  # what is left of noise masks the rest of it

GATE_THRESHOLD = np.float32(10.0 ** (8 / 10))  # 8 dB above the noise
GATE_WIDTH_HZ = 100.0
GATE_MEMORY = np.float32(0.5)


def exponential_integral(x: Floats) -> Floats:
    """Returns E1(x), the integral of exp(-t) / t from x > 0 to infinity, element by element.

    Polynomial and rational approximations 5.1.53 and 5.1.56 of Abramowitz & Stegun, "Handbook of
    Mathematical Functions", 1964: the absolute error is below 3e-7.
    """
    low = np.minimum(x, 1.0)  # each formula is evaluated where it holds
    below = _polynomial(low, *_E1_BELOW) - np.log(low)
    high = np.maximum(x, 1.0)
    ratio = _polynomial(high, *_E1_ABOVE) / _polynomial(high, *_E1_DIVISOR)
    result: Floats = np.where(x <= 1, below, np.exp(-high) / high * ratio)
    return result


_E1_BELOW = (-0.57721566, 0.99999193, -0.24991055, 0.05519968, -0.00976004, 0.00107857)
_E1_ABOVE = (0.2677737343, 8.6347608925, 18.0590169730, 8.5733287401, 1.0)
_E1_DIVISOR = (3.9584969228, 21.0996530827, 25.6329561486, 9.5733223454, 1.0)


def _polynomial(x: Floats, *coefficients: float) -> Floats:
    """Returns the sum of coefficients[i] * x**i."""
    total = np.full_like(x, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        total *= x
        total += coefficient
    return total


def wiener_gain(a_priori: Floats, a_posteriori: Floats) -> Floats:
    """Returns the gain of least squared error of the spectrum, a_priori / (1 + a_priori).

    Args:
        a_priori: expected power of speech over that of noise, of any shape.
        a_posteriori: power of the noisy bin over that of noise; it plays no part here.
    """
    return a_priori / (1 + a_priori)


def log_mmse_gain(a_priori: Floats, a_posteriori: Floats) -> Floats:
    """Returns the gain of least squared error of the logarithm of the amplitude.

    Ephraim & Malah, "Speech enhancement using a minimum mean-square error log-spectral amplitude
    estimator", 1985, equation 20.

    Args:
        a_priori: expected power of speech over that of noise, of any shape, > 0.
        a_posteriori: power of the noisy bin over that of noise, >= 0.
    """
    share = a_priori / (1 + a_priori)
    correction: Floats = np.exp(0.5 * exponential_integral(np.maximum(share * a_posteriori, 1e-9)))
    return share * correction


def track_noise(power: Array, state: State) -> State:
    """Returns the state `noise`, `presence`, `frames` after a frame of that power (B, F).

    Gerkmann & Hendriks, "Unbiased MMSE-based noise power estimation with low complexity and low
    tracking delay", 2012, with its constants. The highest peaks of noise count as speech, so it is
    found about 1 dB too low. Digital silence says nothing about noise: bins without power leave
    it as it is.
    """
    noise, frames = state["noise"], state["frames"]
    ratio = np.minimum(power / np.maximum(noise, TINY), MOST_SNR)
    odds = (1 + SPEECH_SNR) * np.exp(-ratio * (SPEECH_SNR / (1 + SPEECH_SNR)))
    speech = 1 / (1 + odds)
    presence = PRESENCE_MEMORY * state["presence"] + (1 - PRESENCE_MEMORY) * speech
    speech = np.where(presence > 0.99, np.minimum(speech, 0.99), speech)  # never stagnates
    starting = frames < FIRST_FRAMES
    weight = np.where(starting, 1 / (frames + 1), (1 - NOISE_MEMORY) * (1 - speech))
    tracked = {
        "noise": np.where(power > 0, noise + weight * (power - noise), noise),
        "presence": presence,
        "frames": frames + (starting & power.any(axis=-1, keepdims=True)),
    }
    return {name: value.astype(np.float32, copy=False) for name, value in tracked.items()}


def _estimator(gain_rule: Callable[[Floats, Floats], Floats]) -> Step:
    """Returns the step of a rule on SNRs, the a-priori one decision-directed.

    Ephraim & Malah, "Speech enhancement using a minimum mean-square error short-time spectral
    amplitude estimator", 1984, equation 51.
    """

    def step(power: Array, state: State) -> tuple[Array, State]:
        tracked = track_noise(power, state)
        noise = np.maximum(tracked["noise"], TINY)
        a_posteriori = np.minimum(power / noise, MOST_SNR)
        before = np.minimum(state["speech"] / noise, MOST_SNR)
        now = np.maximum(a_posteriori - 1, 0)
        a_priori = PRIORI_MEMORY * before + (1 - PRIORI_MEMORY) * now
        gain = gain_rule(np.maximum(a_priori, LEAST_PRIORI), a_posteriori)
        gain = np.clip(gain, LEAST_GAIN, 1).astype(np.float32)
        return gain, {**tracked, "speech": np.square(gain) * power}

    return step


def _gate_step(power: Array, state: State) -> tuple[Array, State]:
    """Opens bins that stand out of the noise; smooth over frequency and time."""
    tracked = track_noise(power, state)
    threshold = np.maximum(tracked["noise"], TINY) * GATE_THRESHOLD
    opened = (power > threshold).astype(np.float32) @ _triangles(power.shape[-1])
    gate = GATE_MEMORY * state["gate"] + (1 - GATE_MEMORY) * opened
    return LEAST_GAIN + (1 - LEAST_GAIN) * gate, {**tracked, "gate": gate}


@lru_cache(maxsize=4)
def _triangles(n_bins: int) -> Array:
    """Returns weights (F, F) that average each bin with those within `GATE_WIDTH_HZ`."""
    hz = np.arange(n_bins) * SAMPLE_RATE / N_FFT
    weights = np.maximum(1 - np.abs(hz[:, None] - hz) / GATE_WIDTH_HZ, 0)
    triangles: Array = (weights / weights.sum(axis=0)).astype(np.float32)
    triangles.flags.writeable = False
    return triangles


def _constant(gain: Array) -> Step:
    """Returns the step that gives all frames the same gains (F,)."""
    return lambda power, state: (gain, state)


def _lowpass_gain() -> Array:
    """Returns what a Butterworth filter does forwards and backwards: |H|**2, no phase, (F,)."""
    hz = np.fft.rfftfreq(N_FFT, 1 / SAMPLE_RATE)
    return (1 / (1 + (hz / CUTOFF_HZ) ** (2 * ORDER))).astype(np.float32)


class Baseline:
    """A classical denoiser with the interface of `runtime.MaskModel`.

    Args:
        name: what it is called on the command line.
        step: takes the power of a frame (B, F) and the memory to its gains and the new memory.
        states: names of its memory, each (B, F), or (B, 1) for `frames`; zero at the start.
    """

    level_dependent = False

    def __init__(self, name: str, step: Step, states: Sequence[str] = ()) -> None:
        self._step, self._states = step, tuple(states)
        self.info = ModelInfo(
            name=name,
            family="baseline",
            version="1",
            sample_rate=SAMPLE_RATE,
            n_fft=N_FFT,
            hop_length=HOP,
            states=self._states,
            licence="MIT",
            parameters=0,
            scores={},
            path=None,
            size_bytes=0,
        )

    def initial_state(self, batch: int) -> State:
        """Returns the memory of `batch` signals before the first frame, by name."""
        sizes = {name: 1 if name == "frames" else N_FFT // 2 + 1 for name in self._states}
        return {name: np.zeros((batch, size), np.float32) for name, size in sizes.items()}

    def run(self, spectrum: Array, state: State) -> tuple[Array, State]:
        """Returns the mask (B, N, F, 2), real, for spectra of that shape, and the memory after."""
        power = np.square(spectrum).sum(axis=-1)  # (B, N, F)
        mask = np.zeros_like(spectrum)
        for frame in range(spectrum.shape[1]):
            mask[:, frame, :, 0], state = self._step(power[:, frame], state)
        return mask, state


_TRACKED = ("noise", "presence", "frames")

BASELINES: dict[str, Callable[[], MaskModel]] = {
    "identity": lambda: Baseline("identity", _constant(np.ones(N_FFT // 2 + 1, np.float32))),
    "lowpass": lambda: Baseline("lowpass", _constant(_lowpass_gain())),
    "wiener": lambda: Baseline("wiener", _estimator(wiener_gain), (*_TRACKED, "speech")),
    "logmmse": lambda: Baseline("logmmse", _estimator(log_mmse_gain), (*_TRACKED, "speech")),
    "spectral-gate": lambda: Baseline("spectral-gate", _gate_step, (*_TRACKED, "gate")),
}


def load_any(name_or_path: str | os.PathLike[str], threads: int = 1) -> MaskModel:
    """Returns the baseline or the model of that name, or the model in that file.

    Raises:
        ModelError: the name is unknown, or the file is not a model of quieten.
        ConfigError: `threads` is less than one.
    """
    make = BASELINES.get(os.fspath(name_or_path))
    if make is None:
        return load(name_or_path, threads, others=BASELINES)
    check_threads(threads)
    return make()


def oracle_mask(noisy: Waveform, clean: Waveform, sample_rate: int) -> Waveform:
    """Returns the noisy sound (T,) under the ideal ratio mask: about what gains can do at best.

    The gain of a bin is the root of the share that speech has in its power; the phase stays noisy.
    Wang, Narayanan & Wang, "On training targets for supervised speech separation", 2014.

    Args:
        noisy: (T,).
        clean: (T,), in step with it; the difference counts as noise.
        sample_rate: Hz; frames are 32 ms long.

    Raises:
        AudioError: the shapes differ, or a sample is no number.
    """
    if noisy.shape != clean.shape or noisy.ndim != 1:
        raise AudioError(
            f"cannot compare shapes {noisy.shape} and {clean.shape}: both must be (T,), aligned"
        )
    if not (np.isfinite(noisy).all() and np.isfinite(clean).all()):
        raise AudioError("a sample is NaN or infinite: repair the file first")
    hop = round(sample_rate * HOP / SAMPLE_RATE)
    spectra = [stft(sound, 2 * hop, hop) for sound in (noisy, clean, noisy - clean)]
    speech, noise = (np.square(np.abs(spectrum)) for spectrum in spectra[1:])
    both = speech + noise
    share = np.divide(speech, both, out=np.ones_like(both), where=both > 0)
    removed = istft((1 - np.sqrt(share)) * spectra[0], 2 * hop, hop, noisy.size)
    return noisy - removed
