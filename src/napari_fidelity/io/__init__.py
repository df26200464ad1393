"""Reading and writing: images and models. Each name is imported when it is first used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_fidelity.io._atomic import atomic_write, check_output
    from napari_fidelity.io.convert import convert_enhancenet, convert_model
    from napari_fidelity.io.images import read_image, write_image
    from napari_fidelity.io.models import list_models, load_model, save_model
    from napari_fidelity.io.registered import import_file, register_model

__all__ = [
    "atomic_write",
    "check_output",
    "convert_enhancenet",
    "convert_model",
    "import_file",
    "list_models",
    "load_model",
    "read_image",
    "register_model",
    "save_model",
    "write_image",
]

_MODULES = {
    "atomic_write": "_atomic",
    "check_output": "_atomic",
    "convert_enhancenet": "convert",
    "convert_model": "convert",
    "import_file": "registered",
    "list_models": "models",
    "load_model": "models",
    "read_image": "images",
    "register_model": "registered",
    "save_model": "models",
    "write_image": "images",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
