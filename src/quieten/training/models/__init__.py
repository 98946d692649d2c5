"""The families of models, by name. A family is one file; it knows no other family."""

from quieten.training.models.realtime import Realtime

FAMILIES = {"realtime": Realtime}
