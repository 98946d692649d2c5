"""A training run as one frozen object: a TOML file plus `key=value` changes."""

import tomllib
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from quieten.errors import ConfigError

SectionType = TypeVar("SectionType", bound="Section")


class Section(BaseModel):
    """Base of all sections: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


Folders = Annotated[
    tuple[Path, ...], BeforeValidator(lambda given: [given] if isinstance(given, str) else given)
]
"""A list of folders; a single one may stand without brackets."""


Steps = str | tuple[dict[str, Any], ...]
"""The steps of a degradation pipeline, as `quieten.testsets.pipeline` reads them."""


class SignalsConfig(Section):
    """Sums of sines in noise, where `data.kind` is signals and no recordings are named.

    Rate, length, SNR and batch are those of `data`.
    """

    count: tuple[int, int] = (3, 3)
    """Fewest and most sines; all ranges here include both ends, and are drawn from evenly."""
    frequency_hz: tuple[float, float] = (10.0, 64.0)
    amplitude: tuple[float, float] = (1.0, 1.0)
    """Of each sine, before the mean over all is taken."""
    random_phase: bool = False
    noise_colour: tuple[float, float] = (0.0, 0.0)
    """The noise falls with 1/f**x in power: 0 white, 1 pink, 2 brown. For recordings, too."""
    target: Literal["clean", "mixture"] = "clean"
    """The clean signal at its own level, as published; or as loud as it is in the mixture."""
    fixed: int = Field(0, ge=0)
    """Only so many signals, shuffled anew in every epoch, as published; 0: always fresh ones."""


class DataConfig(Section):
    """Where sound comes from and how it is mixed."""

    kind: Literal["speech", "signals", "degraded"] = "speech"
    """Signals are sums of sines, or recordings in `clean` of anything but speech. Degraded:
    recordings of any sound, and what `preprocessing` makes of them."""
    preprocessing: Steps = ()
    """The steps of a degradation pipeline: a string, or a list of tables (kind "degraded")."""
    corpus: Literal["simple", "maestro"] = "simple"
    """What `clean` names: folders of recordings, or MAESTRO's folder with its own splits."""
    years: tuple[int, ...] = ()
    """Of MAESTRO; none: all."""
    train_n: int = Field(0, ge=0)
    """Train on the first recordings only; 0: on all (kind "degraded")."""
    count: int = Field(0, ge=0)
    """Only so many different batches; 0: always fresh ones (kind "degraded")."""
    stride: int = Field(0, ge=0)
    """Windows begin at multiples of so many samples; 0: anywhere (kind "degraded")."""
    signals: SignalsConfig = SignalsConfig()
    clean: Folders = ()
    """Folders of clean speech, in any format that quieten reads."""
    noise: Folders = ()
    rir: tuple[Path, ...] = ()
    """Folders of room impulse responses; made by code where there are none."""
    test: tuple[Path, ...] = ()
    """Folders that must not leak into training: the linter compares."""
    cache: Path = Path("cache")
    """Decoded audio, int16 at `sample_rate`; may be deleted at any time."""
    lint: bool = True
    """Looks through the folders for unfit recordings before training."""
    allow_leaks: bool = False
    """Train although the linter found recordings or speakers of validation or test."""
    sample_rate: int = 16_000
    segment_s: float = Field(3.008, gt=0)
    batch_size: int = Field(16, gt=0)
    group_pattern: str = r"[^_-]+(?:[_-](?:\d+|[a-z]{2})(?=[_-]))?"
    """Regular expression matched at the start of a clean file's name: the speaker."""
    noise_group_pattern: str = r".*(?=[_-][^_-]*$)"
    """The same for noise: its type."""
    group_power: float = Field(0.5, ge=0, le=1)
    """A group is drawn with probability ~ files ** power: 0 draws groups evenly, 1 files evenly."""
    white: float = Field(0.0, ge=0, le=1)
    """Share of the examples with white Gaussian noise."""
    telephone: float = Field(0.0, ge=0, le=1)
    """Share of the other examples that sound as through a telephone: 300-3400 Hz, mu-law."""
    snr_db: tuple[float, float] = (-7.0, 20.0)
    harder_share: float = Field(0.0, ge=0, le=1)
    """Share of the examples at `harder_snr_db`, from `harder_from_step` on: a curriculum."""
    harder_snr_db: tuple[float, float] = (-8.0, -3.0)
    harder_from_step: int = Field(0, ge=0)
    snr_of: Literal["active", "whole"] = "active"
    """What is compared with the noise: speech where somebody speaks, or with its pauses."""
    level_dbfs: tuple[float, float] = (-45.0, -12.0)
    speed: tuple[float, float] = (0.85, 1.18)
    """Playing speed of the voice: shifts pitch and formants, so one speaker becomes many."""
    second_noise: float = 0.3
    made_noise: float = 0.2
    noise_makers: tuple[str, ...] = ("coloured", "hum", "clicks", "modulated")
    """Which noises code makes, among those of `noises.py`, each as often."""
    noise_speed: tuple[float, float] = (0.7, 1.4)
    """Playing speed of half of the recorded noises."""
    reverse: float = Field(0.0, ge=0, le=1)
    """Share of the recorded noises that play backwards: another noise with the same sound."""
    babble: float = 0.08
    reverb: float = 0.3
    equalize: float = 0.6
    band_limit: float = 0.1
    clip: float = 0.05
    noise_only: float = 0.03
    """Probabilities, each per example."""
    formants: tuple[float, float] = (1.0, 1.0)
    """Factors on the formants of half of the voices: other mouths at the same pitch."""
    noise_reverb: float = Field(0.0, ge=0, le=1)
    """Share of the noises that come from a room, as from afar."""
    whisper: float = Field(0.0, ge=0, le=1)
    """Share of the voices that whisper, by code."""
    speech_only: float = Field(0.0, ge=0, le=1)
    """Share of the examples without noise: what is clean should pass untouched."""


class OptimizerConfig(Section):
    """AdamW with warm-up, a schedule, clipping and averaged weights."""

    learning_rate: float = Field(1.5e-3, gt=0)
    weight_decay: float = 1e-2
    betas: tuple[float, float] = (0.9, 0.99)
    rates: dict[str, Annotated[float, Field(gt=0)]] = {}
    """Learning rates of single networks, such as the discriminator, by name."""
    schedule: Literal["cosine", "plateau", "step"] = "cosine"
    warmup_steps: int = 200
    plateau_factor: float = 0.3
    plateau_patience: int = 5
    """Validations without progress before the rate falls (schedule "plateau")."""
    step_every: int = Field(1000, gt=0)
    step_factor: float = Field(0.5, gt=0)
    """The rate is multiplied by the factor every so many steps (schedule "step")."""
    hold_share: float = Field(0.0, ge=0, lt=1)
    """The cosine begins after this share of the run; before, the rate stays."""
    final_share: float = 0.01
    """The cosine ends at this share of the learning rate."""
    clip_norm: float = 5.0
    ema_decay: float = Field(0.999, ge=0, lt=1)
    max_bad_steps: int = 20
    """Steps in a row with a loss or gradient that is not finite before training stops."""

    def of(self, network: str) -> "OptimizerConfig":
        """Returns these settings with the learning rate of a network."""
        return self.model_copy(
            update={"learning_rate": self.rates.get(network, self.learning_rate)}
        )


class ValidationConfig(Section):
    """The fixed mixtures that decide which checkpoint is best."""

    clean: Folders = ()
    noise: tuple[Path, ...] | Literal["white"] = ()
    """Folders, or the word white for Gaussian noise."""
    preprocessing: Steps = ()
    """The steps of a pipeline, where they are others than those of the training."""
    items: int = Field(30, gt=0)
    seconds: float = Field(6.0, gt=0)
    snr_db: tuple[float, ...] = (-5.0, 0.0, 5.0, 10.0, 15.0)
    every_steps: int = Field(500, gt=0)
    metrics: tuple[str, ...] = ("snr_db", "si_sdr_db", "stoi", "pesq_wb")
    """What is measured and logged, as far as it is installed."""
    select: str = "stoi"
    """The one among them whose highest value is `best`; of `l1`, the lowest."""
    patience: int = Field(0, ge=0)
    """The run ends after so many validations without a new best; 0: never."""


class TrainConfig(Section):
    """One training run."""

    family: str
    seed: int = 1
    steps: int = Field(5000, gt=0)
    device: str = "cpu"
    threads: int = Field(0, ge=0)
    """CPU threads; 0 leaves the choice to torch."""
    precision: Literal["float32", "bfloat16"] = "float32"
    licence: str = "MIT"
    """Of the weights; goes into the exported model."""
    start_from: str = ""
    """Weights to begin with, for fine-tuning: a model's name or a .safetensors file of `export`."""
    log_every_steps: int = Field(20, gt=0)
    checkpoint_every_steps: int = Field(250, gt=0)
    pictures: bool = False
    """Draws the curves, and spectrograms of the first validation item, at every validation."""
    data: DataConfig = DataConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    validation: ValidationConfig = ValidationConfig()
    loss: dict[str, float] = {}
    """Weights of the loss terms, by name."""
    model: dict[str, Any] = {}
    """Settings of the family, checked by its own config."""


def load_config(source: str | Path, overrides: list[str] | None = None) -> TrainConfig:
    """Returns the configuration of a run.

    Args:
        source: a TOML file, or the name of one of the package's configurations.
        overrides: changes such as "optimizer.learning_rate=1e-3", values in TOML (bare words are
            strings).

    Raises: ConfigError if the file is missing or broken, or a key is unknown (it names the known).
    """
    values = read_toml(source)
    for override in overrides or []:
        apply_override(values, override)
    return checked_section(TrainConfig, values)


def checked_section(
    section: type[SectionType], values: dict[str, Any], where: str = ""
) -> SectionType:
    """Returns `values` as a frozen section.

    Raises: ConfigError that names the key, and the known ones if it is unknown.
    """
    try:
        return section.model_validate(values)
    except ValidationError as error:
        raise ConfigError(explain(error, section, where)) from None


def packaged_configs() -> list[str]:
    """Returns the names of the configurations inside the package."""
    folder = resources.files("quieten.training") / "configs"
    return sorted(f.name.removesuffix(".toml") for f in folder.iterdir() if f.name[-5:] == ".toml")


def read_toml(source: str | Path) -> dict[str, Any]:
    """Returns the values of a TOML file or of a packaged configuration."""
    if str(source) in packaged_configs():
        text = (resources.files("quieten.training") / "configs" / f"{source}.toml").read_text()
    else:
        try:
            text = Path(source).read_text(encoding="utf-8")
        except OSError:
            known = ", ".join(packaged_configs())
            raise ConfigError(
                f"no configuration {source}: give a TOML file or one of {known}"
            ) from None
        except UnicodeDecodeError:
            raise ConfigError(f"{source} is not text: give a TOML file") from None
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{source} is not valid TOML: {error}") from None


def apply_override(values: dict[str, Any], override: str) -> None:
    """Sets one "a.b=value" in nested values."""
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise ConfigError(f"{override!r} is not key=value, such as optimizer.learning_rate=1e-3")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    *sections, last = key.split(".")
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise ConfigError(f"{key}: {section} is a value, not a section")
    values[last] = value


def explain(error: ValidationError, section: Any, where: str) -> str:
    """Returns one line for the first problem, with the known keys where a key is unknown."""
    problem = error.errors()[0]
    path = [str(part) for part in problem["loc"]]
    name = ".".join([where, *path] if where else path)
    if problem["type"] != "extra_forbidden":
        return f"{name}: {problem['msg']}"
    for part in path[:-1]:
        section = section.model_fields[part].annotation
    return f"unknown key {name}: known are {', '.join(sorted(section.model_fields))}"
