"""Errors that a user can cause, in one tree. Their messages say what to do; the CLI prints them.

QuietenError
├── AudioError     a sound cannot be read or written, or holds nothing to work on
├── ModelError     a model is unknown, broken or does not fit
├── ConfigError    a setting or training configuration is wrong
└── MissingExtra   an optional part of the package is not installed
"""


class QuietenError(Exception):
    """Base of all errors that quieten raises on purpose."""


class AudioError(QuietenError):
    """A sound cannot be read or written, or holds nothing to work on."""


class ModelError(QuietenError):
    """A model is unknown, broken or does not fit."""


class ConfigError(QuietenError):
    """A setting or training configuration is wrong."""


class MissingExtra(QuietenError):
    """An optional part of the package is not installed."""

    def __init__(self, extra: str, purpose: str) -> None:
        super().__init__(f'{purpose} needs: pip install "quieten[{extra}]"')
        self.extra = extra
        self.purpose = purpose

    def __reduce__(self) -> tuple[type["MissingExtra"], tuple[str, str]]:
        """Lets worker processes hand the error back."""
        return type(self), (self.extra, self.purpose)
