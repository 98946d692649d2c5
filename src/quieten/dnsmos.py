"""DNSMOS P.835: how people would rate speech, noise and the whole, guessed without a reference.

Reddy, Gopal, Cutler, "DNSMOS P.835: a non-intrusive perceptual objective speech quality metric to
evaluate noise suppressors", ICASSP 2022. The network lies as an ONNX file in the package
`speechmos`; it is run from there, and the package itself is never imported.
"""

from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from quieten.errors import AudioError, MissingExtra

Waveform = NDArray[np.floating]

SAMPLE_RATE = 16_000
WINDOW_S = 9.01
NETWORK = Path("dnsmos_models", "sig_bak_ovr.onnx")
# What the network gives -> mean opinion score, highest power first; published with the paper.
CALIBRATION = {
    "sig": (-0.08397278, 1.22083953, 0.0052439),
    "bak": (-0.13166888, 1.60915514, -0.39604546),
    "ovrl": (-0.06766283, 1.11546468, 0.04602535),
}


class Dnsmos(NamedTuple):
    """Mean opinion scores from 1 to 5: of the speech, of the background, of the whole."""

    sig: float
    bak: float
    ovrl: float


def dnsmos(waveform: Waveform, sample_rate: int) -> Dnsmos:
    """Returns the mean scores over windows of 9.01 s, one every second; the last result is kept.

    What is shorter than a window is repeated until it fills one. Level matters to the network:
    the sound is taken as it is, full scale 1.

    Args:
        waveform: (T,).
        sample_rate: must be 16000 Hz.

    Raises:
        MissingExtra: the package that holds the network is not installed.
        AudioError: another rate, another shape, no sample, NaN or infinity.
    """
    if waveform.ndim != 1 or waveform.size == 0:
        raise AudioError(f"DNSMOS wants one channel (T,) with sound, not {waveform.shape}")
    if sample_rate != SAMPLE_RATE:
        raise AudioError(f"DNSMOS wants {SAMPLE_RATE} Hz, not {sample_rate}: resample first")
    if not np.isfinite(waveform).all():
        raise AudioError("the sound holds NaN or infinity: repair it first")
    return _score(str(_network()), waveform.astype(np.float32).tobytes())


@lru_cache(maxsize=1)  # three metrics ask for the same sound, one after the other
def _score(network: str, samples: bytes) -> Dnsmos:
    session = _session(network)
    windows = _windows(np.frombuffer(samples, np.float32))
    raw = np.array([session.run(None, {"input_1": window[None]})[0][0] for window in windows])
    scores = [np.polyval(CALIBRATION[name], raw[:, i]) for i, name in enumerate(Dnsmos._fields)]
    return Dnsmos(*(float(np.mean(score)) for score in scores))


def _windows(samples: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    length = int(WINDOW_S * SAMPLE_RATE)
    while samples.size < length:
        samples = np.concatenate([samples, samples])  # doubled, as published
    count = int(samples.size // SAMPLE_RATE - WINDOW_S) + 1
    starts = [second * SAMPLE_RATE for second in range(count)]
    # The published code ends windows by this expression and skips those that rounding makes one
    # sample short (those of seconds 7 to 23, among others): skipped here too, for equal figures.
    ends = [int((second + WINDOW_S) * SAMPLE_RATE) for second in range(count)]
    pairs = zip(starts, ends, strict=True)
    return [samples[start:end] for start, end in pairs if min(end, samples.size) - start >= length]


@lru_cache(maxsize=2)
def _session(network: str) -> Any:
    import onnxruntime as ort  # here, since it takes a third of a second that --help need not pay

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(network, options, providers=["CPUExecutionProvider"])


def _network() -> Path:
    found = find_spec("speechmos")  # looks, and does not import: its imports are not declared
    for folder in (found and found.submodule_search_locations) or ():
        if (path := Path(folder) / NETWORK).is_file():
            return path
    raise MissingExtra("eval", "DNSMOS")
