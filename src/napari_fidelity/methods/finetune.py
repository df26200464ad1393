"""Data-consistency fine-tuning: adapt a trained network to this one measurement.

Lucas, Lopez-Tapia, Molina, Katsaggelos: *Self-supervised fine-tuning for correcting super-resolution
convolutional neural networks*, 2020 (arXiv:1912.12879); first in ICIP 2019, doi:10.1109/ICIP.2019.8803114.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field

from napari_fidelity.core.options import Array
from napari_fidelity.methods.base import Method
from napari_fidelity.stopping.rules import LRPSNRGain, LRPSNRLevel

if TYPE_CHECKING:
    import torch

    from napari_fidelity.methods.base import LinearOperator, Network, Steps
    from napari_fidelity.operators.noise import Noise
    from napari_fidelity.stopping.rules import StoppingRule

Subset = Literal["all", "last", "first", "norm_bias", "low_rank"]


class FineTune(Method):
    """Minimise ``‖A f_ψ(y) − y‖²`` over the network's parameters ``ψ``, from the trained ones (eq. 1).

    The defaults are ours; :meth:`lucas2020` gives the published settings. They add to eq. 1: the last layer
    in closed form, the average over the eight flips and turns of the image, and a final projection onto the
    data, each of which can be switched off.
    """

    kind: Literal["finetune"] = "finetune"
    iterations: int = Field(
        0, ge=0, le=100_000, description="Largest number of gradient steps; 0 leaves the closed form alone."
    )
    optimizer: Literal["adam", "sgd"] = Field("adam", description="Gradient method.")
    learning_rate: float = Field(1e-4, gt=0, le=1, description="Length of a gradient step.")
    momentum: float = Field(0.9, ge=0, lt=1, description="Momentum of SGD, first beta of Adam.")
    parameters: Subset = Field(
        "all",
        description="Which parameters move: all, the last layer, the first quarter of the layers, "
        "normalisation and biases, or a low-rank change of every weight.",
    )
    rank: int = Field(4, ge=1, le=64, description="Rank of the low-rank change.")
    last_layer: Literal["none", "start", "finish"] = Field(
        "finish", description="Solve the last layer in closed form: not at all, before, or after the steps."
    )
    ridge: float = Field(
        0.1, gt=0, description="Weight of the last layer's distance to its weights before, in the closed form."
    )
    pairs: float = Field(
        0.1, ge=0, description="Weight of the image's own coarser copy (f(A y) should be y) in the closed form."
    )
    views: Literal[1, 8] = Field(8, description="Flips and turns of the image that the result is averaged over.")
    mask: Literal["none", "edges"] | Array = Field(
        "none",
        description="Weight of each image pixel in the data term: none, edges (1 − Sobel of the network's "
        "output, eq. 2), or an image such as a variance map.",
    )
    tv: float = Field(0.0, ge=0, description="Weight of the total variation of the image.")
    proximity: float = Field(0.0, ge=0, description="Weight of the squared distance of ψ to the trained ones.")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="Arithmetic of the network; auto takes bfloat16 where the processor is faster in it."
    )
    project: bool = Field(True, description="Project the final image onto the data.")
    snapshots: int = Field(
        0, ge=0, le=64, description="Number of iterations whose images are kept, evenly spread."
    )

    @classmethod
    def lucas2020(cls, **changes: object) -> Self:
        """Return the published settings: plain SGD, all parameters, nothing beside eq. 1.

        Learning rate 0.01, momentum 0.9, at most 4000 iterations; stop with ``LRPSNRGain(delta=0.04)``.
        """
        published = {
            "iterations": 4000,
            "optimizer": "sgd",
            "learning_rate": 0.01,
            "last_layer": "none",
            "pairs": 0.0,
            "views": 1,
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
            If ``model`` is no trainable network, or its last layer has no closed form and one is asked for.
        DivergedError
            If the network's very first output is not finite.
        """
        from napari_fidelity.methods._finetuning import Run

        run = Run(
            self, y, operator, model, noise=noise, weights=weights, rng=rng, stop=stop or self.default_stop()
        )
        return (yield from run.steps())

    def default_stop(self) -> StoppingRule:
        """Return the rule that ends the run if none is given."""
        return LRPSNRLevel(level=50) | LRPSNRGain(delta=0.04, window=10)
