"""Uncertainty and fidelity maps: where the data supports a result, and where the network made it up."""

from napari_fidelity.uncertainty.base import Output, Quantity, UncertaintyMap

__all__ = ["Output", "Quantity", "UncertaintyMap"]
