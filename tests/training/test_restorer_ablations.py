"""Every variant of benchmarks/restorer_ablations.py is a training that exists, one of its own."""

import numpy as np
import torch

import restorer_ablations as ablations
from quieten.training.config import checked_section, load_config
from quieten.training.models.restorer import TERMS, Restorer
from quieten.training.restoring import RestorerConfig

RUNS = "RUNS/autoencoder/last.safetensors"


def configs():
    for name in ablations.VARIANTS:
        yield (
            name,
            load_config("restorer", [f"{k}={v}" for k, v in ablations.settings(name).items()]),
        )


def test_every_variant_is_a_valid_run_of_its_own():
    seen = []
    for name, config in configs():
        section = checked_section(RestorerConfig, config.model, "model")
        assert config.loss.keys() <= set(TERMS)
        assert ("features" in config.loss) is (section.autoencoder == RUNS)
        assert (config, section) not in seen, name
        seen.append((config, section))
        if "features" not in config.loss:
            torch.manual_seed(0)
            Restorer(config)


def test_what_costs_more_a_step_takes_fewer_steps():
    steps = {name: int(ablations.settings(name)["steps"]) for name in ablations.VARIANTS}
    assert steps["l2"] == 150 and steps["l2_both"] == 100


def test_the_table_shows_the_common_command_and_what_is_a_row_s_own():
    text = ablations.ablation_text([["+ both", "1", "2", "3", "4", "--set 'loss={l2=1.0}'"]])
    assert "quieten train restorer --set 'threads=1'" in text
    assert text.splitlines()[-1].endswith("| 4 | `--set 'loss={l2=1.0}'` |")


def test_the_page_has_a_place_for_each_table():
    page = ablations.PAGE.read_text()
    for name in ("ablations", "collaborative", "curve"):
        assert page.count(f"<!-- restorer-{name}:start -->") == 1
        assert page.count(f"<!-- restorer-{name}:end -->") == 1


def test_a_dose_scales_what_is_added_and_nothing_else():
    class Model:
        def run(self, spectrum, state):
            return np.ones((1, 2, 3, 4), np.float32), state

    answer, _ = ablations.Dosed(Model(), 0.25).run(None, {})
    assert np.array_equal(answer[..., :2], np.ones((1, 2, 3, 2)))
    assert np.array_equal(answer[..., 2:], np.full((1, 2, 3, 2), 0.25))
