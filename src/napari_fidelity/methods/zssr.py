"""Zero-shot super-resolution: a small network trained on the one image, between it and its own reduced copies.

Shocher, Cohen, Irani, "“Zero-Shot” Super-Resolution using Deep Internal Learning", CVPR 2018, arXiv:1712.06087.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from napari_fidelity.methods._fields import IterationField, SnapshotsField
from napari_fidelity.methods.base import Method
from napari_fidelity.stopping.rules import Budget, StoppingRule

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from napari_fidelity.methods.base import LinearOperator, Network, Steps
    from napari_fidelity.operators.noise import Noise

MOST_SIZES = 6
"""Sizes on the way to the image: the published ones, or doublings up to ×64."""
Case = Literal["ideal", "kernel", "real"]


class ZSSR(Method):
    """Super-resolution learned from the measurement alone, for any operator that downsamples.

    The measurement plays the image: as a *father* it is measured by the very operator, ``son = A father + noise``,
    and a network learns to make the father of the son. It is then shown the measurement. What it learns is how
    structure of this image looks one scale further down; nothing comes from other images. The network is shown the
    son on the father's grid (``base``) and adds what that lacks.

    :meth:`shocher2018` gives the published settings; the defaults are ours. They differ in what was measured to be
    faster at the same quality or better:

    - The base is the closed-form solution that agrees with the son as far as its noise allows, blur taken back
      included, and the result is projected onto the data in the same way; published are bicubic interpolation and
      iterated back-projection.
    - The network has fewer layers and works on the grid of the measurement (``grid``), each pixel of which holds
      those of the image as channels. It begins as the base itself, its output scaled to the size of what the bases
      lack.
    - Fathers and sons are made once, in several sizes and in every position relative to the sampling grid, whole,
      so that no crop has a border of its own.
    - Fathers are the closed-form solution on the measurement's grid: a father plays the image, and must be as
      sharp as images are. Larger whole scales are made by doubling: ×4 is ×2 and ×2, ×3 is ×2 and ×1.5.
    - The learning rate falls by a half cosine over a fixed number of steps, and the weights are averaged: there is
      nothing to stop. The published rule waits for plateaus.

    Each iteration takes ``updates`` gradient steps. Scores: ``reconstruction``, how well the network makes the
    largest father of its son, as PSNR in dB, beside the usual ones.
    """

    kind: Literal["zssr"] = "zssr"
    reads_measurement: ClassVar[bool] = False
    begins_at_random: ClassVar[bool] = True
    spatial_dims: ClassVar[tuple[int, ...]] = (2,)
    offers: ClassVar[frozenset[str]] = frozenset({"held_out"})
    iterations: int = Field(
        30, ge=1, le=100_000, description="Largest number of iterations, for each size on the way."
    )
    updates: int = Field(20, ge=1, le=10_000, description="Gradient steps in each iteration.")
    batch: int = Field(2, ge=1, le=256, description="Crops in each gradient step.")
    crop: int = Field(
        64, ge=8, le=4096, description="Side of the crops of the fathers.", json_schema_extra={"unit": "px"}
    )
    width: int = Field(64, ge=1, le=1024, description="Features of each layer of the network.")
    depth: int = Field(5, ge=2, le=64, description="Convolutions of the network.")
    grid: Literal["coarse", "fine"] = Field(
        "coarse", description="Pixels that the network works on: those of the measurement, or those of the image."
    )
    base: Literal["bicubic", "classical"] = Field(
        "classical",
        description="What the network is shown and adds to: the measurement bicubically enlarged, or that, "
        "projected onto the data as far as the noise allows.",
    )
    begin: Literal["base", "random"] = Field(
        "base", description="What an untrained network gives: the base itself, or that and something random."
    )
    augmentation: Literal["sizes", "affine", "scaled"] = Field(
        "sizes",
        description="Fathers: copies of the measurement in several sizes, made once; or as published, drawn anew "
        "each time: affine maps of it half of the time, or only scaled.",
    )
    turns: bool = Field(True, description="Flip and turn the fathers; structure may have a direction of its own.")
    noise_level: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Noise added to the sons beside that of the noise model, for intensities in [0, 1].",
    )
    learning_rate: float = Field(0.003, gt=0, le=1, description="Length of a step of Adam at first.")
    schedule: Literal["cosine", "plateau"] = Field(
        "cosine",
        description="How the learning rate falls: by a half cosine over all steps, or to a tenth whenever the "
        "reconstruction error no longer falls, to the end at 1e-6.",
    )
    weight_average: float = Field(
        0.99,
        ge=0,
        lt=1,
        description="Weight of the steps before in the average of the network's weights; 0 takes the last.",
    )
    views: Literal[1, 8] = Field(
        8,
        description="Flips and turns that the image is made in at the end, of those in which the operator is the "
        "same.",
    )
    combine: Literal["mean", "median"] = Field("mean", description="What is taken of the images of the views.")
    correction: Literal["project", "back_projection", "none"] = Field(
        "project",
        description="How images are made to agree with the data: projected as far as the noise allows, or by "
        "adding the enlarged residual, over and over.",
    )
    back_projections: int = Field(10, ge=0, le=1000, description="How often back_projection adds the residual.")
    gradual: Literal["none", "doubling", "published"] = Field(
        "doubling",
        description="Enlarge in one step; larger whole scales by doubling, and a smaller step in the end (×3: ×2, "
        "×1.5), each result being what the next step learns from; or in the published sizes, each result being "
        "one more father. With a blur, always in one step.",
    )
    clip: bool = Field(False, description="Keep images within [0, 1] of the scaled intensities.")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="Arithmetic of the network; auto takes bfloat16 where the processor is faster in it."
    )
    iteration: IterationField = None
    snapshots: SnapshotsField = 0

    @model_validator(mode="after")
    def _can_be_reached(self) -> Self:
        most = self.iterations * (1 if self.gradual == "none" else MOST_SIZES)
        if self.iteration is not None and self.iteration >= most:
            raise ValueError(f"iteration {self.iteration} lies beyond the {most} iterations there can be")
        return self

    @classmethod
    def shocher2018(cls, case: Case = "ideal", **changes: Any) -> Self:
        """Return the published settings, with changes.

        From the paper: 64 channels, ReLU, the residual of the interpolated image, L1 loss, Adam from 1e-3 to a
        tenth whenever the standard deviation of the reconstruction error's linear fit exceeds its slope by a
        factor, end at 1e-6; random crops of 128²; eight views, each back-projected, and the back-projected median
        of them. From the authors' code (github.com/assafshocher/ZSSR), where the paper is silent or differs: eight
        convolutions in all, without biases, weights of variance ``0.1 / inputs``; the factor 1.5, looked at over
        256 steps in tests every 50, at most 3000 steps; fathers as they are (5 %), flipped and turned (45 %) or
        mapped affinely (50 %: size 0.5 to 1, its anisotropy 0.25, shear 0.1, any angle). What a crop would show
        beyond the image is mirrored here, black there, and a father smaller than the crop is taken whole.

        Parameters
        ----------
        case
            ``"ideal"``: bicubic downsampling, 10 back-projections. ``"kernel"``: a given kernel, one view, no
            turns, 2 back-projections. ``"real"``: that with unknown noise; 0.0125 is added to the sons, nothing
            is back-projected, and fathers are only scaled, by 0.75 to 1.
        changes
            Options to set otherwise; ``gradual="published"`` takes the six sizes to ×2, about 0.2 dB better for
            five times the time according to the paper.
        """
        published: dict[str, Any] = {
            "iterations": 60,
            "updates": 50,
            "batch": 1,
            "crop": 128,
            "width": 64,
            "depth": 8,
            "grid": "fine",
            "base": "bicubic",
            "begin": "random",
            "augmentation": "affine",
            "learning_rate": 0.001,
            "schedule": "plateau",
            "weight_average": 0.0,
            "views": 8,
            "combine": "median",
            "correction": "back_projection",
            "back_projections": 10,
            "gradual": "none",
            "clip": True,
            "precision": "float32",
        }
        cases: dict[Case, dict[str, Any]] = {
            "ideal": {},
            "kernel": {"views": 1, "turns": False, "back_projections": 2},
            "real": {
                "views": 1,
                "turns": False,
                "correction": "none",
                "noise_level": 0.0125,
                "augmentation": "scaled",
            },
        }
        return cls(**{**published, **cases[case], **changes})

    def default_stop(self) -> StoppingRule:
        """Return the rule that ends the run if none is given: the schedule, which the run itself ends before."""
        return Budget(iterations=100 * self.iterations)

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
        """Train on a measurement (N, C, H, W), 16 pixels wide or more, and enlarge it. See :meth:`Method.steps`.

        Raises
        ------
        OperatorError
            If the operator does not downsample, or its kernel is larger than the measurement.
        ShapeError
            If the measurement is too small to learn from.
        """
        from napari_fidelity.methods._zssr_run import Run

        return (yield from Run(self, y, operator, noise=noise, stop=stop, weights=weights, rng=rng).steps())

    def memory(
        self,
        shape: Sequence[int],
        model: Network | None,
        device: torch.device,
        image_shape: Sequence[int] | None = None,
    ) -> int:
        """Return about how many bytes a run holds at once. See :meth:`Method.memory`."""
        from napari_fidelity.methods._memory import zero_shot_memory

        return zero_shot_memory(self, shape, image_shape or shape, device)
