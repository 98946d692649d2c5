"""The command line: one function a verb. The only package that prints.

Importing the modules adds their verbs to `app`, in the order of the help. Heavy imports sit inside
the functions, so that help and completion come at once.
"""

from quieten.cli.console import app

from quieten.cli import denoising, restoring, inspecting, degrading, measuring  # isort: skip
from quieten.cli import scoring, reproducing, corpora, training  # isort: skip

__all__ = [
    "app",
    "corpora",
    "degrading",
    "denoising",
    "inspecting",
    "measuring",
    "reproducing",
    "restoring",
    "scoring",
    "training",
]
