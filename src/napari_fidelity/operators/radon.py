"""Tomography: line integrals along parallel rays."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Discriminator, Field, Tag, model_validator

from napari_fidelity.core.errors import OperatorError
from napari_fidelity.core.lazy import torch
from napari_fidelity.core.options import Array
from napari_fidelity.operators.base import Operator

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_fidelity.operators._rays import Rays


def _form(value: Any) -> str:
    return "number" if isinstance(value, int | float | np.number) else "list"


Angles = Annotated[
    Annotated[int, Field(ge=1, le=100_000), Tag("number")] | Annotated[Array, Tag("list")], Discriminator(_form)
]


class Radon(Operator):
    """Parallel-beam tomography: the sums of a square image along parallel rays (its sinogram).

    An image ``(n, n)`` gives a measurement ``(angles, detectors)``. Detectors are one pixel apart, and the middle
    of the image projects onto their middle. At 0° the rays run along the image's columns; at ``θ`` ray ``s`` runs
    through the points ``x = s·cos θ + t·sin θ``, ``y = −s·sin θ + t·cos θ`` from the middle (``y`` downwards), as
    in scikit-image. Sums are line integrals in units of a pixel. The image is zero beyond its border; its corners
    lie outside the view at some angles unless ``detectors`` reaches ``√2·n``.

    ``A_adjoint`` is the exact transpose; ``A_dagger`` is solved by conjugate gradients. ``‖A‖²`` is about
    ``angles · n``.

    Reference: detectors of one pixel's width as in De Man and Basu 2004, doi:10.1088/0031-9155/49/11/024.
    """

    kind: Literal["radon"] = "radon"
    spatial_dims: ClassVar[tuple[int, ...]] = (2,)
    angles: Angles = Field(
        default=180, description="Angles in degrees, or how many there are, evenly spread over 180°."
    )
    size: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="Pixels on a side of the image; as many as there are detectors if left out."
    )
    detectors: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="Detectors; as many as the image has pixels on a side if left out."
    )

    @model_validator(mode="after")
    def _possible(self) -> Self:
        angles = self.angles
        if not isinstance(angles, int) and (angles.ndim != 1 or angles.size == 0):
            raise OperatorError("Angles are a list of degrees", found=f"an array of shape {angles.shape}")
        return self

    @property
    def shares_grid(self) -> bool:  # noqa: D102 - inherited
        return False

    @cached_property
    def degrees(self) -> tuple[float, ...]:
        """Every angle, in degrees."""
        if isinstance(self.angles, int):
            return tuple(180 * k / self.angles for k in range(self.angles))
        return tuple(float(angle) for angle in self.angles)

    def A(self, x: torch.Tensor) -> torch.Tensor:  # noqa: D102 - inherited
        from napari_fidelity.operators._autograd import linear_map

        self._check_image(x)
        _, detectors = self.measurement_shape(x.shape[2:])
        rays = self._rays(x.shape[-1], detectors, x)
        return linear_map(x, rays.project, rays.spread)

    def A_adjoint(  # noqa: D102 - inherited
        self, y: torch.Tensor, image_shape: Sequence[int] | None = None
    ) -> torch.Tensor:
        from napari_fidelity.operators._autograd import linear_map

        size, _ = self._check_measurement(y, image_shape)
        rays = self._rays(size, y.shape[-1], y)
        return linear_map(y, rays.spread, rays.project)

    def image_shape(self, measurement_shape: Sequence[int]) -> tuple[int, ...]:  # noqa: D102 - inherited
        found = _two(measurement_shape)
        detectors = self.detectors or self.size or found[1]
        if found != (len(self.degrees), detectors):
            raise OperatorError(
                f"The measurement has {len(self.degrees)} rows, one per angle, of {detectors} detectors",
                found=f"shape {found}",
                do="Rows (Y) are angles, columns (X) are detectors; say how many in 'angles' and 'detectors'",
            )
        return (self.size or detectors,) * 2

    def measurement_shape(self, image_shape: Sequence[int]) -> tuple[int, ...]:  # noqa: D102 - inherited
        found = _two(image_shape)
        if found[0] != found[1] or found[0] < 1 or found[0] != (self.size or found[0]):
            wanted = f"of {self.size} × {self.size} pixels" if self.size else "as high as it is wide"
            raise OperatorError(
                f"Tomography needs an image {wanted}", found=f"shape {found}", do="Crop or pad the image"
            )
        return len(self.degrees), self.detectors or found[0]

    def _rays(self, size: int, detectors: int, like: torch.Tensor) -> Rays:
        from napari_fidelity.operators._rays import rays

        # 16-bit floats cannot hold long sums
        dtype = torch.promote_types(like.dtype, torch.float32)
        return rays(self.degrees, int(size), int(detectors), dtype, like.device)


def _two(shape: Sequence[int]) -> tuple[int, int]:
    if len(shape) != 2:
        raise OperatorError("Tomography works on 2-D images", found=f"shape {tuple(shape)}", do="Give one slice")
    return int(shape[0]), int(shape[1])
