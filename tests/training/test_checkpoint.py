"""Checkpoints come back exactly; broken ones are explained; a kill leaves no half file."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from quieten.errors import ConfigError
from quieten.training.checkpoint import restore, save
from quieten.training.models import FAMILIES
from quieten.training.tensorfile import load_checkpoint, save_checkpoint

TENSORS = {
    "net/weight": torch.arange(6.0).reshape(2, 3).T,  # not contiguous
    "net/tiny": torch.tensor([1e-42, -0.0, float("inf")]),
    "optimizer/0/step": torch.tensor(7.0),
    "count": torch.tensor(3, dtype=torch.int64),
    "half": torch.ones(2, dtype=torch.bfloat16),
}
NUMBERS = {"step": 12, "best": 0.1 + 0.2, "updaters": {"net": {"skipped": 0}}, "text": "ü"}


def test_all_comes_back_exactly(tmp_path):
    save_checkpoint(tmp_path / "last.safetensors", TENSORS, NUMBERS)
    tensors, numbers = load_checkpoint(tmp_path / "last.safetensors")
    assert numbers == NUMBERS and tensors.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert tensors[name].dtype == tensor.dtype and torch.equal(tensors[name], tensor)
    assert [f.name for f in tmp_path.iterdir()] == ["last.safetensors"]


def test_a_missing_file_is_explained(tmp_path):
    with pytest.raises(ConfigError, match=r"no checkpoint .*best\.safetensors.*train first"):
        load_checkpoint(tmp_path / "best.safetensors")


@pytest.mark.parametrize("keep", [0, 7, 100, -1])
def test_broken_files_are_explained(tmp_path, keep):
    path = tmp_path / "last.safetensors"
    save_checkpoint(path, TENSORS, NUMBERS)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ConfigError, match="not a checkpoint of quieten") as error:
        load_checkpoint(path)
    assert "\n" not in str(error.value)


def test_tensors_of_others_are_no_checkpoint(tmp_path):
    save_file({"x": torch.ones(2)}, tmp_path / "other.safetensors")
    with pytest.raises(ConfigError, match="not a checkpoint of quieten"):
        load_checkpoint(tmp_path / "other.safetensors")


def test_an_interrupted_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "last.safetensors"
    save_checkpoint(path, TENSORS, NUMBERS)

    def half(self, data):
        with self.open("wb") as file:
            file.write(data[:9])
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(path, {}, {})
    assert load_checkpoint(path)[1] == NUMBERS


def test_a_run_comes_back_with_its_numbers(tmp_path, tiny):
    config = tiny()
    family = FAMILIES["realtime"](config)
    save(family.updaters, tmp_path / "a.safetensors", config, 3, 0.75)
    other = FAMILIES["realtime"](config)  # other random weights
    numbers = restore(other.updaters, tmp_path / "a.safetensors")
    assert numbers["step"] == 3 and numbers["best"] == 0.75
    assert type(config).model_validate(numbers["config"]) == config
    ours, theirs = family.updaters["net"].tensors(), other.updaters["net"].tensors()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_before_the_first_validation_there_is_no_best(tmp_path, tiny):
    config = tiny()
    family = FAMILIES["realtime"](config)
    save(family.updaters, tmp_path / "a.safetensors", config, 1, -float("inf"))
    assert "best" not in load_checkpoint(tmp_path / "a.safetensors")[1]


@pytest.mark.parametrize("change", ["model.full_band=9", "model.sub_band_layers=2"])
def test_another_network_is_explained(tmp_path, tiny, change):
    config, changed = tiny(), tiny(change)
    save(FAMILIES["realtime"](config).updaters, tmp_path / "a.safetensors", config, 1, 0.0)
    with pytest.raises(ConfigError, match=r"another network.*config\.json"):
        restore(FAMILIES["realtime"](changed).updaters, tmp_path / "a.safetensors")
