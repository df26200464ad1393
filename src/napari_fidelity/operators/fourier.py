"""Magnetic resonance imaging: an image seen in some of its spatial frequencies."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from napari_fidelity.core.errors import OperatorError, OptionError
from napari_fidelity.core.lazy import torch
from napari_fidelity.core.options import Array
from napari_fidelity.operators.base import Operator, check_ridge
from napari_fidelity.operators.mask import check_weights

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_fidelity.operators._matrix import Held

_PLANE = (-2, -1)


class Fourier(Operator):
    """Spatial frequencies (k-space) of an image, sampled where a mask says, by one coil or several.

    ``A x = mask · F (Sᵢ · x)`` for coil ``i`` of sensitivity ``Sᵢ``, with the orthonormal, centred discrete
    Fourier transform ``F``: frequency zero lies in the middle, at index ``n // 2`` of each axis. Channels of the
    measurement are the real and the imaginary part of the first coil, then of the next; frequencies that are not
    sampled are zero. An image is one channel (``real``) or the real and the imaginary part of a complex one
    (``complex``). Twice as many channels are two images.

    ``A_dagger`` is exact for a single coil without a sensitivity map, and solved by conjugate gradients otherwise.

    Reference: Pruessmann et al. 1999 (SENSE), doi:10.1002/(SICI)1522-2594(199911)42:5<952::AID-MRM16>3.0.CO;2-S.
    """

    kind: Literal["fourier"] = "fourier"
    spatial_dims: ClassVar[tuple[int, ...]] = (2,)
    mask: Array = Field(
        description="Weights in [0, 1] of the frequencies (rows, columns), or of whole columns; 0 = not sampled."
    )
    coils: Array | None = Field(
        default=None,
        description="Sensitivity of coils (coils, 2, rows, columns), real and imaginary; none for a single coil.",
    )
    image: Literal["complex", "real"] = Field(
        default="complex", description="Whether the image has a real and an imaginary channel, or is real."
    )

    @model_validator(mode="after")
    def _possible(self) -> Self:
        check_weights(self.mask, (1, 2))
        if self.coils is not None:
            shape = self.coils.shape
            if len(shape) != 4 or shape[1] != 2 or self.coils.size == 0:
                raise OperatorError("Coils are an array (coils, 2, rows, columns)", found=f"shape {shape}")
            if shape[-self.mask.ndim :] != self.mask.shape:
                raise OperatorError(
                    f"The coils' maps have shape {shape[2:]}", found=f"a mask of shape {self.mask.shape}"
                )
            if not self.coils.any():
                raise OperatorError("The coils see nothing", found="sensitivities that are all zero")
        return self

    @property
    def shares_grid(self) -> bool:  # noqa: D102 - inherited
        return False

    @property
    def _unit(self) -> tuple[int, int]:
        """The channels of one image, and of its measurement."""
        return 2 if self.image == "complex" else 1, 2 if self.coils is None else 2 * len(self.coils)

    def image_channels(self, channels: int) -> int:  # noqa: D102 - inherited
        of_image, of_measurement = self._unit
        images = _whole(channels, of_measurement, "a measurement", "a real and an imaginary part for each coil")
        return images * of_image

    def measurement_channels(self, channels: int) -> int:  # noqa: D102 - inherited
        of_image, of_measurement = self._unit
        hint = "a real and an imaginary part; for a real image say image=real"
        return _whole(channels, of_image, "an image", hint) * of_measurement

    def A(self, x: torch.Tensor) -> torch.Tensor:  # noqa: D102 - inherited
        self._check_image(x)
        self.measurement_shape(x.shape[2:])
        self.measurement_channels(x.shape[1])
        return self._map(x, self._weights(x), adjoint=False)

    def A_adjoint(  # noqa: D102 - inherited
        self, y: torch.Tensor, image_shape: Sequence[int] | None = None
    ) -> torch.Tensor:
        self._check_measurement(y, image_shape)
        return self._map(y, self._weights(y), adjoint=True)

    def A_dagger(  # noqa: D102 - inherited
        self,
        y: torch.Tensor,
        image_shape: Sequence[int] | None = None,
        *,
        ridge: float = 0.0,
        tolerance: float | None = None,
    ) -> torch.Tensor:
        from napari_fidelity.operators.separable import inverse_eigenvalues

        shape = self._check_measurement(y, image_shape)
        check_ridge(ridge)
        if self.coils is not None:
            return super().A_dagger(y, shape, ridge=ridge, tolerance=tolerance)
        weights = self._weights(y)
        gram = weights.square()
        if self.image == "real":
            # a real image has the same value, conjugated, at the opposite frequency
            gram = (gram + _opposite(gram)) / 2
        return self._map(y, weights * inverse_eigenvalues(gram, ridge), adjoint=True)

    def image_shape(self, measurement_shape: Sequence[int]) -> tuple[int, ...]:  # noqa: D102 - inherited
        return self.measurement_shape(measurement_shape)

    def measurement_shape(self, image_shape: Sequence[int]) -> tuple[int, ...]:  # noqa: D102 - inherited
        shape = tuple(int(n) for n in image_shape)
        wanted = self.mask.shape if self.coils is None else self.coils.shape[2:]
        if len(shape) != 2 or shape[-len(wanted) :] != wanted:
            what = f"shape {wanted}" if len(wanted) == 2 else f"{wanted[0]} columns"
            raise OperatorError(f"The image and its frequencies have {what}", found=f"shape {shape}")
        return shape

    def _check_measurement(self, y: torch.Tensor, image_shape: Sequence[int] | None) -> tuple[int, ...]:
        shape = super()._check_measurement(y, image_shape)
        self.image_channels(y.shape[1])
        return shape

    def _map(self, t: torch.Tensor, weights: torch.Tensor, *, adjoint: bool) -> torch.Tensor:
        """Apply ``A``, or its adjoint, with these weights in place of the mask."""
        from napari_fidelity.operators._autograd import linear_map

        def forward(x: torch.Tensor) -> torch.Tensor:
            return self._sampled(x, weights)

        def backward(y: torch.Tensor) -> torch.Tensor:
            return self._combined(y, weights)

        return linear_map(t, backward, forward) if adjoint else linear_map(t, forward, backward)

    def _sampled(self, x: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        wide = x.to(weights.dtype)
        z = _to_complex(wide, 1) if self.image == "complex" else wide.unsqueeze(2)  # (N, images, 1, H, W)
        coils = self._sensitivities(weights)
        z = z if coils is None else z * coils
        spectrum = torch.fft.fft2(torch.fft.ifftshift(z, dim=_PLANE), norm="ortho")
        return _to_channels(torch.fft.fftshift(spectrum, dim=_PLANE) * weights).to(x.dtype)

    def _combined(self, y: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        spectrum = _to_complex(y.to(weights.dtype), self._unit[1] // 2) * weights  # (N, images, coils, H, W)
        z = torch.fft.ifft2(torch.fft.ifftshift(spectrum, dim=_PLANE), norm="ortho")
        z = torch.fft.fftshift(z, dim=_PLANE)
        coils = self._sensitivities(weights)
        z = z if coils is None else (z * coils.conj()).sum(2, keepdim=True)
        return (_to_channels(z) if self.image == "complex" else z.real.squeeze(2)).to(y.dtype)

    def _weights(self, like: torch.Tensor) -> torch.Tensor:
        return _tensor(self._held[0], like)

    def _sensitivities(self, like: torch.Tensor) -> torch.Tensor | None:
        if self.coils is None:
            return None
        parts = _tensor(self._held[1], like)
        return torch.complex(parts[:, 0], parts[:, 1])

    @cached_property
    def _held(self) -> tuple[Held, ...]:
        from napari_fidelity.operators._matrix import Held

        return tuple(Held(array) for array in (self.mask, self.coils) if array is not None)


def sampling_mask(
    shape: Sequence[int], acceleration: float, centre: float = 0.08, rng: np.random.Generator | int = 0
) -> NDArray[Any]:
    """Return a float32 mask of frequencies: the middle ones, and others at random.

    Parameters
    ----------
    shape
        ``(W,)`` for whole columns of k-space (Cartesian lines), ``(H, W)`` for single frequencies.
    acceleration
        How many times fewer frequencies are sampled than there are, at least 1.
    centre
        Fraction of the frequencies, in the middle, that is always sampled, in [0, 1 / acceleration].
    rng
        A NumPy generator or a seed.

    Raises
    ------
    OptionError
        If a value is out of range.
    """
    size = tuple(int(n) for n in shape)
    if len(size) not in (1, 2) or min(size) < 1:
        raise OptionError("A sampling mask has one or two axes", found=f"shape {size}")
    if not 1 <= acceleration < float("inf"):
        raise OptionError("'acceleration' must be at least 1", found=str(acceleration))
    if not 0 <= centre <= 1 / acceleration:
        raise OptionError("'centre' must lie between 0 and 1 / acceleration", found=str(centre))
    mask = np.zeros(size, np.float32)
    mask[tuple(_middle(n, centre ** (1 / len(size))) for n in size)] = 1
    wanted = max(1, round(mask.size / acceleration)) - int(mask.sum())
    if wanted > 0:
        others = np.flatnonzero(mask.ravel() == 0)
        mask.flat[np.random.default_rng(rng).choice(others, wanted, replace=False)] = 1
    return mask


def _middle(n: int, fraction: float) -> slice:
    """Return the given fraction of ``n`` frequencies around frequency zero."""
    count = round(n * fraction)
    start = n // 2 - count // 2
    return slice(start, start + count)


def _whole(channels: int, unit: int, what: str, hint: str) -> int:
    """Return how many times ``unit`` channels there are."""
    if channels < 1 or channels % unit:
        raise OperatorError(
            f"The channels of {what} come in groups of {unit}", found=f"{channels}", do=f"Each group is {hint}"
        )
    return channels // unit


def _to_complex(t: torch.Tensor, coils: int) -> torch.Tensor:
    """Take channels ``(N, images · coils · 2, H, W)`` to complex ``(N, images, coils, H, W)``."""
    parts = t.reshape(len(t), -1, coils, 2, *t.shape[2:])
    return torch.complex(parts[:, :, :, 0].contiguous(), parts[:, :, :, 1].contiguous())


def _to_channels(z: torch.Tensor) -> torch.Tensor:
    """Take complex ``(N, images, coils, H, W)`` to channels ``(N, images · coils · 2, H, W)``."""
    return torch.stack([z.real, z.imag], 3).flatten(1, 3)


def _opposite(weights: torch.Tensor) -> torch.Tensor:
    """Return the weight of the opposite of each centred frequency."""
    axes = tuple(range(weights.ndim))
    return weights.flip(axes).roll([1 - n % 2 for n in weights.shape], axes)


def _tensor(held: Held, like: torch.Tensor) -> torch.Tensor:
    from napari_fidelity.operators._matrix import held_tensor

    # there are no 16-bit Fourier transforms
    return held_tensor(held, torch.promote_types(like.dtype, torch.float32), like.device)
