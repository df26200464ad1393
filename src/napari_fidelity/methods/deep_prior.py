"""The deep image prior: an untrained network as the only assumption about the image.

Ulyanov, Vedaldi, Lempitsky, "Deep Image Prior", CVPR 2018, doi:10.1109/CVPR.2018.00984.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field, model_validator

from napari_fidelity.core.options import Array
from napari_fidelity.methods._fields import IterationField, SnapshotsField
from napari_fidelity.methods.base import Method
from napari_fidelity.networks.untrained import AnyUntrained, Skip
from napari_fidelity.stopping.rules import Budget, HeldOut, StoppingRule

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from napari_fidelity.methods.base import LinearOperator, Network, Steps
    from napari_fidelity.operators.noise import Noise


INPUTS = 32
"""Channels of the network's input (Ulyanov 2018)."""


_PATIENCE = 300  # iterations without improvement of what is held out; single ones say little


class DeepPrior(Method):
    """What the methods with an untrained network ``T_θ(z)`` have in common.

    ``runs`` networks with weights and inputs of their own go in step with each other; every iteration takes one
    Adam step in each. Their images are averaged, and the averages over the iterations once more, exponentially.
    """

    reads_measurement: ClassVar[bool] = False
    begins_at_random: ClassVar[bool] = True
    offers: ClassVar[frozenset[str]] = frozenset({"held_out", "variance"})
    network: AnyUntrained = Field(Skip(), description="The untrained network.")
    iterations: int = Field(3000, ge=1, le=1_000_000, description="Largest number of iterations.")
    learning_rate: float = Field(0.01, gt=0, le=1, description="Length of a step of Adam.")
    decay: float = Field(
        1.0, gt=0, le=1, description="Factor by which the learning rate falls every 1000 iterations."
    )
    start: Literal["noise", "measurement", "classical"] | Array = Field(
        "noise",
        description="What the network is shown: noise alone, or beside it an image to start from: the measurement "
        "on the image's grid, its projection onto the data, or any image.",
    )
    input_noise: float = Field(
        0.03,
        ge=0,
        le=1,
        description="Standard deviation of what is added to the network's input in each iteration.",
    )
    average: float = Field(
        0.95,
        ge=0,
        lt=1,
        description="Weight of the iterations before in the average of the images; 0 takes the last.",
    )
    runs: int = Field(1, ge=1, le=64, description="Networks with weights of their own whose images are averaged.")
    sigmoid: bool = Field(
        True,
        description="Keep the image within the range [0, 1] of the scaled intensities, or that of the classical "
        "solution where this is wider.",
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="Arithmetic of the network; auto takes bfloat16 where the processor is faster in it."
    )
    hold_out: float = Field(
        0.05,
        ge=0,
        lt=1,
        description="Share of the measurement that the network never sees, by which the iteration is chosen; 0 "
        "runs all iterations and returns the last. Other stopping rules take its place.",
    )
    iteration: IterationField = None
    snapshots: SnapshotsField = 0

    @model_validator(mode="after")
    def _can_be_reached(self) -> Self:
        if self.iteration is not None and self.iteration >= self.iterations:
            raise ValueError(f"iteration {self.iteration} lies beyond the {self.iterations} iterations asked for")
        return self

    def default_stop(self) -> StoppingRule:
        """Return the rule that ends the run if none is given: pixels that are held out get worse."""
        if self.hold_out == 0:
            return Budget(iterations=self.iterations)  # which the run itself ends before
        return HeldOut(fraction=self.hold_out, patience=_PATIENCE)

    def memory(
        self,
        shape: Sequence[int],
        model: Network | None,
        device: torch.device,
        image_shape: Sequence[int] | None = None,
    ) -> int:
        """Return about how many bytes a run holds at once. See :meth:`Method.memory`."""
        from napari_fidelity.methods._memory import prior_memory

        return prior_memory(self, image_shape or shape, device)


class DIP(DeepPrior):
    """Minimise ``D(A T_θ(z), y)`` over the weights ``θ`` of an untrained network, from random ones.

    ``D`` is the negative log-likelihood of the noise model, the squared error where there is none. The network
    learns the image before it learns the noise, so everything depends on when it is stopped.
    """

    kind: Literal["dip"] = "dip"

    @model_validator(mode="after")
    def _is_shown(self) -> Self:
        if self.network.kind == "deep_decoder" and not (isinstance(self.start, str) and self.start == "noise"):
            raise ValueError(
                "a deep decoder is shown coarse noise alone: 'start' must be noise, or the network skip"
            )
        return self

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
        """Run the deep image prior on a measurement (N, C, *m), 2-D or 3-D. See :meth:`Method.steps`."""
        from napari_fidelity.methods._prior_run import Run

        return (yield from Run(self, y, operator, noise=noise, stop=stop, weights=weights, rng=rng).steps())
