"""Blind image formation: the blur of an image, found from the image itself."""

from napari_fidelity.operators.estimation.base import PSFEstimate, PSFKind, correlation
from napari_fidelity.operators.estimation.estimate import estimate_psf

__all__ = ["PSFEstimate", "PSFKind", "correlation", "estimate_psf"]
