"""`python -m quieten` is the same as `quieten`."""

from quieten.cli import app

app(prog_name="quieten")
