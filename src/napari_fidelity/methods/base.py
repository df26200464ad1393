"""What every method promises, and what foreign operators and networks need to take part."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, Protocol, Self

from napari_fidelity.core.device import is_out_of_memory
from napari_fidelity.core.errors import (
    ArchitectureError,
    DivergedError,
    NonFiniteError,
    OperatorError,
    OptionError,
    ShapeError,
)
from napari_fidelity.core.lazy import torch
from napari_fidelity.core.options import Options
from napari_fidelity.networks.copies import private_copy as private_copy
from napari_fidelity.operators._foreign import check_made
from napari_fidelity.operators.base import Operator
from napari_fidelity.operators.compose import Compose
from napari_fidelity.operators.identity import Identity
from napari_fidelity.operators.resample import Downsample

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from napari_fidelity.core.step import Result, Step
    from napari_fidelity.operators.noise import Noise
    from napari_fidelity.stopping.rules import StoppingRule

    Network = Callable[[torch.Tensor], torch.Tensor]
    Steps = Generator[Step[torch.Tensor], str | None, Result[torch.Tensor]]


class LinearOperator(Protocol):
    """The part of an operator that methods rely on; ``deepinv.physics.LinearPhysics`` has it too."""

    def A(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the image formation model."""
        ...

    def A_adjoint(self, y: torch.Tensor) -> torch.Tensor:
        """Apply its adjoint."""
        ...


class ChosenIteration(Protocol):
    """The options of a method of whose iterations one can be chosen and some can be kept."""

    @property
    def iteration(self) -> int | None:
        """The iteration whose image is returned, or ``None``."""
        ...

    @property
    def snapshots(self) -> int:
        """Number of iterations whose images are kept."""
        ...


class Method(Options, ABC):
    """A published method: its settings, and the generator that runs it.

    Attributes
    ----------
    begins_at_random
        Whether another seed gives another image.
    offers
        Scores that stopping rules may need, beyond the usual ones.
    """

    kind: str
    begins_at_random: ClassVar[bool] = False
    offers: ClassVar[frozenset[str]] = frozenset()

    @property
    def reads_measurement(self) -> bool:
        """Whether its network is a restoration network ``f(y)``; if not, a denoiser of images that it makes."""
        return True

    @property
    def spatial_dims(self) -> tuple[int, ...]:
        """How many spatial axes a measurement may have."""
        return (2, 3)

    def default_model(self) -> str | None:
        """Return the id of the bundled network that it takes where none is given; ``None`` for none."""
        return None

    @property
    def iterative(self) -> bool:
        """Whether there are iterations to choose from: the options ``iteration`` and ``snapshots``."""
        return {"iteration", "snapshots"} <= type(self).model_fields.keys()

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

    def memory(
        self,
        shape: Sequence[int],
        model: Network | None,
        device: torch.device,
        image_shape: Sequence[int] | None = None,
    ) -> int:
        """Return about how many bytes a run holds at once, beside measurement and result.

        Parameters
        ----------
        shape
            Of the measurement, ``(N, C, H, W)``.
        model
            The network; two small crops run through it.
        device
            Where it is going to run.
        image_shape
            Of the image, ``(N, C, *n)``; that of the measurement if left out.
        """
        from napari_fidelity.methods._memory import network_memory

        return network_memory(model, shape)

    def settled(self, shape: Sequence[int], model: Network | None, device: torch.device) -> Self:
        """Return the method with what it would choose by the free memory as options, so that a recipe tells of it.

        Parameters
        ----------
        shape, model, device
            As for :meth:`memory`.
        """
        return self


def dagger(
    operator: LinearOperator,
    r: torch.Tensor,
    image_shape: Sequence[int],
    ridge: float = 0.0,
    tolerance: float | None = None,
) -> torch.Tensor:
    """Return ``Aᵀ (A Aᵀ + ridge·I)⁻¹ r`` for our own operators and for foreign ones alike.

    Where there is no closed form, conjugate gradients stop at the relative ``tolerance``.
    """
    if isinstance(operator, Operator):
        return operator.A_dagger(r, image_shape, ridge=ridge, tolerance=tolerance)
    from napari_fidelity.operators._cg import damped_least_squares

    return damped_least_squares(
        operator.A, lambda z: adjoint(operator, z, image_shape), r, ridge, tolerance=tolerance
    )


def adjoint(operator: LinearOperator, r: torch.Tensor, image_shape: Sequence[int]) -> torch.Tensor:
    """Return ``Aᵀ r`` as an image of the given spatial shape."""
    if isinstance(operator, Operator):
        return operator.A_adjoint(r, image_shape)
    x = operator.A_adjoint(r.clone())  # it may work in place
    check_made(type(operator).__name__, x, r)
    return x


def apply_to_features(operator: LinearOperator, z: torch.Tensor, n_channels: int) -> torch.Tensor:
    """Return ``A z`` for features: any number of channels, each treated as ``A`` treats those of an image.

    Our own operators take any number of channels. A foreign one may be made for ``n_channels``: it is shown each
    feature in all of them.

    Raises
    ------
    OperatorError
        If the operator does not treat the channels of an image alike, so that a feature has no image under it.
    """
    if isinstance(operator, Operator) or z.shape[1] == n_channels:
        return operator.A(z)
    try:
        seen = call_operator(operator, z)
        if seen.shape[:2] == z.shape[:2]:  # one channel may have been broadcast to all of them
            return seen
    except OperatorError:
        pass
    copies = z.reshape(-1, 1, *z.shape[2:]).expand(-1, n_channels, *z.shape[2:])
    seen = call_operator(operator, copies)
    if not torch.allclose(seen, seen[:, :1].expand_as(seen), rtol=1e-4, atol=1e-6):
        raise OperatorError(
            f"{type(operator).__name__} does not treat all channels alike, which the closed-form last layer needs",
            do="Set last_layer to 'descend'",
        )
    return seen[:, 0].reshape(*z.shape[:2], *seen.shape[2:])


def trained_part(operator: LinearOperator) -> Operator | None:
    """Return the downsampling at the end of an image formation model, if there is something before it."""
    if not isinstance(operator, Compose):
        return None
    parts = [part for part in operator.operators if not isinstance(part, Identity)]
    return parts[-1] if len(parts) > 1 and isinstance(parts[-1], Downsample) else None


def generator(rng: int | torch.Generator) -> torch.Generator:
    """Return a random generator on the CPU for a seed, or the one given."""
    return rng if isinstance(rng, torch.Generator) else torch.Generator().manual_seed(int(rng))


def check_measurement(y: torch.Tensor, weights: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return measurement and weights in float32, or refuse what no method can use.

    Raises
    ------
    ShapeError
        If ``y`` is not ``(N, C, *m)``, is complex or empty, or the weights do not fit it.
    OptionError
        If a weight is negative or not finite.
    NonFiniteError
        If ``y`` holds NaN or infinity; the network sees unobserved pixels too.
    """
    if y.ndim not in (4, 5) or y.numel() == 0 or not y.is_floating_point():
        raise ShapeError(
            "A measurement must be a float tensor (N, C, *spatial) with two or three spatial axes",
            found=f"shape {tuple(y.shape)}, {y.dtype}",
        )
    if weights is not None:
        weights = weights.to(y.device, torch.float32)
        try:
            weights.expand_as(y)
        except RuntimeError:
            raise ShapeError(
                "The weights do not fit the measurement",
                found=f"{tuple(weights.shape)} beside {tuple(y.shape)}",
            ) from None
        if not bool(((weights == 0) | (weights == 1)).all()):
            raise OptionError(
                "A weight says whether a pixel was observed, 1 or 0",
                found=f"weights from {float(weights.min()):g} to {float(weights.max()):g}",
                do="Give the noise of pixels that are less certain as a noise model",
            )
        if not bool((weights > 0).any()):
            raise ShapeError("Every pixel of the measurement is masked out", do="Check the mask")
    finite = torch.isfinite(y)
    if not bool(finite.all()):
        raise NonFiniteError(
            "The measurement holds values that are not finite",
            found=f"{int((~finite).sum())} of {y.numel()}",
            do="Fill them with something sane and give them the weight 0, or mend the image",
        )
    return y.float(), weights


def check_fit(operator: LinearOperator, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return ``A x`` after making sure that it has the shape of ``y``, and that ``x`` is still what it was.

    Raises
    ------
    ShapeError
        If the network's output, put through the operator, does not have the measurement's shape.
    OperatorError
        If the operator works in place, or makes no real tensor.
    """
    given = x.clone()
    prediction = call_operator(operator, given)
    check_made(type(operator).__name__, prediction, x)
    if not torch.equal(given, x) and bool(x.isfinite().all()):
        raise OperatorError(
            f"The A of {type(operator).__name__} changes the image that it is given",
            do="Let it work on a copy: A(x.clone())",
        )
    if prediction.shape != y.shape:
        raise ShapeError(
            "The image formation model turns this image into a measurement of another shape",
            found=f"image {tuple(x.shape)} -> {tuple(prediction.shape)}, measurement {tuple(y.shape)}",
            do="Check that the model's scale and the operator's scale are the same; some models can be adapted "
            "to another scale (scale=2, --scale 2)",
        )
    return prediction


def check_finite_output(x: torch.Tensor) -> None:
    """Refuse a network's output that is not finite.

    Raises
    ------
    DivergedError
        With the number of bad pixels.
    """
    finite = torch.isfinite(x)
    if not bool(finite.all()):
        raise DivergedError(
            "The network's output for this image is not finite",
            found=f"{int((~finite).sum())} bad pixels",
            do="Check the intensity scaling and the model file, or use precision float32",
        )


def in_channels_last(network: torch.nn.Module) -> torch.nn.Module:
    """Return a network of one's own with the channels of its weights last in memory, where it runs like that."""
    from napari_fidelity.networks.adapters import innermost  # it loads torch

    fits = getattr(innermost(network), "takes_channels_last", True)
    return network.to(memory_format=torch.channels_last) if fits else network


def call_network(network: Network, y: torch.Tensor) -> torch.Tensor:
    """Return ``f(y)``; what a network throws at such an image becomes an :class:`ArchitectureError`."""
    try:
        x = network(y)
    except (RuntimeError, ValueError, TypeError, AttributeError, IndexError) as error:
        if is_out_of_memory(error):
            raise
        raise ArchitectureError(
            f"{type(network).__name__} cannot be applied to an image of shape {tuple(y.shape)}", found=str(error)
        ) from error
    if not isinstance(x, torch.Tensor) or x.ndim != y.ndim:
        found = f"shape {tuple(x.shape)}" if isinstance(x, torch.Tensor) else type(x).__name__
        raise ArchitectureError(
            f"A restoration network turns an image {tuple(y.shape)} into an image (N, C, *spatial)", found=found
        )
    return x


def call_operator(operator: LinearOperator, x: torch.Tensor) -> torch.Tensor:
    """Return ``A x``; what a foreign operator throws becomes an :class:`OperatorError`."""
    try:
        return operator.A(x)
    except (RuntimeError, ValueError, TypeError, AttributeError, IndexError, AssertionError) as error:
        if is_out_of_memory(error):
            raise
        raise OperatorError(
            f"{type(operator).__name__} cannot be applied to an image of shape {tuple(x.shape)}", found=str(error)
        ) from error
