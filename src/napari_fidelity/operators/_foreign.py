"""An operator that is none of this package's: what it does not tell is found by applying it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_fidelity.core.errors import OperatorError
from napari_fidelity.core.foreign_code import errors_named
from napari_fidelity.core.lazy import torch
from napari_fidelity.operators.base import Grid

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Map = Callable[[torch.Tensor], torch.Tensor]

_CHANNELS = (1, 3, 2)  # of the zeros a shape is found with: an operator may be made for one number of them
_EXTENT = 32  # pixels along each axis of the measurement that a grid is found with


class ForeignOperator:
    """The shapes and the grid of an object that has ``A`` and ``A_adjoint`` and no more.

    The object is given copies, as it may change what it is given, and its results have the precision of those.

    Parameters
    ----------
    name
        What it is called in messages.
    operator
        The object.
    """

    def __init__(self, name: str, operator: Any) -> None:
        self.name, self.operator = name, operator
        self._shapes: dict[tuple[str, tuple[int, ...]], tuple[int, ...]] = {}

    def A(self, x: torch.Tensor) -> torch.Tensor:
        """Apply it to an image."""
        return self._call(self.operator.A, x)

    def A_adjoint(self, y: torch.Tensor) -> torch.Tensor:
        """Apply its adjoint to a measurement."""
        return self._call(self.operator.A_adjoint, y)

    def image_shape(self, measurement_shape: Sequence[int]) -> tuple[int, ...]:
        """Return the spatial shape that ``A_adjoint`` gives."""
        return self._shape("image", self.operator.A_adjoint, measurement_shape)

    def measurement_shape(self, image_shape: Sequence[int]) -> tuple[int, ...]:
        """Return the spatial shape that ``A`` gives."""
        return self._shape("measurement", self.operator.A, image_shape)

    def grid(self, ndim: int) -> Grid:
        """Return the grid of an image that covers the same area as its measurement.

        Raises
        ------
        OperatorError
            If it cannot be applied to small images, by which this is found.
        """
        try:
            scale = tuple(n / _EXTENT for n in self.image_shape((_EXTENT,) * ndim))
        except OperatorError as error:
            raise OperatorError(
                f"'{self.name}' does not tell how its image lies on the measurement",
                found=error.found,
                do="Make it a subclass of nf.operators.Operator, which does",
            ) from error
        return Grid(scale, (0.0,) * ndim)

    def _shape(self, of: str, apply: Map, shape: Sequence[int]) -> tuple[int, ...]:
        """Return the shape of what becomes of zeros; found once."""
        key = (of, tuple(int(n) for n in shape))
        if key not in self._shapes:
            self._shapes[key] = self._found(apply, key[1])
        return self._shapes[key]

    def _found(self, apply: Map, shape: tuple[int, ...]) -> tuple[int, ...]:
        problems: list[OperatorError] = []
        for channels in _CHANNELS:
            try:
                with torch.no_grad():
                    found = self._call(apply, torch.zeros((1, channels, *shape), device=self._device()))
                return tuple(int(n) for n in found.shape[2:])
            except OperatorError as error:
                problems.append(error)
        raise problems[0]

    def _device(self) -> torch.device:
        """Return where the object keeps what it computes with."""
        if not isinstance(self.operator, torch.nn.Module):
            return torch.device("cpu")
        held = [*self.operator.buffers(), *self.operator.parameters()]
        return held[0].device if held else torch.device("cpu")

    def _call(self, apply: Map, x: torch.Tensor) -> torch.Tensor:
        """Return what the object makes of a tensor; what it throws becomes an :class:`OperatorError`."""
        found = called(self.name, apply, x.clone())
        check_made(self.name, found, x)
        return found.to(x.dtype)


def name_of(operator: object) -> str:
    """Return what an operator is called in messages: the name that a foreign one was given, or its class."""
    return operator.name if isinstance(operator, ForeignOperator) else type(operator).__name__


def called(name: str, apply: Map, x: torch.Tensor) -> torch.Tensor:
    """Return what somebody else's map makes of a tensor, whatever that is.

    Raises
    ------
    OperatorError
        In place of what the map throws.
    """
    from napari_fidelity.operators._autograd import own_precision

    with errors_named(OperatorError, f"'{name}'", f"a tensor of shape {tuple(x.shape)}"), own_precision(x):
        return apply(x)


def check_made(name: str, found: object, x: torch.Tensor) -> None:
    """Refuse what no operator makes of a tensor ``(N, C, *spatial)`` of real numbers.

    Raises
    ------
    OperatorError
        If it is none of these, or in half precision where the tensor is not: sums of its values would be noise.
    """
    if not isinstance(found, torch.Tensor) or found.ndim != x.ndim:
        raise OperatorError(
            f"'{name}' turns a tensor of shape {tuple(x.shape)} into none (N, C, *spatial)",
            found=f"shape {tuple(found.shape)}" if isinstance(found, torch.Tensor) else type(found).__name__,
            do="Let A and A_adjoint return one tensor each",
        )
    dtype = str(found.dtype).removeprefix("torch.")
    if not found.is_floating_point():
        raise OperatorError(
            f"'{name}' turns real numbers into others, and a measurement and its image are real",
            found=dtype,
            do="Let A and A_adjoint return floats: of complex numbers the two parts, as channels",
        )
    if found.dtype.itemsize < 4 <= x.dtype.itemsize:
        raise OperatorError(
            f"'{name}' works in half precision, which is too coarse to solve for an image",
            found=dtype,
            do="Let A and A_adjoint compute in the precision of the tensor they are given (float32)",
        )
