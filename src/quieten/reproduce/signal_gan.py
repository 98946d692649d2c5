"""System 2, the lightweight GAN denoiser of short signals: sums of sines in noise, drawn afresh.

Two tables: the published data, whose target is the clean signal before it was turned down to be
mixed; and one to five sines of any phase and amplitude, whose target is as loud as in the mixture.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import numpy as np

from quieten import runtime
from quieten.errors import ConfigError, MissingExtra, ModelError
from quieten.evaluation.tables import Json
from quieten.reproduce.estimators import Method, Task, classical_methods, lowpass
from quieten.reproduce.signal_rows import SignalRow, score_signals
from quieten.sines import GENERAL, PAPER, Mixtures, Signals, SinesConfig

OpenModel = Callable[[Path, SinesConfig], Method]
"""Takes an .onnx file and the signals it is for, to what denoises them."""

SIGNALS, EXAMPLES, SEED = 2000, 8, (20261120, 7)
WEIGHTS = {"paper": "sines-paper", "ours": "sines", "general": "signals"}
"""Key of `--weights` -> the model of that name among the installed weights."""
TASKS = {"published": Task(PAPER), "general": Task(GENERAL, keeps_level=True)}
"""Table -> its signals; a model for any signal cannot know how loud they were before."""
TABLES = {"published": {"paper": "paper", "ours": "ours"}, "general": {"ours": "general"}}
"""Table -> its methods that are models -> their key of `WEIGHTS`."""
METHODS = (
    "noisy",
    "lowpass",
    "linear_mmse",
    "fft_threshold",
    "least_squares",
    "oracle_frequencies",
    "paper",
    "ours",
)

PUBLISHED = (
    "nothing to compare with: the original shows eight examples but gives no figures; comparable "
    "are its low-pass filter and its recipe, measured here on the same signals (rows lowpass and "
    "paper)"
)
NOTES = {
    "least_squares": "knows that the signals are sines and how many at most",
    "oracle_frequencies": "knows the true frequencies, but neither amplitudes nor phases",
}
"""Method -> what it knows that the others do not."""


@dataclass(frozen=True)
class Benchmark:
    """What came out.

    Attributes:
        signals: how many were measured in each table.
        tables: table -> its rows, in the order of `METHODS`.
    """

    signals: int
    tables: dict[str, tuple[SignalRow, ...]]

    def to_json(self) -> Json:
        """Returns {"rows": [...], "general": {"rows": [...]}, ...} for `json.dump`.

        "rows" are those of the published data.
        """
        return {
            "system": "signal_gan",
            "signals": self.signals,
            "seed": list(SEED),
            "rows": [row.to_json() for row in self.tables["published"]],
            "general": {"rows": [row.to_json() for row in self.tables["general"]]},
            "published": {"rows": [], "why_not_comparable": PUBLISHED},
        }

    def describe(self) -> str:
        """Returns one line that says what the signals are."""
        return (
            f"{self.signals} fresh signals of {PAPER.length} samples at {PAPER.sample_rate} Hz, "
            f"in white noise at {PAPER.snr_db[0]:g} dB"
        )


def run_benchmark(
    open_model: OpenModel,
    *,
    weights: Mapping[str, Path] | None = None,
    limit: int | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> Benchmark:
    """Measures all methods on both kinds of signals.

    Args:
        open_model: see `OpenModel`.
        weights: key of `WEIGHTS` -> .onnx file, in the place of the installed one.
        limit: only the first of the 2000 signals.
        progress: called with (methods done, methods in all, method).

    Raises:
        ConfigError: `weights` names another method or no file, or the limit is below 1.
        ModelError: a file is broken, or not for these signals.
    """
    found = find_weights(weights or {})
    number = signal_count(limit)
    total = sum(len(methods_of(table)) for table in TASKS)
    steps = count(1)
    tables = {}
    for table, task in TASKS.items():
        mixtures = draw_test_signals(task, number)
        methods = open_methods(table, found, open_model)
        rows = []
        for name, method in methods.items():
            if progress:
                progress(next(steps), total, name)
            rows.append(measure(name, method, mixtures))
        tables[table] = tuple(rows)
    return Benchmark(number, tables)


def signal_count(limit: int | None) -> int:
    """Returns how many signals are measured.

    Raises:
        ConfigError: the limit is below 1.
    """
    if limit is not None and limit < 1:
        raise ConfigError(f"a limit of {limit} signals: use 1 or more")
    return min(limit or SIGNALS, SIGNALS)


def draw_test_signals(task: Task, count: int = SIGNALS) -> Mixtures:
    """Returns the first of the 2000 test signals: always the same."""
    drawn = task.draw(np.random.default_rng(SEED), SIGNALS)
    return Mixtures(**{name: values[:count] for name, values in vars(drawn).items()})


def methods_of(table: str) -> tuple[str, ...]:
    """Returns the names of the methods of a table, in the order of `METHODS`."""
    models = TABLES[table]
    return tuple(name for name in METHODS if name in models or name not in WEIGHTS)


def find_weights(given: Mapping[str, Path]) -> dict[str, Path]:
    """Returns key of `WEIGHTS` -> file, as far as there is one: what was given, else installed.

    Raises:
        ConfigError: a key is none of them, or a file is not there.
    """
    for key, path in given.items():
        if key not in WEIGHTS:
            raise ConfigError(f"weights of {key}: choose among {', '.join(WEIGHTS)}")
        if not path.is_file() or path.suffix != ".onnx":
            raise ConfigError(f"weights of {key}: {path}: name an .onnx file (quieten export)")
    files = {key: runtime.WEIGHTS / f"{name}.onnx" for key, name in WEIGHTS.items()}
    return {key: path for key, path in files.items() if path.is_file()} | dict(given)


def open_methods(
    table: str, weights: Mapping[str, Path], open_model: OpenModel
) -> dict[str, Method | str]:
    """Returns name -> method of a table, or why it cannot be run here, in the order of `METHODS`.

    Raises:
        ModelError: a file is broken, or not for these signals.
    """
    task = TASKS[table]
    methods: dict[str, Method | str] = dict(classical_methods(task))
    for name, key in TABLES[table].items():
        if key in weights:
            methods[name] = open_model(weights[key], task.config)
        else:
            methods[name] = f"no weights: give --weights {key}=FILE, or install {WEIGHTS[key]}"
    return {name: methods[name] for name in methods_of(table)}


def measure(name: str, method: Method | str, mixtures: Mixtures) -> SignalRow:
    """Returns the row of a method, or of why it cannot be run.

    Raises:
        ModelError: the method gave signals of another shape, or what is no number.
    """
    if isinstance(method, str):
        return SignalRow(name, reason=method)
    try:
        denoised = method(mixtures)
    except MissingExtra as error:
        return SignalRow(name, reason=str(error))
    if denoised.shape != mixtures.clean.shape or not np.isfinite(denoised).all():
        raise ModelError(f"{name} gave shape {denoised.shape} or no numbers: check its weights")
    return score_signals(name, denoised, mixtures.clean, mixtures.noisy)


def open_onnx(path: Path, config: SinesConfig) -> Method:
    """Returns the method that a waveform model is.

    Raises:
        ModelError: the file is broken, or made for another rate or length.
    """
    from quieten.signals import load_signal_model

    model = load_signal_model(path)
    rate, window = model.info.sample_rate, model.info.window
    if (rate, window) != (config.sample_rate, config.length):
        raise ModelError(
            f"{path}: is for {window} samples at {rate:g} Hz: name a model for {config.length} at "
            f"{config.sample_rate} Hz"
        )

    def run(mixtures: Mixtures) -> Signals:
        noisy = mixtures.noisy
        blocks = [
            model.run(noisy[start : start + _BATCH]) for start in range(0, len(noisy), _BATCH)
        ]
        return np.concatenate(blocks)

    return run


def draw_examples(
    weights: Mapping[str, Path], open_model: OpenModel
) -> Iterator[tuple[str, int, dict[str, Signals]]]:
    """Yields (name, rate in Hz, heading -> signals (B, T)) for each model that there is.

    The first eight test signals, as the original shows them: clean, mixed, denoised, low-passed.

    Args:
        weights: see `run_benchmark`.
        open_model: see `OpenModel`.

    Raises:
        ConfigError: no model is there, or `weights` is wrong.
        ModelError: a file is broken, or not for these signals.
        MissingExtra: scipy is not installed.
    """
    found = find_weights(weights)
    if not found:
        raise ConfigError("no model to draw examples of: give --weights ours=FILE")
    for table, task in TASKS.items():
        mixtures = draw_test_signals(task, EXAMPLES)
        for key in TABLES[table].values():
            if key in found:
                signals = {
                    "clean": mixtures.clean,
                    "mixed": mixtures.noisy,
                    "denoised": open_model(found[key], task.config)(mixtures),
                    "low-pass": lowpass(mixtures.noisy, task.config.sample_rate),
                }
                yield f"examples-{key}", task.config.sample_rate, signals


_BATCH = 250
