"""The command line: one function a verb. The only package that prints.

Importing the modules adds their verbs to `app`, in the order of the help. Heavy imports sit inside
the functions, so that help and completion come at once.
"""

from quieten.cli import (
    degrading,
    denoising,
    inspecting,
    measuring,
    reproducing,
    restoring,
    scoring,
    training,
)  # isort: skip
from quieten.cli.console import app

__all__ = [
    "app",
    "degrading",
    "denoising",
    "inspecting",
    "measuring",
    "reproducing",
    "restoring",
    "scoring",
    "training",
]
