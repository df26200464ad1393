"""Field types that several operators share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from pydantic import Discriminator, Field, Tag

from napari_fidelity.core.errors import OperatorError
from napari_fidelity.operators._axes import Border

if TYPE_CHECKING:
    from collections.abc import Sequence

T = TypeVar("T")


def _form(value: Any) -> str:
    return "per axis" if isinstance(value, list | tuple) else "number"


# The tags keep errors short: only the form that was given is tried.
PerAxis = Annotated[
    Annotated[T, Tag("number")] | Annotated[tuple[T, ...], Field(min_length=2, max_length=3), Tag("per axis")],
    Discriminator(_form),
]
"""One value for all axes, or one for each of two or three axes."""

BorderField = Annotated[
    Border, Field(description="What the blur sees beyond the border: reflect, circular, zero, or valid (nothing).")
]


def per_axis(name: str, value: float | Sequence[float], ndim: int) -> tuple[float, ...]:
    """Return one value per axis from one number or from exactly ``ndim`` numbers.

    Raises
    ------
    OperatorError
        If there are values for another number of axes.
    """
    if isinstance(value, int | float):
        return (value,) * ndim
    if len(value) != ndim:
        raise OperatorError(
            f"'{name}' has {len(value)} values", found=f"an image with {ndim} axes", do="Give one value per axis"
        )
    return tuple(value)
