"""Training and export: the only part of quieten that needs torch (extra `train`)."""

from importlib.util import find_spec

from quieten.errors import MissingExtra

if find_spec("torch") is None or find_spec("safetensors") is None:
    raise MissingExtra("train", "training")
