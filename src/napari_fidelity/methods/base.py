"""What every method promises, and what foreign operators and networks need to take part."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, Protocol, Self

from napari_fidelity.core.options import Options

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    import torch

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
