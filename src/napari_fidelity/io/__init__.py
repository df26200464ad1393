"""Reading and writing: images and models. Each name is imported when it is first used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_fidelity.io._atomic import atomic_write, check_output
    from napari_fidelity.io.convert import convert_enhancenet, convert_model
    from napari_fidelity.io.images import read_image, write_image
    from napari_fidelity.io.models import list_models, load_model, save_model

__all__ = [
    "atomic_write",
    "check_output",
    "convert_enhancenet",
    "convert_model",
    "list_models",
    "load_model",
    "read_image",
    "save_model",
    "write_image",
]

_MODULES = {
    "atomic_write": "_atomic",
    "check_output": "_atomic",
    "convert_enhancenet": "convert",
    "convert_model": "convert",
    "list_models": "models",
    "load_model": "models",
    "read_image": "images",
    "save_model": "models",
    "write_image": "images",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
