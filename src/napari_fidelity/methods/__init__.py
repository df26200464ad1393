"""Methods: each one published, declared as options, run as a generator."""

from typing import Annotated

from pydantic import Field

from napari_fidelity.methods.apply import Apply
from napari_fidelity.methods.base import Method
from napari_fidelity.methods.finetune import FineTune
from napari_fidelity.methods.projection import Project, project, ridge_for

AnyMethod = Annotated[FineTune | Project | Apply, Field(discriminator="kind")]

__all__ = ["AnyMethod", "Apply", "FineTune", "Method", "Project", "project", "ridge_for"]
