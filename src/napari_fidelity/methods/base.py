"""What every method promises, and what foreign operators and networks need to take part."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Protocol

from napari_fidelity.core.device import is_out_of_memory
from napari_fidelity.core.errors import NonFiniteError, OperatorError, ShapeError
from napari_fidelity.core.lazy import torch
from napari_fidelity.core.options import Options
from napari_fidelity.operators.base import Operator

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from napari_fidelity.core.step import Result, Step
    from napari_fidelity.operators.noise import Noise
    from napari_fidelity.stopping.rules import StoppingRule

    Network = Callable[[torch.Tensor], torch.Tensor]
    Steps = Generator[Step, str | None, Result[torch.Tensor]]


class LinearOperator(Protocol):
    """The part of an operator that methods rely on; ``deepinv.physics.LinearPhysics`` has it too."""

    def A(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the image formation model."""
        ...

    def A_adjoint(self, y: torch.Tensor) -> torch.Tensor:
        """Apply its adjoint."""
        ...


class Method(Options, ABC):
    """A published method: its settings, and the generator that runs it."""

    kind: str

    @abstractmethod
    def steps(
        self,
        y: torch.Tensor,
        operator: LinearOperator,
        model: Network | None = None,
        *,
        noise: Noise | None = None,
        stop: StoppingRule | None = None,
        weights: torch.Tensor | None = None,
        rng: int | torch.Generator = 0,
    ) -> Steps:
        """Run the method.

        Parameters
        ----------
        y
            Measurement ``(N, C, *m)``, float, nominal range [0, 1].
        operator
            Image formation model ``A``.
        model
            Restoration network ``f``; never changed.
        noise
            Noise model in the units of ``y``; ``None`` for unknown or no noise.
        stop
            When to stop; ``None`` takes the method's own rule.
        weights
            1 where ``y`` was observed, 0 where it was not; broadcastable to ``y``.
        rng
            Seed, or a generator on the CPU, for everything random.

        Yields
        ------
        Step
            One per iteration. Sending a reason ends the run with the best image so far.

        Returns
        -------
        Result
            With the image as a tensor ``(N, C, *n)``.
        """


def dagger(
    operator: LinearOperator, r: torch.Tensor, image_shape: Sequence[int], ridge: float = 0.0
) -> torch.Tensor:
    """Return ``Aᵀ (A Aᵀ + ridge·I)⁻¹ r`` for our own operators and for foreign ones alike."""
    if isinstance(operator, Operator):
        return operator.A_dagger(r, image_shape, ridge=ridge)
    from napari_fidelity.operators._cg import damped_least_squares

    return damped_least_squares(operator.A, operator.A_adjoint, r, ridge)


def adjoint(operator: LinearOperator, r: torch.Tensor, image_shape: Sequence[int]) -> torch.Tensor:
    """Return ``Aᵀ r`` as an image of the given spatial shape."""
    if isinstance(operator, Operator):
        return operator.A_adjoint(r, image_shape)
    return operator.A_adjoint(r)


def generator(rng: int | torch.Generator) -> torch.Generator:
    """Return a random generator on the CPU for a seed, or the one given."""
    if isinstance(rng, int):
        return torch.Generator().manual_seed(rng)
    return rng


def check_measurement(y: torch.Tensor, weights: torch.Tensor | None) -> None:
    """Refuse a measurement that no method can use.

    Raises
    ------
    ShapeError
        If ``y`` is not ``(N, C, *m)``, is complex or empty, or the weights do not fit it.
    NonFiniteError
        If ``y`` holds NaN or infinity where it was observed.
    """
    if y.ndim not in (4, 5) or y.numel() == 0 or not y.is_floating_point():
        raise ShapeError(
            "A measurement must be a float tensor (N, C, *spatial) with two or three spatial axes",
            found=f"shape {tuple(y.shape)}, {y.dtype}",
        )
    finite = torch.isfinite(y)
    if weights is not None:
        try:
            finite = finite | (weights == 0).expand_as(y)
        except RuntimeError:
            raise ShapeError(
                "The weights do not fit the measurement",
                found=f"{tuple(weights.shape)} beside {tuple(y.shape)}",
            ) from None
        if not bool((weights > 0).any()):
            raise ShapeError("Every pixel of the measurement is masked out", do="Check the mask")
    if not bool(finite.all()):
        raise NonFiniteError(
            "The measurement holds values that are not finite",
            found=f"{int((~finite).sum())} of {y.numel()}",
            do="Mask them out as unobserved, or mend the image",
        )


def check_fit(operator: LinearOperator, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return ``A x`` after making sure that it has the shape of ``y``.

    Raises
    ------
    ShapeError
        If the network's output, put through the operator, does not have the measurement's shape.
    """
    prediction = call_operator(operator, x)
    if prediction.shape != y.shape:
        raise ShapeError(
            "The image formation model turns this image into a measurement of another shape",
            found=f"image {tuple(x.shape)} -> {tuple(prediction.shape)}, measurement {tuple(y.shape)}",
            do="Check that the model's scale and the operator's scale are the same",
        )
    return prediction


def call_operator(operator: LinearOperator, x: torch.Tensor) -> torch.Tensor:
    """Return ``A x``; what a foreign operator throws becomes an :class:`OperatorError`."""
    try:
        return operator.A(x)
    except (RuntimeError, ValueError, TypeError, AttributeError, IndexError) as error:
        if is_out_of_memory(error):
            raise
        raise OperatorError(
            f"{type(operator).__name__} cannot be applied to an image of shape {tuple(x.shape)}", found=str(error)
        ) from error
