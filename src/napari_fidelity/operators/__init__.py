"""Image formation models ``A`` and noise models."""

from napari_fidelity.operators.base import Operator
from napari_fidelity.operators.identity import Identity
from napari_fidelity.operators.resample import Downsample, resize
from napari_fidelity.operators.separable import SeparableOperator

__all__ = ["Downsample", "Identity", "Operator", "SeparableOperator", "resize"]
