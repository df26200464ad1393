"""What every image formation model promises.

The method names are those of deepinv's physics, so that a ``deepinv.physics.LinearPhysics`` can stand wherever
an operator is expected; what such a foreign operator lacks (shapes, ridge) is supplied by
:mod:`napari_fidelity.methods.base`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

from napari_fidelity.core.options import Options
from napari_fidelity.operators._cg import conjugate_gradient

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch


class Operator(Options, ABC):
    """A linear image formation model ``A``: image ``x`` to noise-free measurement ``A x``.

    Operators are stateless, thread-safe and differentiable. Tensors are ``(N, C, *spatial)`` of any float
    dtype, on any device, spatial 2-D or 3-D as :attr:`spatial_dims` says; every channel is treated alike.
    """

    kind: str
    spatial_dims: ClassVar[tuple[int, ...]] = (2, 3)

    @abstractmethod
    def A(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the model: image ``(N, C, *n)`` to measurement ``(N, C, *m)``."""

    @abstractmethod
    def A_adjoint(self, y: torch.Tensor, image_shape: Sequence[int] | None = None) -> torch.Tensor:
        """Apply the adjoint: measurement ``(N, C, *m)`` to image ``(N, C, *n)``.

        Parameters
        ----------
        y
            A measurement.
        image_shape
            Spatial shape ``n`` of the image; the one :meth:`image_shape` gives if left out.
        """

    def A_dagger(
        self, y: torch.Tensor, image_shape: Sequence[int] | None = None, *, ridge: float = 0.0
    ) -> torch.Tensor:
        """Return ``Aᵀ (A Aᵀ + ridge·I)⁻¹ y``: for ``ridge = 0`` the least-norm image that explains ``y``.

        Subclasses give closed forms where there are any; this one solves by conjugate gradients.
        """
        shape = tuple(image_shape) if image_shape is not None else self.image_shape(y.shape[2:])

        def normal(r: torch.Tensor) -> torch.Tensor:
            return self.A(self.A_adjoint(r, shape)) + ridge * r

        return self.A_adjoint(conjugate_gradient(normal, y), shape)

    @abstractmethod
    def image_shape(self, measurement_shape: Sequence[int]) -> tuple[int, ...]:
        """Return the spatial shape of the image that belongs to a measurement of this spatial shape."""

    @abstractmethod
    def measurement_shape(self, image_shape: Sequence[int]) -> tuple[int, ...]:
        """Return the spatial shape of the measurement of an image of this spatial shape."""
