"""Blur: convolution with a point-spread function.

True convolution, ``y[i] = Σ_j k[j] x[i + c - j]``, with the centre ``c`` of an axis of ``n`` kernel samples at
sample ``n // 2`` (the middle one of an odd size). Borders:

``reflect``  half-sample symmetric, ``b a | a b c | c b`` (default)
``circular`` periodic, ``b c | a b c | a b``
``zero``     nothing outside
``valid``    only where the whole kernel lies on the image; the measurement is smaller
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, field_validator, model_validator

from napari_fidelity.core.errors import OperatorError
from napari_fidelity.core.options import Array
from napari_fidelity.operators import psf
from napari_fidelity.operators._axes import Chain, Convolve, kernel_shift, kernel_too_large
from napari_fidelity.operators._fields import BorderField, PerAxis, per_axis
from napari_fidelity.operators.base import Grid, Operator, check_ridge
from napari_fidelity.operators.separable import (
    SeparableOperator,
    adjoint,
    forward,
    has_closed_form,
    pseudo_inverse,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from numpy.typing import NDArray


class GaussianBlur(SeparableOperator):
    """Blur by a Gaussian, cut off at four standard deviations; one matrix per axis, closed-form ``A_dagger``."""

    kind: Literal["gaussian_blur"] = "gaussian_blur"
    sigma: PerAxis[Annotated[float, Field(ge=0, le=200)]] = Field(
        1.0,
        description="Standard deviation, one number or one per axis (0 leaves an axis alone).",
        json_schema_extra={"unit": "px"},
    )
    border: BorderField = "reflect"

    def chains(self, ndim: int) -> tuple[Chain, ...]:  # noqa: D102 - inherited
        sigmas = per_axis("sigma", self.sigma, ndim)
        return tuple(
            (Convolve(tuple(psf.gaussian_weights(s).tolist()), self.border),) if s > 0 else () for s in sigmas
        )


class UniformBlur(SeparableOperator):
    """Moving average over a box; one matrix per axis, closed-form ``A_dagger``."""

    kind: Literal["uniform_blur"] = "uniform_blur"
    size: PerAxis[Annotated[int, Field(ge=1, le=1001)]] = Field(
        9,
        description="Side of the box, one number or one per axis (1: none); even sizes shift by ½ px.",
        json_schema_extra={"unit": "px"},
    )
    border: BorderField = "reflect"

    def chains(self, ndim: int) -> tuple[Chain, ...]:  # noqa: D102 - inherited
        sizes = (int(s) for s in per_axis("size", self.size, ndim))
        return tuple((Convolve((1 / s,) * s, self.border),) if s > 1 else () for s in sizes)

    def measurement_shape(self, image_shape: Sequence[int]) -> tuple[int, ...]:  # noqa: D102 - inherited
        check_support([int(s) for s in per_axis("size", self.size, len(image_shape))], image_shape)
        return super().measurement_shape(image_shape)


@dataclass(frozen=True, eq=False)
class Kernel:
    """A kernel; compared by identity, so that caches can key on it."""

    values: NDArray[np.float64]
    rounding: float
    """Relative precision of the values; their factors need not be exacter."""

    @cached_property
    def factors(self) -> tuple[NDArray[np.float64], ...] | None:
        """The factors along the axes, if any; looked for when asked for, as that may take a second."""
        return psf.separate(self.values, 16 * self.rounding)


class ConvolutionOperator(Operator):
    """Convolution with a kernel that need not separate.

    Direct or by FFT, whichever :func:`~napari_fidelity.operators._convolve.prefers_fft` expects to be faster.
    A kernel that is an outer product is applied as one matrix per axis. ``A_dagger`` is closed for those and for
    the circular border (FFT), and by conjugate gradients otherwise.
    """

    border: BorderField = "reflect"
    truncated: ClassVar[bool] = False  # a kernel cut off by us may be wider than the image

    @abstractmethod
    def kernel_array(self, ndim: int) -> NDArray[np.float64]:
        """Return the kernel for images of ``ndim`` spatial axes."""

    def _rounding(self) -> float:
        """Return the relative precision of the kernel's values."""
        return float(np.finfo(np.float64).eps)

    @cached_property
    def _kernels(self) -> dict[int, Kernel]:
        return {}

    def _kernel(self, ndim: int) -> Kernel:
        if ndim not in self._kernels:
            self._kernels[ndim] = Kernel(self.kernel_array(ndim), self._rounding())
        return self._kernels[ndim]

    def chains(self, ndim: int) -> tuple[Chain, ...] | None:  # noqa: D102 - inherited
        factors = self._kernel(ndim).factors
        if factors is None:
            return None
        return tuple((Convolve(tuple(f.tolist()), self.border),) for f in factors)

    def grid(self, ndim: int) -> Grid:  # noqa: D102 - inherited
        kernel = self._kernel(ndim).values
        marginals = (kernel.sum(tuple(other for other in range(ndim) if other != axis)) for axis in range(ndim))
        return Grid((1.0,) * ndim, tuple(kernel_shift(weights, self.border) for weights in marginals))

    def A(self, x: torch.Tensor) -> torch.Tensor:  # noqa: D102 - inherited
        from napari_fidelity.operators._convolve import convolve

        self._check_image(x)
        self.measurement_shape(x.shape[2:])
        chains = self.chains(x.ndim - 2)
        if chains is not None:
            return forward(chains, x)
        return convolve(x, self._kernel(x.ndim - 2), self.border)

    def A_adjoint(  # noqa: D102 - inherited
        self, y: torch.Tensor, image_shape: Sequence[int] | None = None
    ) -> torch.Tensor:
        from napari_fidelity.operators._convolve import convolve_adjoint

        shape = self._check_measurement(y, image_shape)
        chains = self.chains(len(shape))
        if chains is not None:
            return adjoint(chains, y, shape)
        return convolve_adjoint(y, self._kernel(len(shape)), self.border, shape)

    def A_dagger(  # noqa: D102 - inherited
        self,
        y: torch.Tensor,
        image_shape: Sequence[int] | None = None,
        *,
        ridge: float = 0.0,
        tolerance: float | None = None,
    ) -> torch.Tensor:
        from napari_fidelity.operators._convolve import circular_pseudo_inverse

        shape = self._check_measurement(y, image_shape)
        check_ridge(ridge)
        if self.border == "circular":
            return circular_pseudo_inverse(y, self._kernel(len(shape)), ridge)
        chains = self.chains(len(shape))
        if chains is not None and has_closed_form(y):
            return pseudo_inverse(chains, y, shape, ridge)
        return super().A_dagger(y, shape, ridge=ridge, tolerance=tolerance)

    def image_shape(self, measurement_shape: Sequence[int]) -> tuple[int, ...]:  # noqa: D102 - inherited
        size = self._kernel(len(measurement_shape)).values.shape
        grow = 1 if self.border == "valid" else 0
        return tuple(int(m) + grow * (k - 1) for m, k in zip(measurement_shape, size, strict=True))

    def measurement_shape(self, image_shape: Sequence[int]) -> tuple[int, ...]:  # noqa: D102 - inherited
        size = self._kernel(len(image_shape)).values.shape
        if self.border == "valid" or not self.truncated:
            check_support(size, image_shape)
        shrink = 1 if self.border == "valid" else 0
        return tuple(int(n) - shrink * (k - 1) for n, k in zip(image_shape, size, strict=True))


class Blur(ConvolutionOperator):
    """Blur by a kernel given as an array of the image's spatial dimension.

    Raises
    ------
    OperatorError
        If the kernel is empty, has NaN or infinite entries, is not 2-D or 3-D, or is to be normalised and does
        not have a positive sum.
    """

    kind: Literal["blur"] = "blur"
    kernel: Array = Field(description="The point-spread function, 2-D or 3-D like the image; centre at size // 2.")
    normalise: bool = Field(True, description="Divide the kernel by its sum, so that the mean intensity is kept.")

    @field_validator("kernel", mode="before")
    @classmethod
    def _finite(cls, value: Any) -> Any:
        if isinstance(value, dict):
            return value
        array = np.asarray(value)
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            bad = int((~np.isfinite(array)).sum())
            raise OperatorError("The blur kernel has NaN or infinite entries", found=f"{bad} of {array.size}")
        return value

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.kernel.size == 0:
            raise OperatorError("The blur kernel is empty", found=f"shape {self.kernel.shape}")
        if self.kernel.ndim not in self.spatial_dims:
            raise OperatorError("The blur kernel must be 2-D or 3-D", found=f"shape {self.kernel.shape}")
        with np.errstate(over="ignore"):  # a sum beyond all numbers is refused below
            total, size = (float(array.sum(dtype=np.float64)) for array in (self.kernel, np.abs(self.kernel)))
        if self.normalise and not total > 1e-6 * size:
            raise OperatorError(
                "The blur kernel cannot be normalised",
                found=f"a sum of {total:.3g}",
                do="Give a kernel with a positive sum, or set normalise=False",
            )
        return self

    def kernel_array(self, ndim: int) -> NDArray[np.float64]:  # noqa: D102 - inherited
        if self.kernel.ndim != ndim:
            raise OperatorError(
                f"The blur kernel is {self.kernel.ndim}-D",
                found=f"a {ndim}-D image",
                do="Use a kernel with as many axes as the image",
            )
        kernel = self.kernel.astype(np.float64)
        return kernel / kernel.sum() if self.normalise else kernel

    def _rounding(self) -> float:
        return float(np.finfo(self.kernel.dtype).eps)


class MotionBlur(ConvolutionOperator):
    """Blur by a straight, uniform movement in the plane of the last two axes."""

    kind: Literal["motion_blur"] = "motion_blur"
    length: float = Field(9.0, ge=1, le=500, description="Length of the path.", json_schema_extra={"unit": "px"})
    angle: float = Field(
        0.0,
        ge=-360,
        le=360,
        description="Direction, counter-clockwise from the last (horizontal) axis.",
        json_schema_extra={"unit": "°"},
    )

    def kernel_array(self, ndim: int) -> NDArray[np.float64]:  # noqa: D102 - inherited
        return _in_plane(psf.motion(self.length, self.angle), ndim)


class AiryBlur(ConvolutionOperator):
    """Blur by the in-focus diffraction pattern of an objective, in the plane of the last two axes.

    In a volume every plane is blurred alike: a model of a stack of thin sections, not of wide-field depth.
    """

    kind: Literal["airy_blur"] = "airy_blur"
    truncated: ClassVar[bool] = True
    wavelength: float = Field(
        520.0, ge=100, le=3000, description="Emission wavelength.", json_schema_extra={"unit": "nm"}
    )
    numerical_aperture: float = Field(1.4, ge=0.02, le=1.7, description="Numerical aperture of the objective.")
    pixel_size: float = Field(
        65.0, ge=1, le=20000, description="Pixel size in the sample plane.", json_schema_extra={"unit": "nm"}
    )

    def kernel_array(self, ndim: int) -> NDArray[np.float64]:  # noqa: D102 - inherited
        return _in_plane(psf.airy(self.wavelength, self.numerical_aperture, self.pixel_size), ndim)


def check_support(kernel: Sequence[int], image: Sequence[int]) -> None:
    """Raise :class:`OperatorError` if the kernel is larger than the image."""
    if any(k > n for k, n in zip(kernel, image, strict=True)):
        raise kernel_too_large(kernel, image)


def _in_plane(kernel: NDArray[np.float64], ndim: int) -> NDArray[np.float64]:
    return kernel.reshape((1,) * (ndim - 2) + kernel.shape)
