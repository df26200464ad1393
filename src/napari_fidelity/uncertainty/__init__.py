"""Uncertainty and fidelity maps: where the data supports a result, and where the network made it up."""

from typing import Annotated

from pydantic import Field

from napari_fidelity.uncertainty.base import Output, Quantity, UncertaintyMap
from napari_fidelity.uncertainty.error_map import ErrorMap
from napari_fidelity.uncertainty.null_space import NullSpace
from napari_fidelity.uncertainty.residual import Residual

MAPS: tuple[type[UncertaintyMap], ...] = (NullSpace, Residual, ErrorMap)
"""The maps there are, in the order of menus."""

AnyMap = Annotated[NullSpace | Residual | ErrorMap, Field(discriminator="kind")]

__all__ = ["MAPS", "AnyMap", "ErrorMap", "NullSpace", "Output", "Quantity", "Residual", "UncertaintyMap"]
