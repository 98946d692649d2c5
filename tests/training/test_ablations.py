"""Every variant of benchmarks/ablations.py is a training that exists, and differs as it says."""

import ablations
from quieten.training.config import checked_section, load_config
from quieten.training.models import FAMILIES


def overrides(name):
    return [f"{key}={value}" for key, value in ablations.settings(name).items()]


def test_every_variant_is_a_valid_run_of_its_own():
    seen = []
    for name, variant in ablations.VARIANTS.items():
        config = load_config(variant.family, overrides(name))
        section = checked_section(FAMILIES[config.family].config_class, config.model, "model")
        assert (config, section) not in seen, name
        seen.append((config, section))


def test_what_costs_more_a_step_takes_fewer_steps():
    steps = {name: int(ablations.settings(name)["steps"]) for name in ("base", "hop-64", "hop-32")}
    assert steps["base"] == 2 * steps["hop-64"] == 4 * steps["hop-32"]


def test_the_table_shows_the_common_command_and_what_is_a_row_s_own():
    assert not any(ablations.differs("base", key) for key in ablations.settings("base"))
    own = {key for key in ablations.settings("no-vq") if ablations.differs("no-vq", key)}
    assert own == {"model.quantizer"}
    cells = ["no quantizer", *["1"] * 7, "--set 'model.quantizer=none'"]
    text = ablations.section(ablations.OURS, [cells])
    assert "quieten train vqvae_unet --set" in text and "data.batch_size=6" in text
    assert text.splitlines()[-1].startswith("| no quantizer | 1 |")
