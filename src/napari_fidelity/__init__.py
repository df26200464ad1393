"""Make a restored image answer to the data it was restored from, and show how far it can be trusted.

Every name is imported when it is first used: ``import napari_fidelity`` itself loads neither torch nor Qt.
"""

from __future__ import annotations

import importlib
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_fidelity import denoisers, metrics, networks, operators, stopping
    from napari_fidelity.core.arrays import Image
    from napari_fidelity.core.errors import FidelityError
    from napari_fidelity.core.step import Result, Step
    from napari_fidelity.io import list_models, load_model, read_image, save_model, write_image
    from napari_fidelity.methods import DIP, RED, Apply, DeepRED, FineTune, Project, project
    from napari_fidelity.pipeline import Recipe, reconstruct, restore, restore_steps, run_recipe

__version__ = version("napari-fidelity")

_SOURCES = {
    "Apply": "methods",
    "DIP": "methods",
    "DeepRED": "methods",
    "FidelityError": "core.errors",
    "FineTune": "methods",
    "Image": "core.arrays",
    "Project": "methods",
    "RED": "methods",
    "Recipe": "pipeline",
    "Result": "core.step",
    "Step": "core.step",
    "list_models": "io",
    "load_model": "io",
    "project": "methods",
    "read_image": "io",
    "reconstruct": "pipeline",
    "restore": "pipeline",
    "restore_steps": "pipeline",
    "run_recipe": "pipeline",
    "save_model": "io",
    "write_image": "io",
}
_MODULES = ("denoisers", "metrics", "networks", "operators", "stopping")

__all__ = [
    "DIP",
    "RED",
    "Apply",
    "DeepRED",
    "FidelityError",
    "FineTune",
    "Image",
    "Project",
    "Recipe",
    "Result",
    "Step",
    "denoisers",
    "list_models",
    "load_model",
    "metrics",
    "networks",
    "operators",
    "project",
    "read_image",
    "reconstruct",
    "restore",
    "restore_steps",
    "run_recipe",
    "save_model",
    "stopping",
    "write_image",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    if name in _SOURCES:
        return getattr(importlib.import_module(f"{__name__}.{_SOURCES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
