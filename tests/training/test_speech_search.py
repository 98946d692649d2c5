"""Every candidate of benchmarks/speech_search.py is a training that exists, and what it says."""

from pathlib import Path

import pytest
import torch

import speech_search
from quieten.training.config import checked_section
from quieten.training.spectral import stft
from speech_variants import FAMILIES

VARIANTS = ("realtime_coded", "realtime_offline", "realtime_taught")


def config_of(name):
    changes = speech_search.settings(name, Path("data"), Path("start.safetensors"))
    return speech_search.configured(changes, Path("runs", name))


def pair(batch=2, hops=32):
    generator = torch.Generator().manual_seed(3)
    clean = 0.1 * torch.sin(torch.arange(hops * 256) * 0.2).repeat(batch, 1)
    return clean + 0.1 * torch.randn(batch, hops * 256, generator=generator), clean


@pytest.fixture
def variant(tiny):
    def make(name):
        torch.manual_seed(1)
        return FAMILIES[name](tiny(f"family={name}", "optimizer.warmup_steps=0"))

    return make


def test_every_candidate_is_a_valid_run_of_its_own():
    seen = []
    for name in speech_search.CANDIDATES.keys() - {"start"}:  # which is not trained
        config = config_of(name)
        assert config.family in FAMILIES
        section = checked_section(FAMILIES[config.family].config_class, config.model, "model")
        assert (config, section) not in seen, name
        seen.append((config, section))


def test_fine_tuning_begins_with_weights_and_the_rest_with_nothing():
    for name, candidate in speech_search.CANDIDATES.items():
        assert bool(config_of(name).start_from) == candidate.fine_tuned, name


@pytest.mark.parametrize("name", VARIANTS)
def test_variants_learn(variant, name):
    family = variant(name)
    noisy, clean = pair()
    reports = [family.step(noisy, clean, step) for step in range(30)]
    assert reports[-1]["complex"] < reports[0]["complex"]
    net = family.updaters["net"].net
    assert [n for n, p in net.named_parameters() if p.grad is None] == []


def test_a_code_leaves_few_vectors_and_its_average_has_the_same_books(variant):
    family = variant("realtime_coded")
    for step in range(3):
        report = family.step(*pair(), step)
    assert report["commitment"] > 0
    net, averaged = (getattr(family.updaters["net"], part) for part in ("net", "averaged"))
    assert torch.equal(net.full_band.quantizer.books, averaged.full_band.quantizer.books)
    quantizer = averaged.full_band.quantizer
    vectors = torch.randn(5000, net.config.channels[2])
    parts = quantizer(vectors).z_q.reshape(5000, quantizer.groups, -1).mul(1e4).round()
    assert all(len(torch.unique(parts[:, g], dim=0)) <= 256 for g in range(quantizer.groups))


def test_what_looks_ahead_hears_the_future_and_the_shipped_net_does_not(variant):
    spectrum = stft(pair()[0], 512, 256)
    changed = spectrum.clone()
    changed[:, 20:] = 0
    for name, differs in (("realtime", False), ("realtime_offline", True)):
        net = variant(name).updaters["net"].net.eval()
        with torch.no_grad():
            masks = [net(x, net.initial_state(2))[0][:, :20] for x in (spectrum, changed)]
        assert (not torch.equal(*masks)) == differs, name


def test_the_teacher_is_content_with_clean_speech_and_never_learns(variant):
    family = variant("realtime_taught")
    noisy, clean = pair()
    before = {k: v.clone() for k, v in family.teacher.state_dict().items()}
    assert family.losses(clean, clean, noisy)["code"] < family.losses(noisy, clean, noisy)["code"]
    family.step(noisy, clean, 0)
    assert all(torch.equal(v, before[k]) for k, v in family.teacher.state_dict().items())


def test_multiplications_are_counted_for_every_position(tiny):
    """One band less recurrence at 4 channels: what its layers need, by hand."""
    more, less = (
        speech_search.macs_per_s(tiny(f"model.sub_band_layers={layers}")) for layers in (2, 1)
    )
    lstm, out, mix, mix_out = 2 * 4 * 4 * 4 * 16, 4 * 4 * 16, 16 * 16 * 4, 4 * 4 * 16
    assert more - less == (lstm + out + mix + mix_out) * 62.5


def test_the_table_shows_the_common_command_and_what_is_a_row_s_own():
    text = speech_search.section(10, speech_search.FINE_TUNING, [["small", *"123456", "`own`"]])
    assert "10 minutes" in text and "--set optimizer.learning_rate=6e-4" in text
    assert text.splitlines()[-1] == "| small | 1 | 2 | 3 | 4 | 5 | 6 | `own` |"
