"""A run is one frozen object; what is wrong with it is said with the way out."""

import re
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from quieten.errors import ConfigError
from quieten.metrics import METRICS
from quieten.training.config import (
    Section,
    TrainConfig,
    checked_section,
    load_config,
    packaged_configs,
)
from quieten.training.models import FAMILIES, realtime, restorer, vqvae_unet
from quieten.training.models.realtime import RealtimeConfig
from quieten.training.signals import MEASURES


@pytest.mark.parametrize("name", packaged_configs())
def test_packaged_configurations_name_things_that_exist(name):
    """A step finds every loss that has a weight, and every setting of the model."""
    config = load_config(name, ["threads=1"])
    assert config.family in FAMILIES
    assert config.validation.select in {*METRICS, *MEASURES}
    torch.manual_seed(1)
    length = round(config.data.segment_s * config.data.sample_rate)
    noisy, clean = 0.1 * torch.randn(2, 1, length)
    report = FAMILIES[config.family](config).step(noisy, clean, 0)
    assert config.loss and set(config.loss) <= set(report)
    assert report["skipped"] == 0


def test_the_segment_of_the_packaged_run_is_a_whole_number_of_hops():
    config = load_config("realtime")
    assert round(config.data.segment_s * config.data.sample_rate) % 256 == 0


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("steps=12", lambda c: c.steps == 12),
        ("optimizer.learning_rate=2e-4", lambda c: c.optimizer.learning_rate == 2e-4),
        ("data.snr_db=[0, 10]", lambda c: c.data.snr_db == (0.0, 10.0)),
        ('data.clean=["a", "b c"]', lambda c: c.data.clean == (Path("a"), Path("b c"))),
        ("data.cache=some/folder", lambda c: c.data.cache == Path("some/folder")),
        ("data.lint=false", lambda c: c.data.lint is False),
        ("device=cuda", lambda c: c.device == "cuda"),
        ("validation.noise=white", lambda c: c.validation.noise == "white"),
        ('validation.noise=["white"]', lambda c: c.validation.noise == (Path("white"),)),
        ("loss.waveform=0.5", lambda c: c.loss["waveform"] == 0.5),
        ("model.full_band=16", lambda c: c.model == {"full_band": 16}),
    ],
)
def test_overrides_have_types(override, value):
    assert value(load_config("realtime", [override]))


def test_an_override_leaves_its_neighbours_alone():
    changed, packaged = load_config("realtime", ["loss.complex=1"]), load_config("realtime")
    assert changed.loss == packaged.loss | {"complex": 1.0}
    assert changed.optimizer == packaged.optimizer


def test_the_last_override_wins():
    assert load_config("realtime", ["steps=1", "steps=2"]).steps == 2


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("stepz=1", ["unknown key stepz", "known are", "steps"]),
        ("data.snr=1", ["unknown key data.snr", "snr_db", "speed"]),
        ("optimizer.lr=1", ["unknown key optimizer.lr", "learning_rate"]),
        ("steps=many", ["steps", "integer"]),
        ("steps=0", ["steps", "greater than 0"]),
        ("validation.every_steps=0", ["validation.every_steps", "greater than 0"]),
        ("precision=float16", ["precision", "bfloat16"]),
        ("steps.more=1", ["steps is a value, not a section"]),
        ("steps", ["key=value"]),
        ("=3", ["key=value"]),
    ],
)
def test_wrong_settings_are_explained_in_one_line(override, words):
    with pytest.raises(ConfigError) as error:
        load_config("realtime", [override])
    message = str(error.value)
    assert all(word in message for word in words) and "\n" not in message


def test_a_file_is_read_and_may_leave_out_all_but_the_family(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text('family = "realtime"\n[data]\nbatch_size = 3\n')
    config = load_config(file)
    assert config.data.batch_size == 3 and config.optimizer.betas == (0.9, 0.99)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, ["no configuration", "realtime"]),
        (b"family = ", ["not valid TOML"]),
        (b"\xff\xfe\x00", ["not text"]),
        (b"steps = 1", ["family"]),
    ],
)
def test_broken_files_are_explained(tmp_path, content, words):
    file = tmp_path / "mine.toml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError) as error:
        load_config(file)
    assert all(word in str(error.value) for word in words)


def test_a_configuration_cannot_be_changed_afterwards():
    config = load_config("realtime")
    with pytest.raises(ValidationError):
        config.steps = 1


def test_a_configuration_survives_json():
    config = load_config("realtime", ['data.clean=["a"]'])
    assert type(config).model_validate_json(config.model_dump_json()) == config


def keys(section, prefix=""):
    """All settings below a section, as `--set` names them."""
    for name, field in section.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield from keys(field.annotation, f"{prefix}{name}.")
        elif name not in ("loss", "model"):
            yield prefix + name


MANUAL = (Path(__file__).parents[2] / "docs" / "training.md").read_text(encoding="utf-8")


def test_the_manual_explains_every_setting_and_no_other():
    rows = (
        MANUAL[MANUAL.index("| `family` |") : MANUAL.index("## Fine-tuning")].strip().splitlines()
    )
    explained = [key for row in rows for key in re.findall(r"`([\w.]+)`", row.split("|")[1])]
    expected = set(keys(TrainConfig))
    for name in packaged_configs():
        config = load_config(name)
        expected |= set(keys(FAMILIES[config.family].config_class, "model."))
        expected |= {f"loss.{term}" for term in config.loss}
    expected |= {f"loss.{term}" for term in (*realtime.TERMS, *vqvae_unet.TERMS, *restorer.TERMS)}
    assert sorted(set(explained)) == sorted(expected)


def test_the_settings_that_the_manual_uses_exist(tmp_path):
    settings = re.findall(r"--set '([^']+)'", MANUAL)
    assert settings and load_config("realtime", settings)
    (toy,) = re.findall(r"```toml\n(.*?)```", MANUAL, flags=re.DOTALL)
    (tmp_path / "toy.toml").write_text(toy)
    config = load_config(tmp_path / "toy.toml")
    assert checked_section(RealtimeConfig, config.model).full_band == 32
    assert config.loss == load_config("realtime").loss
    assert config.data.segment_s * config.data.sample_rate == 64 * 256
