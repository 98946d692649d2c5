"""Measures of a denoised sound, most of them against the clean one: (denoised, clean, sample_rate).

All take float arrays of shape (T,), delay compensated, full scale 1, and return one number.
`METRICS` names them all; the sets below it say which need no clean sound and which way is better.
What cannot be computed raises an AudioError that says why; no metric returns NaN.
"""

import contextlib
import warnings
from collections.abc import Callable, Iterator

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from quieten.dnsmos import dnsmos
from quieten.errors import AudioError, MissingExtra
from quieten.loudness import loudness

Waveform = NDArray[np.floating]
Doubles = NDArray[np.float64]
Metric = Callable[[Waveform, Waveform, int], float]

SEGMENT_S = 0.032
SEGMENT_RANGE_DB = (-10.0, 35.0)
SPEECH_RANGE_DB = 40.0  # frames further below the loudest one count as pauses, as in STOI
LSD_FFT, LSD_HOP = 1024, 256
LSD_BLOCK = 1024  # frames at once: bounds memory for long sounds
LSD_FLOOR = 1e-8  # of |S|^2: -80 dB re one, with a window whose sum is 512
STOI_SHORTEST_S = 0.4  # 30 frames of 256 samples every 128 at 10 kHz
# The code of P.862 has room for 50 stretches of speech and writes beyond it where there are more,
# which ends the process; running speech has about 30 in a minute.
PESQ_LONGEST_S = 60
DELAY_REACH_S = 0.5
FULL_SCALE = 1 - 2**-15  # the largest value of a 16-bit file
CLIP_RUN = 3


def snr_db(denoised: Waveform, clean: Waveform, sample_rate: int = 0) -> float:
    """Returns the energy of `clean` over that of the difference, in dB.

    Raises:
        AudioError: the sounds cannot be compared, see `checked`.
    """
    denoised, clean = checked(denoised, clean)
    error = float(np.sum((denoised - clean) ** 2))
    return ratio_db(float(np.sum(clean**2)), error)


def nsr(denoised: Waveform, clean: Waveform, sample_rate: int = 0) -> float:
    """Returns the energy of the difference over that of `clean`, as a ratio; lower is better.

    Raises:
        AudioError: the sounds cannot be compared, see `checked`.
    """
    denoised, clean = checked(denoised, clean)
    return float(np.sum((denoised - clean) ** 2) / np.sum(clean**2))


def nsr_db(denoised: Waveform, clean: Waveform, sample_rate: int = 0) -> float:
    """Returns `nsr` in dB, which is minus `snr_db`; lower is better.

    Raises:
        AudioError: the sounds cannot be compared, see `checked`.
    """
    return -snr_db(denoised, clean)


def si_sdr_db(denoised: Waveform, clean: Waveform, sample_rate: int = 0) -> float:
    """Returns the scale-invariant signal-to-distortion ratio in dB.

    Le Roux et al., "SDR - half-baked or well done?", 2019; means are removed first.

    Raises:
        AudioError: the sounds cannot be compared, see `checked`, or `clean` is constant.
    """
    denoised, clean = checked(denoised, clean)
    denoised, clean = denoised - denoised.mean(), clean - clean.mean()
    energy = float(clean @ clean)
    if energy == 0.0:
        raise AudioError("the clean sound is silent: there is nothing to compare with")
    target = clean * (float(denoised @ clean) / energy)
    return ratio_db(float(target @ target), float(np.sum((denoised - target) ** 2)))


def segmental_snr_db(denoised: Waveform, clean: Waveform, sample_rate: int) -> float:
    """Returns the mean SNR of frames of 32 ms every 16 ms, each limited to -10 to 35 dB.

    Hansen and Pellom, "An effective quality evaluation protocol for speech enhancement
    algorithms", ICSLP 1998. Frames are not windowed. Pauses, where `clean` is more than 40 dB
    below its loudest frame, are left out: they would only add the lower limit.

    Raises:
        AudioError: the sounds cannot be compared, see `checked`, or are shorter than a frame.
    """
    denoised, clean = checked(denoised, clean)
    length = round(SEGMENT_S * _known(sample_rate))
    _need(clean, length, "segmental SNR")
    hop = max(length // 2, 1)
    energy, error = (_energies(_frames(sound, length, hop)) for sound in (clean, denoised - clean))
    speech = energy > energy.max() * 10 ** (-SPEECH_RANGE_DB / 10)
    ratios_db = 10 * np.log10(energy[speech] / np.maximum(error[speech], 1e-30))
    return float(np.clip(ratios_db, *SEGMENT_RANGE_DB).mean())


def lsd(denoised: Waveform, clean: Waveform, sample_rate: int = 0) -> float:
    """Returns the log-spectral distance; lower is better, 1.0 is a constant error of 10 dB.

    The mean over frames of sqrt(mean over bins of (log10 |S|^2 - log10 |D|^2)^2): log10 of power
    WITHOUT a factor 10, the scaling of Kuleshov et al., "Audio super resolution using neural
    networks", 2017, and of those who follow it; times ten it is in dB. S and D are unnormalised
    spectra of 1024 samples every 256 under a periodic Hann window; powers below 1e-8 count as
    1e-8. Frames that the sound does not fill are left out.

    Raises:
        AudioError: the sounds cannot be compared, see `checked`, or are shorter than a frame.
    """
    denoised, clean = checked(denoised, clean)
    _need(clean, LSD_FFT, "LSD")
    pairs = _frames(clean, LSD_FFT, LSD_HOP), _frames(denoised, LSD_FFT, LSD_HOP)  # (N, n_fft)
    distances = []
    for start in range(0, len(pairs[0]), LSD_BLOCK):
        before, after = (_log_powers(frames[start : start + LSD_BLOCK]) for frames in pairs)
        distances.append(np.sqrt(np.square(before - after).mean(axis=-1)))
    return float(np.concatenate(distances).mean())


def stoi(denoised: Waveform, clean: Waveform, sample_rate: int) -> float:
    """Returns the short-time objective intelligibility, about 0 to 1.

    Taal et al., "An algorithm for intelligibility prediction of time-frequency weighted noisy
    speech", 2011, as pystoi computes it.

    Raises:
        MissingExtra: pystoi is not installed.
        AudioError: the sounds cannot be compared, see `checked`, or hold less than 0.4 s of speech.
    """
    return _intelligibility(denoised, clean, sample_rate, extended=False)


def estoi(denoised: Waveform, clean: Waveform, sample_rate: int) -> float:
    """Returns the extended STOI, which also hears modulated noise, about 0 to 1.

    Jensen and Taal, "An algorithm for predicting the intelligibility of speech masked by modulated
    noise maskers", 2016, as pystoi computes it.

    Raises:
        MissingExtra: pystoi is not installed.
        AudioError: the sounds cannot be compared, see `checked`, or hold less than 0.4 s of speech.
    """
    return _intelligibility(denoised, clean, sample_rate, extended=True)


def pesq_nb(denoised: Waveform, clean: Waveform, sample_rate: int) -> float:
    """Returns the narrow-band PESQ score, 1 to 4.55 (ITU-T P.862 and P.862.1).

    Raises:
        MissingExtra: pesq is not installed.
        AudioError: the sounds cannot be compared, see `checked`, the rate is neither 8 nor
            16 kHz, no speech is found, or it is longer than 60 s.
    """
    return _pesq(denoised, clean, sample_rate, "nb")


def pesq_wb(denoised: Waveform, clean: Waveform, sample_rate: int) -> float:
    """Returns the wide-band PESQ score, 1 to 4.64 (ITU-T P.862.2).

    Raises:
        MissingExtra: pesq is not installed.
        AudioError: the sounds cannot be compared, see `checked`, the rate is not 16 kHz, no
            speech is found, or it is longer than 60 s.
    """
    return _pesq(denoised, clean, sample_rate, "wb")


def dnsmos_sig(denoised: Waveform, clean: Waveform, sample_rate: int) -> float:
    """Returns the DNSMOS of the speech, 1 to 5; `clean` is not looked at. See `dnsmos.dnsmos`."""
    return dnsmos(denoised, sample_rate).sig


def dnsmos_bak(denoised: Waveform, clean: Waveform, sample_rate: int) -> float:
    """Returns the DNSMOS of the background, 1 to 5; `clean` is not looked at."""
    return dnsmos(denoised, sample_rate).bak


def dnsmos_ovrl(denoised: Waveform, clean: Waveform, sample_rate: int) -> float:
    """Returns the DNSMOS of the whole, 1 to 5; `clean` is not looked at."""
    return dnsmos(denoised, sample_rate).ovrl


def delay(denoised: Waveform, clean: Waveform, sample_rate: int) -> int:
    """Returns by how many samples `denoised` lags behind `clean`; negative where it is ahead.

    It is where the cross-correlation is largest in magnitude (a sound may come back upside down),
    at most half a second either way; means are removed first.

    Raises:
        AudioError: the sounds cannot be compared, see `checked`, or one of them is constant.
    """
    denoised, clean = checked(denoised, clean)
    denoised, clean = denoised - denoised.mean(), clean - clean.mean()
    if not (np.any(denoised) and np.any(clean)):
        raise AudioError("a silent sound has no delay: give one that holds speech")
    reach = min(round(DELAY_REACH_S * _known(sample_rate)), clean.size - 1)
    n_fft = 1 << (clean.size + reach - 1).bit_length()
    product = np.fft.rfft(denoised, n_fft) * np.conj(np.fft.rfft(clean, n_fft))
    correlation = np.abs(np.fft.irfft(product, n_fft))
    lags = np.arange(-reach, reach + 1)
    return int(lags[np.argmax(correlation[lags])])  # negative lags lie at the end


def delay_ms(denoised: Waveform, clean: Waveform, sample_rate: int) -> float:
    """Returns `delay` in milliseconds.

    Raises:
        AudioError: the sounds cannot be compared, see `checked`, or one of them is constant.
    """
    return 1000.0 * delay(denoised, clean, sample_rate) / sample_rate


def clipped_samples(denoised: Waveform, clean: Waveform, sample_rate: int = 0) -> float:
    """Returns how many samples are clipped; `clean` is not looked at.

    Counted are the samples at or beyond full scale (32767/32768, the largest of a 16-bit file)
    that stand in a row of three or more of one sign: a lone peak at full scale is no damage.

    Raises:
        AudioError: not one channel, NaN or infinity.
    """
    del clean
    _check(denoised)
    total = 0
    for side in (denoised >= FULL_SCALE, denoised <= -FULL_SCALE):
        edges = np.flatnonzero(np.diff(side, prepend=False, append=False))
        runs = edges[1::2] - edges[::2]
        total += int(runs[runs >= CLIP_RUN].sum())
    return float(total)


def loudness_lufs(denoised: Waveform, clean: Waveform, sample_rate: int) -> float:
    """Returns the loudness after ITU-R BS.1770-4; `clean` is not looked at. See `loudness`."""
    return loudness(denoised, sample_rate)


METRICS: dict[str, Metric] = {
    "snr_db": snr_db,
    "nsr": nsr,
    "nsr_db": nsr_db,
    "si_sdr_db": si_sdr_db,
    "segmental_snr_db": segmental_snr_db,
    "lsd": lsd,
    "stoi": stoi,
    "estoi": estoi,
    "pesq_nb": pesq_nb,
    "pesq_wb": pesq_wb,
    "dnsmos_sig": dnsmos_sig,
    "dnsmos_bak": dnsmos_bak,
    "dnsmos_ovrl": dnsmos_ovrl,
    "delay_ms": delay_ms,
    "clipped_samples": clipped_samples,
    "loudness_lufs": loudness_lufs,
}
# Those that do not look at `clean`, so that any array may stand in for it.
NO_REFERENCE = frozenset(
    {"dnsmos_sig", "dnsmos_bak", "dnsmos_ovrl", "clipped_samples", "loudness_lufs"}
)
LOWER_IS_BETTER = frozenset({"nsr", "nsr_db", "lsd"})
NEUTRAL = frozenset({"delay_ms", "clipped_samples", "loudness_lufs"})  # neither way is better


def checked(denoised: Waveform, clean: Waveform) -> tuple[Doubles, Doubles]:
    """Returns both as float64 (T,), fit to be compared.

    Raises:
        AudioError: the shapes differ or are not (T,), a sample is NaN or infinite, or the clean
            sound is silent.
    """
    if denoised.shape != clean.shape or denoised.ndim != 1:
        raise AudioError(
            f"cannot compare shapes {denoised.shape} and {clean.shape}: both must be (T,), aligned"
        )
    _check(denoised, "denoised")
    _check(clean, "clean")
    if not np.any(clean):
        raise AudioError("the clean sound is silent: there is nothing to compare with")
    return denoised.astype(np.float64), clean.astype(np.float64)


def ratio_db(signal: float, error: float) -> float:
    """Returns signal over error in dB; infinite where there is no error."""
    if error == 0.0:
        return float("inf")
    return 10 * float(np.log10(max(signal, 1e-30) / error))


def _check(waveform: Waveform, role: str = "denoised") -> None:
    if waveform.ndim != 1:
        raise AudioError(f"cannot measure shape {waveform.shape}: it must be one channel, (T,)")
    if not np.isfinite(waveform).all():
        raise AudioError(f"the {role} sound holds NaN or infinity: repair it first")


def _known(sample_rate: int) -> int:
    if sample_rate <= 0:
        raise AudioError(f"a sample rate of {sample_rate} Hz is none: give that of the sound")
    return sample_rate


def _need(clean: Doubles, length: int, purpose: str) -> None:
    if clean.size < length:
        raise AudioError(
            f"too short: {clean.size} samples, {purpose} wants {length}: give a longer sound"
        )


def _frames(waveform: Doubles, length: int, hop: int) -> Doubles:
    return sliding_window_view(waveform, length)[::hop]  # (N, length), full frames only


def _energies(frames: Doubles) -> Doubles:
    energies: Doubles = np.einsum("nt,nt->n", frames, frames)  # copies no frame, unlike squares
    return energies


def _log_powers(frames: Doubles) -> Doubles:
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(LSD_FFT) / LSD_FFT)
    power = np.square(np.abs(np.fft.rfft(frames * window)))  # (N, F)
    logs: Doubles = np.log10(np.maximum(power, LSD_FLOOR))
    return logs


def _intelligibility(
    denoised: Waveform, clean: Waveform, sample_rate: int, *, extended: bool
) -> float:
    try:
        from pystoi import stoi as reference
    except ImportError:
        raise MissingExtra("eval", "STOI") from None
    denoised, clean = checked(denoised, clean)
    _need(clean, round(STOI_SHORTEST_S * _known(sample_rate)), "STOI")
    with warnings.catch_warnings(), _same_dither():
        warnings.simplefilter("ignore", RuntimeWarning)
        score = float(reference(clean, denoised, sample_rate, extended=extended))
    if score == 1e-5 or not np.isfinite(score):  # what pystoi gives, with a warning, for too little
        raise AudioError("STOI found less than 0.4 s of speech: give a longer sound")
    return score


@contextlib.contextmanager
def _same_dither() -> Iterator[None]:
    """pystoi dithers ESTOI from numpy's global generator, which digital silence makes audible."""
    state = np.random.get_state()
    np.random.seed(0)
    try:
        yield
    finally:
        np.random.set_state(state)


def _pesq(denoised: Waveform, clean: Waveform, sample_rate: int, band: str) -> float:
    try:
        from pesq import PesqError, pesq
    except ImportError:
        raise MissingExtra("pesq", "PESQ") from None
    denoised, clean = checked(denoised, clean)
    rates, name = {"wb": ((16_000,), "wide"), "nb": ((8000, 16_000), "narrow")}[band]
    if sample_rate not in rates:
        wanted = " or ".join(str(rate) for rate in rates)
        raise AudioError(f"{name}-band PESQ wants {wanted} Hz, not {sample_rate}: resample first")
    if clean.size > PESQ_LONGEST_S * sample_rate:
        raise AudioError(f"PESQ is for sounds of up to {PESQ_LONGEST_S} s: cut this one")
    try:
        return float(pesq(sample_rate, clean, denoised, band))
    except PesqError as error:
        reason = error.args[0] if error.args else type(error).__name__
        reason = reason.decode() if isinstance(reason, bytes) else reason
        raise AudioError(f"PESQ found nothing to score ({reason}): give longer speech") from None
    except ValueError:  # NaN, on its way to an integer
        raise AudioError("PESQ cannot score silence: check what the denoiser gave") from None
