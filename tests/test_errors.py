"""Errors: one tree, messages that say what to do, and they survive the way between processes."""

import pickle

import pytest

from quieten import errors


@pytest.mark.parametrize("name", ["AudioError", "ModelError", "ConfigError", "MissingExtra"])
def test_every_error_is_a_quieten_error(name: str) -> None:
    assert issubclass(getattr(errors, name), errors.QuietenError)


def test_missing_extra_names_the_remedy() -> None:
    assert str(errors.MissingExtra("media", "reading m4a")) == (
        'reading m4a needs: pip install "quieten[media]"'
    )


def test_missing_extra_comes_back_from_a_worker() -> None:
    error = errors.MissingExtra("train", "training")
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.extra) == (str(error), "train")
