"""gdn: denoise electron micrographs by searching the latent space of a generator.

From Python, `gdn.read` opens a file, `gdn.denoise` denoises an image or a stack, and `gdn.Denoiser`
does so many times (docs/python.md). They are imported when they are first used, so that `import
gdn` takes no time.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gdn.engines.base import EngineError
    from gdn.errors import CandidateError, GdnError, InputError
    from gdn.models import ModelError
    from gdn.pipeline.denoiser import Denoiser
    from gdn.pipeline.result import Result
    from gdn.pipeline.shortcuts import Micrograph, denoise, read

# ONNX Runtime writes an identifier of the machine under the user's home and sends events to its
# vendor, from the moment it is imported. It reads this variable then, and so do processes that gdn
# starts.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

__version__ = "0.2.0"
__all__ = [
    "CandidateError",
    "Denoiser",
    "EngineError",
    "GdnError",
    "InputError",
    "Micrograph",
    "ModelError",
    "Result",
    "__version__",
    "denoise",
    "read",
]

_PLACES = {
    "CandidateError": "gdn.errors",
    "Denoiser": "gdn.pipeline.denoiser",
    "EngineError": "gdn.engines.base",
    "GdnError": "gdn.errors",
    "InputError": "gdn.errors",
    "Micrograph": "gdn.pipeline.shortcuts",
    "ModelError": "gdn.models",
    "Result": "gdn.pipeline.result",
    "denoise": "gdn.pipeline.shortcuts",
    "read": "gdn.pipeline.shortcuts",
}  # where a public name is defined


def __getattr__(name: str) -> Any:
    """A public name, imported now."""
    if name not in _PLACES:
        raise AttributeError(f"module 'gdn' has no attribute '{name}'")
    return getattr(import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    """Public names are listed before they are imported."""
    return sorted({*globals(), *__all__})
