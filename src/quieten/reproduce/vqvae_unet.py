"""System 1, the VQ-VAE U-Net with squeeze-and-excitation for 8 kHz speech: benchmarks E and H.

E is the noise that the authors' published examples really have, H what their published table
says taken literally. Every figure compares a sound with the clean one that it was made from.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from quieten import runtime
from quieten.baselines import oracle_mask
from quieten.denoise import Denoiser
from quieten.errors import ConfigError, MissingExtra
from quieten.evaluation.tables import Json
from quieten.reproduce.clips import LONGEST_S, SHORTEST_S, Clip, add_white_noise, read_clips
from quieten.reproduce.pitfalls import measure_pitfalls
from quieten.reproduce.references import known_noise_log_mmse
from quieten.reproduce.rows import Method, Pair, Row, measure

Waveform = NDArray[np.float32]
OpenTorch = Callable[[Path, str], Callable[[Waveform], Waveform]]
"""Takes a .safetensors file and the name of an ablation, "" for none, to what denoises (T,)."""

SAMPLE_RATE = 8000
CONDITIONS = {"E": 9.7, "H": -5.47}
"""Condition -> SNR over the whole clip, dB. NSR: 0.107 and 3.52."""
WEIGHTS = {"ours": "telephone", "paper": "telephone-paper", "best_without_vq": "telephone-no-vq"}
"""Method -> the model of that name among the installed weights."""
ABLATIONS = {
    "ours_latent_zeroed": "latent_zeroed",
    "ours_latent_shuffled": "latent_shuffled",
    "ours_skips_zeroed": "skips_zeroed",
}
"""Method -> what is done to the network of `ours` while it runs."""
METHODS = (
    "noisy",
    "logmmse",
    "logmmse_known_level",
    "oracle_mask",
    "paper",
    "ours",
    *ABLATIONS,
    "best_without_vq",
)

PUBLISHED = {
    "noisy": {"stoi": 0.248, "pesq_nb": 1.178, "nsr": 3.520},
    "denoised": {"stoi": 0.852, "pesq_nb": 2.477, "nsr": 0.052},
}
WHY_NOT_COMPARABLE = (
    "the published noisy row compares different utterances (one clean clip with the noisy "
    "versions of all others), the denoised row comes from one clip; no paired noise level gives "
    "a STOI of 0.248"
)


@dataclass(frozen=True)
class Reproduction:
    """What came out.

    Attributes:
        clips: how many clips were measured.
        files: how many files they come from.
        rows: a row for each condition and method, in the order of `CONDITIONS` and `METHODS`.
        pitfalls: what the original's mistakes alone do to figures: see `measure_pitfalls`.
    """

    clips: int
    files: int
    rows: tuple[Row, ...]
    pitfalls: tuple[Row, ...]

    def to_json(self) -> Json:
        """Returns {"rows": ..., "pitfalls": ..., "published": ...} for `json.dump`."""
        published = [{"method": name, **scores} for name, scores in PUBLISHED.items()]
        return {
            "system": "vqvae_unet",
            "clips": self.clips,
            "files": self.files,
            "snr_db": CONDITIONS,
            "rows": [row.to_json() for row in self.rows],
            "pitfalls": [row.to_json() for row in self.pitfalls],
            "published": {"rows": published, "why_not_comparable": WHY_NOT_COMPARABLE},
        }

    def describe(self) -> str:
        """Returns one line that says what the clips are."""
        return (
            f"{self.clips} clips from {self.files} files, {SHORTEST_S} to {LONGEST_S} s at "
            f"{SAMPLE_RATE} Hz; longer files are cut into equal pieces, shorter ones left out"
        )


def reproduce(
    data: Path,
    open_torch: OpenTorch,
    *,
    weights: Mapping[str, Path] | None = None,
    limit: int | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> Reproduction:
    """Measures all methods under both conditions.

    Args:
        data: a folder of clean speech of speakers that no model has heard.
        open_torch: for what ONNX files cannot do; where it raises MissingExtra, the row stays
            empty.
        weights: method (a key of `WEIGHTS`) -> .onnx or .safetensors file, in the place of the
            installed one.
        limit: at most this many clips.
        progress: called with (clips done, clips in all, method).

    Raises:
        ConfigError: there is no speech, `weights` names another method or no file, or a
            .safetensors file is broken.
        AudioError: a file cannot be read.
        ModelError: an .onnx file is broken.
        MissingExtra: scipy is not installed.
    """
    found = find_weights(weights or {})
    clips = read_clips(data, SAMPLE_RATE, limit)
    methods = {name: open_method(name, found, open_torch) for name in METHODS}
    runnable = sum(not isinstance(method, str) for method in methods.values())
    total, steps = len(clips) * len(CONDITIONS) * runnable, count(1)

    def row(condition: str, name: str) -> Row:
        method = methods[name]
        if isinstance(method, str):
            return Row(condition, name, reason=method)
        advance = (lambda: progress(next(steps), total, name)) if progress else None
        return measure(condition, name, method, _pairs(clips, condition), advance)

    rows = tuple(row(condition, name) for condition in CONDITIONS for name in METHODS)
    files = {clip.file for clip in clips}
    return Reproduction(
        len(clips), len(files), rows, measure_pitfalls(clips, SAMPLE_RATE, CONDITIONS)
    )


def _pairs(clips: Sequence[Clip], condition: str) -> Iterator[Pair]:
    stream = list(CONDITIONS).index(condition)
    for clip in clips:
        yield Pair(add_white_noise(clip, CONDITIONS[condition], stream), clip.clean, SAMPLE_RATE)


def find_weights(given: Mapping[str, Path]) -> dict[str, Path]:
    """Returns method -> file of weights, as far as there is one.

    A file that was given counts, else the installed model of that name: ONNX before safetensors.

    Raises:
        ConfigError: a method has no weights, or a file is not there.
    """
    for method, path in given.items():
        if method not in WEIGHTS:
            raise ConfigError(f"weights of {method}: choose among {', '.join(WEIGHTS)}")
        if not path.is_file() or path.suffix not in (".onnx", ".safetensors"):
            raise ConfigError(f"weights of {method}: {path}: name an .onnx or .safetensors file")
    installed = {
        method: file
        for method, name in WEIGHTS.items()
        for suffix in (".safetensors", ".onnx")  # the last one found counts
        if (file := runtime.WEIGHTS / f"{name}{suffix}").is_file()
    }
    return installed | dict(given)


def open_method(name: str, weights: Mapping[str, Path], open_torch: OpenTorch) -> Method | str:
    """Returns the method of that name, or why it cannot be run here.

    Args:
        name: one of `METHODS`.
        weights: method -> file, see `find_weights`.
        open_torch: see `reproduce`.

    Raises:
        ModelError: an .onnx file is broken.
        ConfigError: a .safetensors file is broken.
    """
    if name in _WITHOUT_WEIGHTS:
        return _WITHOUT_WEIGHTS[name]
    ablation = ABLATIONS.get(name, "")
    owner = "ours" if ablation else name
    path = weights.get(owner)
    if path is None:
        return f"no weights: give --weights {owner}=FILE, or install {WEIGHTS[owner]}"
    if not ablation and path.suffix == ".onnx":
        return _onnx(path)
    network = path.with_suffix(".safetensors")
    if not network.is_file():
        return f"needs the network as well: {network.name} is not beside {path.name}"
    try:
        denoise = open_torch(network, ablation)
    except (MissingExtra, ConfigError) as error:
        if isinstance(error, ConfigError) and not ablation:
            raise
        return str(error)
    return lambda noisy, clean: denoise(noisy)


def _onnx(path: Path) -> Method:
    denoiser = Denoiser(path)
    return lambda noisy, clean: denoiser(noisy, SAMPLE_RATE).astype(np.float32, copy=False)


def _noisy(noisy: Waveform, clean: Waveform) -> Waveform:
    return noisy


def _log_mmse(noisy: Waveform, clean: Waveform) -> Waveform:
    return Denoiser("logmmse")(noisy, SAMPLE_RATE).astype(np.float32, copy=False)


def _known_log_mmse(noisy: Waveform, clean: Waveform) -> Waveform:
    return known_noise_log_mmse(noisy, noisy - clean, SAMPLE_RATE)


def _oracle_mask(noisy: Waveform, clean: Waveform) -> Waveform:
    return oracle_mask(noisy, clean, SAMPLE_RATE)


_WITHOUT_WEIGHTS: dict[str, Method] = {
    "noisy": _noisy,
    "logmmse": _log_mmse,
    "logmmse_known_level": _known_log_mmse,
    "oracle_mask": _oracle_mask,
}
