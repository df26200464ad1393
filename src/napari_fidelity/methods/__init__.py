"""Methods: each one published, declared as options, run as a generator."""

from typing import Annotated

from pydantic import Field

from napari_fidelity.methods.apply import Apply
from napari_fidelity.methods.base import Method
from napari_fidelity.methods.deep_prior import DIP
from napari_fidelity.methods.deepred import DeepRED
from napari_fidelity.methods.finetune import FineTune
from napari_fidelity.methods.projection import Project, project, ridge_for
from napari_fidelity.methods.red import RED
from napari_fidelity.methods.zssr import ZSSR

AnyMethod = Annotated[FineTune | Project | Apply | RED | DIP | DeepRED | ZSSR, Field(discriminator="kind")]

__all__ = [
    "DIP",
    "RED",
    "ZSSR",
    "AnyMethod",
    "Apply",
    "DeepRED",
    "FineTune",
    "Method",
    "Project",
    "project",
    "ridge_for",
]
