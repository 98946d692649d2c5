"""quieten removes noise from recordings: the public names, and nothing else.

The names are looked up on first use (PEP 562), so that `import quieten` costs a few
milliseconds and loads neither numpy nor ONNX Runtime.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # what type checkers and editors see; at run time __getattr__ does it
    from quieten.audio import read_audio as read_audio
    from quieten.audio import write_audio as write_audio
    from quieten.denoise import Denoiser as Denoiser
    from quieten.denoise import Stream as Stream
    from quieten.restore import Restorer as Restorer

__version__ = "0.7.0"
__all__ = ["Denoiser", "Restorer", "Stream", "__version__", "read_audio", "write_audio"]

_HOMES = {
    "Denoiser": "quieten.denoise",
    "Restorer": "quieten.restore",
    "Stream": "quieten.denoise",
    "read_audio": "quieten.audio",
    "write_audio": "quieten.audio",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'quieten' has no attribute {name!r}")
    value: object = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value  # the next access does not come here
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
