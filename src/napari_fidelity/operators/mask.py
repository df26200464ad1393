"""Missing and weighted pixels."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from napari_fidelity.core.errors import OperatorError, OptionError
from napari_fidelity.core.options import Array
from napari_fidelity.operators.base import Operator, check_ridge

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from numpy.typing import NDArray

    from napari_fidelity.operators._matrix import Held


class Mask(Operator):
    """Pixels seen with a weight between 0 (missing) and 1 (seen): ``A x = mask · x``.

    The measurement keeps the shape of the image, with zeros where pixels are missing. ``A_dagger`` is exact.
    """

    kind: Literal["mask"] = "mask"
    mask: Array = Field(description="Weights in [0, 1], shaped like the image's spatial axes; 0 = missing.")

    @model_validator(mode="after")
    def _possible(self) -> Self:
        check_weights(self.mask, self.spatial_dims)
        return self

    def A(self, x: torch.Tensor) -> torch.Tensor:  # noqa: D102 - inherited
        self._check_image(x)
        self.measurement_shape(x.shape[2:])
        return x * self._weights(x)

    def A_adjoint(  # noqa: D102 - inherited
        self, y: torch.Tensor, image_shape: Sequence[int] | None = None
    ) -> torch.Tensor:
        self._check_measurement(y, image_shape)
        return y * self._weights(y)

    def A_dagger(  # noqa: D102 - inherited
        self,
        y: torch.Tensor,
        image_shape: Sequence[int] | None = None,
        *,
        ridge: float = 0.0,
        tolerance: float | None = None,
    ) -> torch.Tensor:
        from napari_fidelity.operators.separable import inverse_eigenvalues

        self._check_measurement(y, image_shape)
        check_ridge(ridge)
        weights = self._weights(y)
        return y * (weights * inverse_eigenvalues(weights.square(), ridge))

    def image_shape(self, measurement_shape: Sequence[int]) -> tuple[int, ...]:  # noqa: D102 - inherited
        return self.measurement_shape(measurement_shape)

    def measurement_shape(self, image_shape: Sequence[int]) -> tuple[int, ...]:  # noqa: D102 - inherited
        shape = tuple(int(n) for n in image_shape)
        if shape != self.mask.shape:
            raise OperatorError(
                f"The mask has shape {self.mask.shape}",
                found=f"an image of shape {shape}",
                do="They must be equal",
            )
        return shape

    def _weights(self, like: torch.Tensor) -> torch.Tensor:
        from napari_fidelity.operators._matrix import held_tensor

        return held_tensor(self._held, like.dtype, like.device)

    @cached_property
    def _held(self) -> Held:
        from napari_fidelity.operators._matrix import Held

        return Held(self.mask)


def check_weights(mask: NDArray[Any], dims: Sequence[int]) -> None:
    """Raise :class:`OperatorError` unless a mask has as many axes as it may and weights in [0, 1], not all 0."""
    if mask.ndim not in dims or mask.size == 0:
        wanted = " or ".join(f"{d}-D" for d in dims)
        raise OperatorError(f"The mask must be a {wanted} array", found=f"shape {mask.shape}")
    low, high = float(mask.min()), float(mask.max())
    if low < 0 or high > 1:
        raise OperatorError("The mask's weights must lie in [0, 1]", found=f"[{low:.3g}, {high:.3g}]")
    if high == 0:
        raise OperatorError("The mask leaves nothing to be seen", do="Set what is seen to 1")


def random_mask(shape: Sequence[int], keep: float, rng: np.random.Generator | int) -> NDArray[Any]:
    """Return a float32 mask that keeps each pixel with probability ``keep``, at least one of them.

    Parameters
    ----------
    shape
        Spatial shape of the image.
    keep
        Fraction of pixels seen, in (0, 1].
    rng
        A NumPy generator or a seed.

    Raises
    ------
    OptionError
        If ``keep`` is out of range.
    """
    if not 0 < keep <= 1:
        raise OptionError("'keep' must lie in (0, 1]", found=str(keep))
    rng = np.random.default_rng(rng)
    mask = (rng.random(tuple(shape)) < keep).astype(np.float32)
    if not mask.any():
        mask.flat[int(rng.integers(mask.size))] = 1
    return mask
