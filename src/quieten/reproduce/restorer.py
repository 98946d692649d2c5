"""System 3, the audio restorer: super-resolution, noise and reverberation on music at 10 kHz.

Each task is a test set on disk, made from clean recordings by a pipeline of degradations, so that
`quieten evaluate` can go on with it. Every figure stands beside that of the degraded sound.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from quieten.errors import ConfigError
from quieten.evaluation.evaluate import Evaluation, Request, System, evaluate
from quieten.evaluation.results import NOISY
from quieten.evaluation.tables import Interval, Json, summarize
from quieten.restore import TASKS as MODELS
from quieten.runtime import available
from quieten.testsets.mixing import write_testset
from quieten.testsets.pairs import audio_files
from quieten.testsets.recipes import Recipe

Progress = Callable[[int, int, str], None]

SAMPLE_RATE = 10_000
METRICS = ("snr_db", "lsd")
CLIP_S, CLIPS = 10.0, 30
SEED = 3
UNSEEN = "test"  # first word of the files of rooms that no training has heard


@dataclass(frozen=True)
class Task:
    """One of the original's tasks.

    Attributes:
        steps: what is done to clean sound.
        kind: a key of `restore.TASKS`.
        methods: classical methods to compare with, names of `baselines`.
    """

    steps: str
    kind: str
    methods: tuple[str, ...] = ()


TASKS = {
    "super-resolution": Task("sample 5000 10000", "super-resolution"),
    "denoise-white": Task("whitenoise snr_db=10", "denoise", ("logmmse",)),
    "denoise-pink": Task("pinknoise snr_db=10", "denoise", ("logmmse",)),
    "dereverb": Task("reverb 10000 room=measured drr_db=0..8", "dereverb"),
}

PUBLISHED = {
    "super-resolution": {"snr_db": 1.65, "lsd": 1.34, "input_snr_db": 27.42, "input_lsd": 2.32},
    "denoise": {"snr_db": 3.55, "lsd": 1.22, "input_snr_db": 6.02, "input_lsd": 1.05},
    "dereverb": {"snr_db": 3.08, "lsd": 0.90, "input_snr_db": 7.26, "input_lsd": 0.41},
}
WHY_NOT_COMPARABLE = (
    "the original's pieces, filters, noise level and rooms are not known; in its rows the output "
    "has a lower SNR than the input, which is the reference to beat"
)


@dataclass(frozen=True)
class Row:
    """How one method did on one task.

    Attributes:
        task: a key of `TASKS`.
        method: "input", "ours" (the task's own model), "ours-all", a classical method, or a name
            that was given.
        count: clips.
        means: metric -> (mean, low, high).
        inputs: the same of the degraded sound.
        reason: why there are no figures; else empty.
    """

    task: str
    method: str
    count: int
    means: Mapping[str, Interval]
    inputs: Mapping[str, Interval]
    reason: str = ""

    def to_json(self) -> Json:
        """Returns the row for `json.dump`."""
        return {
            "task": self.task,
            "method": self.method,
            "count": self.count,
            **{name: _mean(self.means, name) for name in METRICS},
            **{f"input_{name}": _mean(self.inputs, name) for name in METRICS},
            "interval": {name: list(value[1:]) for name, value in self.means.items()},
            "reason": self.reason or None,
        }


@dataclass(frozen=True)
class Reproduction:
    """What came out.

    Attributes:
        rows: by tasks and methods.
        evaluations: task -> all scores, with the sounds.
        sample_rate: of all sounds, Hz.
    """

    rows: tuple[Row, ...]
    evaluations: Mapping[str, Evaluation]
    sample_rate: int

    def to_json(self) -> Json:
        """Returns {"rows": ..., "published": ...} for `json.dump`."""
        published = [{"task": task, **scores} for task, scores in PUBLISHED.items()]
        return {
            "system": "restorer",
            "sample_rate": self.sample_rate,
            "rows": [row.to_json() for row in self.rows],
            "published": {"rows": published, "why_not_comparable": WHY_NOT_COMPARABLE},
        }


def reproduce(
    data: Path,
    rooms: Path,
    out: Path,
    *,
    weights: Mapping[str, Path] | None = None,
    sample_rate: int = SAMPLE_RATE,
    limit: int | None = None,
    workers: int = 1,
    progress: Progress | None = None,
) -> Reproduction:
    """Makes the test sets, restores them and measures; what `out` holds already is used again.

    Args:
        data: a folder of clean music that no model has heard.
        rooms: a folder of room responses; where some begin with "test", these alone are taken.
        out: a folder for sounds and scores.
        weights: TASK:METHOD -> .onnx file, methods beside those of the package; a task may be
            the beginning of several, such as denoise.
        sample_rate: of all sounds; 10 kHz is the original's.
        limit: at most so many clips a task.
        workers: processes.
        progress: called with (clips done, clips in all, task).

    Raises:
        ConfigError: a folder holds nothing, or `weights` names an unknown task or no file.
        AudioError: a file cannot be read.
        ModelError: a model is broken.
    """
    given = _check_weights(weights or {})
    count = CLIPS if limit is None else limit
    rows: list[Row] = []
    evaluations = {}
    for name, task in TASKS.items():
        items = write_testset(_recipe(task, data, rooms, count, sample_rate), out / name)
        systems, absent = _systems(name, task, given)

        def advance(done: int, total: int, item: str, name: str = name) -> None:
            if progress:
                progress(done, total, name)

        request = Request(
            tuple(items), systems, out / f"{name}-results", METRICS, workers, testset=name
        )
        evaluations[name] = evaluate(request, advance)
        rows += _rows(name, evaluations[name])
        rows += [Row(name, method, 0, {}, {}, reason) for method, reason in absent.items()]
    return Reproduction(tuple(rows), evaluations, sample_rate)


def _recipe(task: Task, data: Path, rooms: Path, count: int, sample_rate: int) -> Recipe:
    rir: tuple[Path, ...] = ()
    if "reverb" in task.steps:
        if not rooms.is_dir():
            raise ConfigError(f"{rooms}: no such folder: name one of room responses with --rir")
        found = sorted(audio_files(rooms))
        unseen = [file for file in found if file.name.startswith(UNSEEN)]
        rir = tuple(unseen or found) or (rooms,)
    return Recipe(
        (data,),
        rir=rir,
        sample_rate=sample_rate,
        preprocessing=task.steps,
        seconds=CLIP_S,
        count=count,
        seed=SEED,
    )


def _systems(
    name: str, task: Task, given: Mapping[tuple[str, str], Path]
) -> tuple[tuple[System, ...], dict[str, str]]:
    """The systems of a task, and why others cannot run."""
    installed, absent = available(), {}
    systems = [System(method, "model", method) for method in task.methods]
    for method, kind in (("ours", task.kind), ("ours-all", "all")):
        if MODELS[kind] in installed:
            systems.append(System(method, "model", str(installed[MODELS[kind]])))
        else:
            absent[method] = f"model {MODELS[kind]} is not installed"
    for (start, method), path in given.items():
        if name.startswith(start):
            systems = [system for system in systems if system.name != method]
            systems.append(System(method, "model", str(path)))
            absent.pop(method, None)
    return tuple(systems), absent


def _check_weights(weights: Mapping[str, Path]) -> dict[tuple[str, str], Path]:
    found = {}
    for text, path in weights.items():
        start, colon, method = text.partition(":")
        if not colon or not method or not any(name.startswith(start) for name in TASKS):
            raise ConfigError(f"weights of {text}: write TASK:METHOD; tasks: {', '.join(TASKS)}")
        if not path.is_file() or path.suffix != ".onnx":
            raise ConfigError(f"weights of {text}: {path}: name an .onnx file")
        found[start, method] = path
    return found


def _rows(name: str, evaluation: Evaluation) -> list[Row]:
    summary = summarize(evaluation)
    inputs = next(row.means for row in summary if row.system == NOISY.name)
    return [
        Row(name, "input" if row.system == NOISY.name else row.system, row.count, row.means, inputs)
        for row in summary
    ]


def _mean(means: Mapping[str, Interval], name: str) -> float | None:
    return means[name][0] if name in means else None


def text_table(rows: tuple[Row, ...]) -> list[list[str]]:
    """Returns a header and a line for each row that has figures, as cells."""
    table = [["task", "method", "SNR dB", "LSD", "SNR gained", "LSD ratio"]]
    for row in rows:
        if row.means:
            snr, lsd = (row.means[name] for name in METRICS)
            gained = snr[0] - row.inputs["snr_db"][0]
            ratio = lsd[0] / row.inputs["lsd"][0]
            table.append(
                [
                    row.task,
                    row.method,
                    f"{snr[0]:.2f} ±{(snr[2] - snr[1]) / 2:.2f}",
                    f"{lsd[0]:.3f} ±{(lsd[2] - lsd[1]) / 2:.3f}",
                    f"{gained:+.2f}",
                    f"{ratio:.2f}",
                ]
            )
    return table
