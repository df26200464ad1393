"""Make a restored image answer to the data it was restored from, and show how far it can be trusted.

Every name is imported when it is first used: ``import napari_fidelity`` itself loads neither torch nor Qt.
"""

from __future__ import annotations

import importlib
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_fidelity import denoisers, metrics, networks, operators, stopping, uncertainty
    from napari_fidelity.core.arrays import Image
    from napari_fidelity.core.errors import FidelityError
    from napari_fidelity.core.step import Result, Step
    from napari_fidelity.io import list_models, load_model, read_image, register_model, save_model, write_image
    from napari_fidelity.methods import DIP, RED, ZSSR, Apply, DeepRED, FineTune, Project, project
    from napari_fidelity.networks import register_architecture
    from napari_fidelity.operators import register_operator
    from napari_fidelity.pipeline import (
        Recipe,
        assess,
        assess_steps,
        reconstruct,
        restore,
        restore_steps,
        run_recipe,
    )
    from napari_fidelity.uncertainty import Bootstrap, Dropout, Ensemble, ErrorMap, NullSpace, Residual

__version__ = version("napari-fidelity")

_SOURCES = {
    "Apply": "methods",
    "Bootstrap": "uncertainty",
    "DIP": "methods",
    "DeepRED": "methods",
    "Dropout": "uncertainty",
    "Ensemble": "uncertainty",
    "ErrorMap": "uncertainty",
    "FidelityError": "core.errors",
    "FineTune": "methods",
    "Image": "core.arrays",
    "NullSpace": "uncertainty",
    "Project": "methods",
    "RED": "methods",
    "Recipe": "pipeline",
    "Residual": "uncertainty",
    "Result": "core.step",
    "Step": "core.step",
    "ZSSR": "methods",
    "assess": "pipeline",
    "assess_steps": "pipeline",
    "list_models": "io",
    "load_model": "io",
    "project": "methods",
    "read_image": "io",
    "reconstruct": "pipeline",
    "register_architecture": "networks",
    "register_model": "io",
    "register_operator": "operators",
    "restore": "pipeline",
    "restore_steps": "pipeline",
    "run_recipe": "pipeline",
    "save_model": "io",
    "write_image": "io",
}
_MODULES = ("denoisers", "metrics", "networks", "operators", "stopping", "uncertainty")

__all__ = [
    "DIP",
    "RED",
    "ZSSR",
    "Apply",
    "Bootstrap",
    "DeepRED",
    "Dropout",
    "Ensemble",
    "ErrorMap",
    "FidelityError",
    "FineTune",
    "Image",
    "NullSpace",
    "Project",
    "Recipe",
    "Residual",
    "Result",
    "Step",
    "assess",
    "assess_steps",
    "denoisers",
    "list_models",
    "load_model",
    "metrics",
    "networks",
    "operators",
    "project",
    "read_image",
    "reconstruct",
    "register_architecture",
    "register_model",
    "register_operator",
    "restore",
    "restore_steps",
    "run_recipe",
    "save_model",
    "stopping",
    "uncertainty",
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
