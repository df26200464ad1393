"""The identity: the measurement is the image (denoising)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from napari_fidelity.operators.separable import SeparableOperator

if TYPE_CHECKING:
    from napari_fidelity.operators._axes import Chain


class Identity(SeparableOperator):
    """The measurement is the image itself, with noise at most."""

    kind: Literal["identity"] = "identity"

    def chains(self, ndim: int) -> tuple[Chain, ...]:  # noqa: D102 - inherited
        return ((),) * ndim
