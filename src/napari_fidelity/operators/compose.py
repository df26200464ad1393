"""Operators one after the other, and the explicit list of all of them."""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, get_args

from pydantic import Field, field_validator, model_validator

from napari_fidelity.core.errors import OperatorError
from napari_fidelity.core.foreign_code import is_physics
from napari_fidelity.core.options import flattened
from napari_fidelity.operators._foreign import ForeignOperator
from napari_fidelity.operators.base import Grid, Operator, check_ridge
from napari_fidelity.operators.blur import AiryBlur, Blur, GaussianBlur, MotionBlur, UniformBlur
from napari_fidelity.operators.fourier import Fourier
from napari_fidelity.operators.identity import Identity
from napari_fidelity.operators.mask import Mask
from napari_fidelity.operators.radon import Radon
from napari_fidelity.operators.registered import Registered
from napari_fidelity.operators.resample import Downsample
from napari_fidelity.operators.separable import adjoint, forward, has_closed_form, pseudo_inverse

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from napari_fidelity.operators._axes import Chain

# The list of single operators: a new one is added here.
SingleOperator = (
    Identity
    | Downsample
    | GaussianBlur
    | UniformBlur
    | MotionBlur
    | AiryBlur
    | Blur
    | Mask
    | Radon
    | Fourier
    | Registered
)


class Compose(Operator):
    """Operators applied one after the other, **the first one first**: ``[blur, downsample]`` blurs, then samples.

    Nested compositions are flattened. If every part separates, the per-axis matrices are multiplied, and
    ``A_dagger`` stays closed; otherwise it is solved by conjugate gradients.
    """

    kind: Literal["compose"] = "compose"
    operators: tuple[Annotated[SingleOperator, Field(discriminator="kind")], ...] = Field(
        min_length=1, description="The operators, first applied first."
    )

    @field_validator("operators", mode="before")
    @classmethod
    def _flatten(cls, value: Any) -> Any:
        return flattened(value, cls, "operators")

    @model_validator(mode="after")
    def _possible(self) -> Self:
        elsewhere = [operator.kind for operator in self.operators if not operator.shares_grid]
        if len(elsewhere) > 1:
            raise OperatorError(
                "What one of these operators gives is no image that the other could see",
                found=" + ".join(elsewhere),
                do="Use one of them",
            )
        return self

    def chains(self, ndim: int) -> tuple[Chain, ...] | None:  # noqa: D102 - inherited
        fused: list[Chain] = [()] * ndim
        for operator in self.operators:
            chains = operator.chains(ndim)
            if chains is None:
                return None
            fused = [before + after for before, after in zip(fused, chains, strict=True)]
        return tuple(fused)

    @property
    def shares_grid(self) -> bool:  # noqa: D102 - inherited
        return all(operator.shares_grid for operator in self.operators)

    def image_channels(self, channels: int) -> int:  # noqa: D102 - inherited
        for operator in reversed(self.operators):
            channels = operator.image_channels(channels)
        return channels

    def measurement_channels(self, channels: int) -> int:  # noqa: D102 - inherited
        for operator in self.operators:
            channels = operator.measurement_channels(channels)
        return channels

    def grid(self, ndim: int) -> Grid:  # noqa: D102 - inherited
        return reduce(Grid.then, (operator.grid(ndim) for operator in self.operators))

    def A(self, x: torch.Tensor) -> torch.Tensor:  # noqa: D102 - inherited
        self._check_image(x)
        self.measurement_shape(x.shape[2:])
        chains = self.chains(x.ndim - 2)
        if chains is not None:
            return forward(chains, x)
        for operator in self.operators:
            x = operator.A(x)
        return x

    def A_adjoint(  # noqa: D102 - inherited
        self, y: torch.Tensor, image_shape: Sequence[int] | None = None
    ) -> torch.Tensor:
        shape = self._check_measurement(y, image_shape)
        chains = self.chains(len(shape))
        if chains is not None:
            return adjoint(chains, y, shape)
        shapes = [shape]
        for operator in self.operators[:-1]:
            shapes.append(operator.measurement_shape(shapes[-1]))
        for operator, before in zip(reversed(self.operators), reversed(shapes), strict=True):
            y = operator.A_adjoint(y, before)
        return y

    def A_dagger(  # noqa: D102 - inherited
        self,
        y: torch.Tensor,
        image_shape: Sequence[int] | None = None,
        *,
        ridge: float = 0.0,
        tolerance: float | None = None,
    ) -> torch.Tensor:
        shape = self._check_measurement(y, image_shape)
        check_ridge(ridge)
        parts = [operator for operator in self.operators if not isinstance(operator, Identity)]
        if len(parts) == 1:
            return parts[0].A_dagger(y, shape, ridge=ridge, tolerance=tolerance)
        chains = self.chains(len(shape))
        if chains is not None and has_closed_form(y):
            return pseudo_inverse(chains, y, shape, ridge)
        return super().A_dagger(y, shape, ridge=ridge, tolerance=tolerance)

    def image_shape(self, measurement_shape: Sequence[int]) -> tuple[int, ...]:  # noqa: D102 - inherited
        given = shape = tuple(int(m) for m in measurement_shape)
        for operator in reversed(self.operators):
            # several image shapes can share a measurement shape; a mask says which one it is
            shape = operator.mask.shape if isinstance(operator, Mask) else operator.image_shape(shape)
        found = self.measurement_shape(shape)
        if found != given:
            raise OperatorError(
                f"An image of shape {shape} gives a measurement of shape {found}", found=str(given)
            )
        return shape

    def measurement_shape(self, image_shape: Sequence[int]) -> tuple[int, ...]:  # noqa: D102 - inherited
        shape = tuple(int(n) for n in image_shape)
        for operator in self.operators:
            shape = operator.measurement_shape(shape)
        return shape


AnyOperator = Annotated[SingleOperator | Compose, Field(discriminator="kind")]
"""Any operator as a field of options, told apart by ``kind``."""

OPERATORS: tuple[type[Operator], ...] = (*get_args(SingleOperator), Compose)
"""Every operator class."""


def resolved(operator: Any) -> Any:
    """Return an operator with those that were registered in place of their names.

    Methods and pipeline look for parts of some kinds, such as a mask at the end, and treat an object that is none
    of our operators as what it is: one that tells no grid. In a composition such an object keeps its name. A
    physics of deepinv is handed out itself, for networks that take one.
    """
    if isinstance(operator, Registered):
        own = operator.own
        return own.operator if isinstance(own, ForeignOperator) and is_physics(own.operator) else own
    if not isinstance(operator, Compose) or not any(isinstance(part, Registered) for part in operator.operators):
        return operator
    found = [part.own if isinstance(part, Registered) else part for part in operator.operators]
    parts = zip(found, operator.operators, strict=True)
    return Compose(operators=tuple(own if type(own) in OPERATORS else named for own, named in parts))
