"""Pixel sizes of layers: napari's units (pint's) in the words of :class:`~napari_fidelity.core.arrays.Image`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari.layers import Layer


@dataclass(frozen=True)
class Sampling:
    """How a layer samples space and time.

    Attributes
    ----------
    pixel_size
        Distance between pixels along ``Z``, ``Y`` and ``X``, in ``unit``; for ``T``, where known, in seconds.
    origin
        Where the first pixel's centre lies along ``Z``, ``Y`` and ``X``, in ``unit``.
    unit
        ``"µm"``, ``"nm"`` …; ``"pixel"`` where the layer has none.
    """

    pixel_size: Mapping[str, float]
    origin: Mapping[str, float]
    unit: str

    @classmethod
    def of(cls, layer: Layer, axes: str) -> Sampling:
        """Return the sampling of a layer.

        Parameters
        ----------
        layer
            Any image layer. Its ``affine`` places it in the world and does not change the size of its pixels.
        axes
            One letter of ``TZCYXS`` for each dimension of its data.
        """
        units = layer_units(layer)
        common = units[axes.index("X")] if units else "pixel"
        size, origin = {}, {}
        for i, axis in enumerate(axes.replace("S", "")):
            scale = abs(float(layer.scale[i]))
            if axis in "ZYX":
                # One unit for all axes; an axis that has none of this kind keeps its bare numbers.
                ratio = (factor(units[i], common) if units else None) or 1.0
                size[axis] = scale * ratio
                origin[axis] = float(layer.translate[i]) * ratio
            elif axis == "T":
                seconds = factor(units[i], "second") if units else None
                size |= {"T": scale * seconds} if seconds else {}
        return cls(size, origin, symbol(common))

    def nanometres(self, axis: str = "X") -> float | None:
        """Return the pixel size along an axis in nanometres; ``None`` if the unit is no length."""
        ratio = factor(self.unit, "nm")
        return None if ratio is None or axis not in self.pixel_size else self.pixel_size[axis] * ratio


def layer_units(layer: Layer) -> tuple[Any, ...] | None:
    """Return the units of a layer's dimensions; ``None`` where napari knows none yet."""
    units = getattr(layer, "units", None)
    return tuple(units) if units else None


def world_units(viewer: Any) -> tuple[Any, ...] | None:
    """Return the units of the viewer's world; ``None`` where napari knows none, or its layers disagree."""
    units = getattr(viewer.dims, "units", None)
    return tuple(units) if units else None


def factor(unit: Any, other: Any) -> float | None:
    """Return how many of one unit make up another: 1000 for µm and nm; ``None`` if they cannot be compared."""
    if unit == other:
        return 1.0
    import pint

    try:
        return float(pint.get_application_registry().Quantity(1.0, unit).to(other).magnitude)
    except pint.PintError:
        return None


def factors(units: Sequence[Any] | None, others: Sequence[Any] | None, ndim: int) -> list[float]:
    """Return the factors of the last ``ndim`` units, 1 where there are none or they cannot be compared."""
    if not units or not others or min(len(units), len(others)) < ndim:
        return [1.0] * ndim
    return [factor(a, b) or 1.0 for a, b in zip(units[-ndim:], others[-ndim:], strict=True)]


def symbol(unit: Any) -> str:
    """Return the short symbol of a unit."""
    short = unit if isinstance(unit, str) else f"{unit:~}"
    return "pixel" if short in ("", "px", "dimensionless") else short
