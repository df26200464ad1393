"""Uncertainty and fidelity maps: where the data supports a result, and where the network made it up."""

from typing import Annotated

from pydantic import Field

from napari_fidelity.uncertainty.base import Output, Quantity, UncertaintyMap
from napari_fidelity.uncertainty.bootstrap import Bootstrap
from napari_fidelity.uncertainty.conformal import Calibration, Pair, calibrate
from napari_fidelity.uncertainty.dropout import Dropout
from napari_fidelity.uncertainty.ensemble import Ensemble
from napari_fidelity.uncertainty.error_map import ErrorMap
from napari_fidelity.uncertainty.null_space import NullSpace
from napari_fidelity.uncertainty.residual import Residual

MAPS: tuple[type[UncertaintyMap], ...] = (Bootstrap, Dropout, Ensemble, NullSpace, Residual, ErrorMap)
"""The maps there are, in the order of menus."""

AnyMap = Annotated[Bootstrap | Dropout | Ensemble | NullSpace | Residual | ErrorMap, Field(discriminator="kind")]

__all__ = [
    "MAPS",
    "AnyMap",
    "Bootstrap",
    "Calibration",
    "Dropout",
    "Ensemble",
    "ErrorMap",
    "NullSpace",
    "Output",
    "Pair",
    "Quantity",
    "Residual",
    "UncertaintyMap",
    "calibrate",
]
