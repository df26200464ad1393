"""Data-consistency fine-tuning: adapt a trained network to this one measurement.

Lucas, Lopez-Tapia, Molina, Katsaggelos: *Self-supervised fine-tuning for correcting super-resolution
convolutional neural networks*, 2020 (arXiv:1912.12879); first at ICIP 2019.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from napari_fidelity.core.options import Array
from napari_fidelity.methods._fields import (
    CheckpointingField,
    CropsField,
    IterationField,
    MarginField,
    SnapshotsField,
    TileField,
)
from napari_fidelity.methods.base import Method
from napari_fidelity.stopping.rules import LRPSNRGain, Settled

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from napari_fidelity.methods.base import LinearOperator, Network, Steps
    from napari_fidelity.operators.noise import Noise
    from napari_fidelity.stopping.rules import StoppingRule

Subset = Literal["all", "last", "first", "norm_bias", "low_rank"]


class FineTune(Method):
    """Minimise ``‖A f_ψ(y) − y‖²`` over the network's parameters ``ψ``, from the trained ones (eq. 1).

    :meth:`lucas2020` gives the published settings. The defaults are ours. Iteration ``k`` looks at the
    measurement in one of its eight flips and turns; it runs the network, solves the last layer in closed form
    for this view (ridge regression), averages the images of all iterations so far, projects the average onto
    the data, and takes one gradient step on the other layers, with the solved last layer in place (variable
    projection: Golub and Pereyra 1973, doi:10.1137/0710036). So the first image is there after one pass of the
    network, and the average over the views (Timofte 2016, doi:10.1109/CVPR.2016.206) costs nothing extra.
    """

    kind: Literal["finetune"] = "finetune"
    spatial_dims: ClassVar[tuple[int, ...]] = (2,)
    offers: ClassVar[frozenset[str]] = frozenset({"held_out", "lr_lpips"})
    iterations: int = Field(11, ge=0, le=100_000, description="Largest number of gradient steps.")
    optimizer: Literal["adam", "sgd"] = Field("adam", description="Gradient method.")
    learning_rate: float = Field(1.5e-4, gt=0, le=1, description="Length of a gradient step.")
    schedule: Literal["constant", "cosine"] = Field(
        "cosine", description="Learning rate: the same throughout, or falling to a tenth."
    )
    adaptive: bool = Field(
        True,
        description="Shorten the steps where the network's output explains the measurement well already, and take "
        "none that could only fit the noise.",
    )
    momentum: float = Field(0.9, ge=0, lt=1, description="Momentum of SGD, first beta of Adam.")
    parameters: Subset = Field(
        "all",
        description="Which parameters move: all, the last layer, the first quarter of the layers, "
        "normalisation and biases, or a low-rank change of every weight.",
    )
    rank: int = Field(4, ge=1, le=64, description="Rank of the low-rank change.")
    last_layer: Literal["solve", "descend"] = Field(
        "solve", description="The last layer: solved in closed form at every step, or moved like the others."
    )
    ridge: float | None = Field(
        None,
        gt=0,
        description="Weight of the last layer's change in the closed form; left out, it follows the scale and, "
        "where there is no coarser copy to learn from (see pairs), the noise.",
    )
    pairs: float | None = Field(
        None,
        ge=0,
        description="Weight of the image's own coarser copy, of which f(A y) should make y; left out, it follows "
        "the scale.",
    )
    reads: Literal["measurement", "as_trained"] = Field(
        "as_trained",
        description="What the network reads: the measurement, or, where the model blurs before it downsamples, "
        "the measurement as downsampling alone would have made it.",
    )
    views: Literal[1, 8] = Field(8, description="Flips and turns of the image that the iterations go through.")
    average: bool = Field(True, description="Average the images of all iterations, or take the best one alone.")
    mask: Literal["none", "edges"] | Array = Field(
        "none",
        description="Weight of each image pixel in the data term: none, edges (1 − Sobel of the network's "
        "output, eq. 2), or an image of weights on the result's grid, such as a variance map stands for "
        "(napari_fidelity.uncertainty.mask).",
    )
    tv: float = Field(0.0, ge=0, description="Weight of the total variation of the image.")
    proximity: float = Field(0.0, ge=0, description="Weight of the squared distance of ψ to the trained ones.")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="Arithmetic of the network; auto takes bfloat16 where the processor is faster in it."
    )
    project: bool = Field(True, description="Project the image onto the data.")
    tile: TileField = None
    margin: MarginField = None
    crops: CropsField = None
    checkpointing: CheckpointingField = "auto"
    iteration: IterationField = None
    snapshots: SnapshotsField = 0

    @model_validator(mode="after")
    def _can_be_reached(self) -> Self:
        if self.iteration is not None and self.iteration > self.iterations:
            raise ValueError(f"iteration {self.iteration} lies beyond the {self.iterations} iterations asked for")
        return self

    @classmethod
    def lucas2020(cls, **changes: Any) -> Self:
        """Return the published settings: SGD with learning rate 0.01 and momentum 0.9, at most 4000 iterations.

        Nothing beside eq. 1. The published stopping rule is ``LRPSNRGain(delta=0.04)``, which is the default one
        with these settings.
        """
        published: dict[str, Any] = {
            "iterations": 4000,
            "optimizer": "sgd",
            "learning_rate": 0.01,
            "schedule": "constant",
            "adaptive": False,
            "last_layer": "descend",
            "pairs": 0.0,
            "reads": "measurement",
            "views": 1,
            "average": False,
            "precision": "float32",
            "project": False,
        }
        return cls(**{**published, **changes})

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
        """Run the fine-tuning. See :meth:`Method.steps`.

        The measurement is ``(N, C, H, W)``; the network's output, put through ``A``, must have its shape.

        Raises
        ------
        ShapeError
            If network, operator and measurement do not fit each other.
        ArchitectureError
            If ``model`` is no trainable network.
        DivergedError
            If the network's very first output is not finite.
        """
        from napari_fidelity.methods._finetuning import Run

        run = Run(self, y, operator, model, noise=noise, weights=weights, rng=rng, stop=stop)
        return (yield from run.steps())

    def memory(
        self,
        shape: Sequence[int],
        model: Network | None,
        device: torch.device,
        image_shape: Sequence[int] | None = None,
    ) -> int:
        """Return about how many bytes a run holds at once, snapshots included. See :meth:`Method.memory`."""
        from napari_fidelity.methods._plan import estimated

        plan = estimated(self, shape, model, device)
        return super().memory(shape, model, device) if plan is None else round(plan.needed)

    def settled(self, shape: Sequence[int], model: Network | None, device: torch.device) -> Self:
        """Return the method with the tiles that its memory asks for. See :meth:`Method.settled`."""
        from napari_fidelity.methods._plan import plan_finetuning

        if self.tile is not None:
            return self
        tile = plan_finetuning(self, shape, model, device).tile
        return self if tile is None else self.replace(tile=tile)

    def default_stop(self) -> StoppingRule:
        """Return the rule that ends the run if none is given.

        With averaging: the average has settled (or, in a run without the image's coarser copy, its residual is as
        small as the noise). Without: the published rule, a gain in LR-PSNR of less than 0.04 dB.
        """
        return Settled() if self.average else LRPSNRGain(delta=0.04)
