"""What every image formation model promises.

The method names are those of deepinv's physics, so that a ``deepinv.physics.LinearPhysics`` can stand wherever
an operator is expected; what such a foreign operator lacks (shapes, ridge) is supplied by
:mod:`napari_fidelity.methods.calls`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from napari_fidelity.core.errors import ImageError, OptionError, ShapeError
from napari_fidelity.core.options import Options

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from napari_fidelity.operators._axes import Chain
    from napari_fidelity.operators.noise import Noise

RELATIVE_CUTOFF = 1e-6
"""Eigenvalues of ``A Aᵀ`` below this fraction of the largest count as zero when ``ridge = 0``.

Singular values below a thousandth of the largest carry nothing that survives noise; inverting them would
multiply it by more than a thousand.
"""


@dataclass(frozen=True, slots=True)
class Grid:
    """Where the pixels of an image lie among those of its measurement, for each spatial axis.

    Attributes
    ----------
    scale
        Image samples per measurement sample.
    shift
        Where the image's first pixel area begins, in pixels of the measurement, counted from where its own first
        pixel area begins: 0 where both begin at the same edge, negative where the image reaches further
        (border ``valid``).
    """

    scale: tuple[float, ...]
    shift: tuple[float, ...]

    def then(self, other: Grid) -> Grid:
        """Return the grid of this operator followed by another."""
        scale = tuple(a * b for a, b in zip(self.scale, other.scale, strict=True))
        shift = tuple(t / b + u for t, b, u in zip(self.shift, other.scale, other.shift, strict=True))
        return Grid(scale, shift)


class Operator(Options, ABC):
    """A linear image formation model ``A``: image ``x`` to noise-free measurement ``A x``.

    Operators are stateless, thread-safe and differentiable. Tensors are ``(N, C, *spatial)`` of any float
    dtype, on any device, spatial 2-D or 3-D as :attr:`spatial_dims` says; every channel is treated alike, unless
    :meth:`image_channels` says that several of them make one image.

    Raises
    ------
    ImageError
        If a tensor is complex, integer, empty or has no batch and channel axes.
    ShapeError
        If an image shape and a measurement shape do not belong to each other.
    OperatorError
        If the operator is impossible, or impossible on an image of this size.
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
        self,
        y: torch.Tensor,
        image_shape: Sequence[int] | None = None,
        *,
        ridge: float = 0.0,
        tolerance: float | None = None,
    ) -> torch.Tensor:
        """Return ``Aᵀ (A Aᵀ + ridge·I)⁻¹ y``: for ``ridge = 0`` the least-norm image that explains ``y``.

        Subclasses give closed forms where there are any, with eigenvalues of ``A Aᵀ`` below
        :data:`RELATIVE_CUTOFF` of the largest cut off; this one solves by conjugate gradients (CGLS), to a
        relative ``tolerance`` (as exactly as the precision allows if left out) that closed forms ignore.
        """
        from napari_fidelity.operators._autograd import linear_map
        from napari_fidelity.operators._cg import damped_least_squares

        shape = self._check_measurement(y, image_shape)
        check_ridge(ridge)

        def backward(r: torch.Tensor) -> torch.Tensor:
            return self.A_adjoint(r, shape)

        # 16-bit floats hold neither the squares of large numbers nor the small steps near the end
        wide = y if y.dtype.itemsize > 2 else y.float()
        # the adjoint of A's damped inverse is the damped inverse of A's adjoint
        return linear_map(
            wide,
            lambda r: damped_least_squares(self.A, backward, r, ridge, tolerance=tolerance),
            lambda g: damped_least_squares(backward, self.A, g, ridge, tolerance=tolerance),
        ).to(y.dtype)

    def chains(self, ndim: int) -> tuple[Chain, ...] | None:
        """Return the factors along each of ``ndim`` spatial axes if the operator separates, else ``None``."""
        return None

    @property
    def shares_grid(self) -> bool:
        """Whether a measurement sample is a point of the image; a line integral or a spatial frequency is none.

        Where it is ``False``, :meth:`grid` says nothing, and adding a constant to the image adds no constant to
        the measurement: intensities are scaled by a factor alone.
        """
        return True

    def image_channels(self, channels: int) -> int:
        """Return the number of channels of the image that belongs to a measurement of that many ``channels``.

        Raises
        ------
        OperatorError
            If no measurement has that many channels.
        """
        return channels

    def measurement_channels(self, channels: int) -> int:
        """Return the number of channels of the measurement of an image of that many ``channels``.

        Raises
        ------
        OperatorError
            If no image has that many channels.
        """
        return channels

    def grid(self, ndim: int) -> Grid:
        """Return where the image's pixels lie among the measurement's, for ``ndim`` spatial axes.

        A point of the image is then seen in the measurement, at its centre of mass, at the same place in space.
        An operator that neither separates nor overrides this keeps the image's grid. Not to be used where
        :attr:`shares_grid` is ``False``.
        """
        from napari_fidelity.operators._axes import chain_grid

        chains = self.chains(ndim) or ((),) * ndim
        scales, shifts = zip(*(chain_grid(chain) for chain in chains), strict=True)
        return Grid(scales, shifts)

    def to_deepinv(self, like: torch.Tensor, noise: Noise | None = None) -> Any:
        """Return this operator as a ``deepinv.physics.LinearPhysics``, for that library's networks and methods.

        Parameters
        ----------
        like
            A measurement ``(N, C, *m)``: the physics is for images of the size that belongs to it, on its device.
        noise
            Noise of the measurement, in its units; unknown noise counts as none.

        Raises
        ------
        MissingDependencyError
            If the library is missing.
        """
        from napari_fidelity.operators._deepinv import physics_of

        return physics_of(self, like, noise)

    def __matmul__(self, other: Operator) -> Operator:
        """Return ``self`` after ``other``: ``(A @ B)(x) = A(B(x))``."""
        from napari_fidelity.operators.compose import Compose

        return Compose(operators=(other, self))

    @abstractmethod
    def image_shape(self, measurement_shape: Sequence[int]) -> tuple[int, ...]:
        """Return the spatial shape of the image that belongs to a measurement of this spatial shape."""

    @abstractmethod
    def measurement_shape(self, image_shape: Sequence[int]) -> tuple[int, ...]:
        """Return the spatial shape of the measurement of an image of this spatial shape."""

    def _check_image(self, x: torch.Tensor) -> None:
        check_tensor(x, self.spatial_dims)

    def _check_measurement(self, y: torch.Tensor, image_shape: Sequence[int] | None) -> tuple[int, ...]:
        """Check ``y`` and return the spatial shape of the image it belongs to."""
        check_tensor(y, self.spatial_dims)
        found = tuple(int(n) for n in y.shape[2:])
        shape = tuple(int(n) for n in (self.image_shape(found) if image_shape is None else image_shape))
        expected = self.measurement_shape(shape)
        if expected != found:
            raise ShapeError(
                f"An image of shape {shape} gives a measurement of shape {expected}",
                found=f"a measurement of shape {found}",
                do=f"For this measurement the image has shape {self.image_shape(found)}",
            )
        return shape


def check_tensor(x: torch.Tensor, spatial_dims: Sequence[int] = (2, 3)) -> None:
    """Raise :class:`ImageError` unless ``x`` is a real floating-point tensor ``(N, C, *spatial)``."""
    if x.is_complex():
        raise ImageError("Operators work on real images", found=str(x.dtype), do="Pass its magnitude or real part")
    if not x.is_floating_point():
        raise ImageError("Operators work on floating-point images", found=str(x.dtype), do="Convert it to float")
    if x.ndim - 2 not in spatial_dims:
        wanted = " or ".join(f"{d}-D" for d in spatial_dims)
        raise ImageError(
            f"Expected a tensor (N, C, *spatial) with {wanted} space",
            found=f"shape {tuple(x.shape)}",
            do="Add the batch and channel axes",
        )
    if x.numel() == 0:
        raise ImageError("The image is empty", found=f"shape {tuple(x.shape)}")


def check_ridge(ridge: float) -> None:
    """Raise :class:`OptionError` if the ridge is negative or not finite."""
    if not 0 <= ridge < float("inf"):
        raise OptionError("The ridge must be zero or positive", found=str(ridge))
