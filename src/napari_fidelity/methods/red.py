"""Regularisation by denoising (RED), and plug-and-play with a falling noise level.

Romano, Elad, Milanfar, "The Little Engine That Could: Regularization by Denoising (RED)", SIAM J. Imaging
Sciences 2017, doi:10.1137/16M1102884. Falling noise level: Zhang et al., "Plug-and-Play Image Restoration with
Deep Denoiser Prior", IEEE TPAMI 2022, doi:10.1109/TPAMI.2021.3088914.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from napari_fidelity.core.options import Array
from napari_fidelity.denoisers import AnyDenoiser, NetworkDenoiser
from napari_fidelity.methods._fields import IterationField, SnapshotsField
from napari_fidelity.methods.base import Method
from napari_fidelity.stopping.rules import Settled, StoppingRule

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from napari_fidelity.methods.base import LinearOperator, Network, Steps
    from napari_fidelity.operators.noise import Noise


class RED(Method):
    """Minimise ``D(A x, y) + λ/2 xᵀ(x − f(x))`` with a denoiser ``f`` (eq. 7 and 17).

    ``λ`` is ``strength`` over the square of the noise level that the denoiser is told: a denoiser for that noise
    believes its image to that degree. Solvers: the fixed point ``x ← argmin_z D(A z, y) + λ/2 ‖z − f(x)‖²``
    (section 4.3), in closed form wherever the operator has one; steepest descent (4.1); ADMM (4.2).

    By default the level falls geometrically over the iterations, from ``sigma_start`` to ``sigma_f``: coarse
    structure first, then detail; the denoised images of the last round of views are averaged, and the average is
    projected onto the data as far as the noise allows. A plain noisy image (``A`` is the identity) needs no
    iteration, unless settings of it are given: a denoising network is adapted to it
    (:class:`napari_fidelity.methods._adaptation.Adaptation`), it is denoised in each view, and these are averaged;
    photon noise is made even before. :meth:`romano2017` keeps it fixed, as published.
    """

    kind: Literal["red"] = "red"
    reads_measurement: ClassVar[bool] = False
    offers: ClassVar[frozenset[str]] = frozenset({"held_out"})
    denoiser: AnyDenoiser = Field(NetworkDenoiser(), description="The denoiser.")
    solver: Literal["fixed_point", "steepest_descent", "admm"] = Field(
        "fixed_point", description="How the objective is minimised."
    )
    acceleration: Literal["none", "anderson"] = Field(
        "none",
        description="Extrapolate from the last iterations (Anderson); for a fixed level, with x as output and "
        "without ADMM.",
    )
    iterations: int = Field(24, ge=1, le=100_000, description="Largest number of iterations.")
    strength: float = Field(
        0.23, gt=0, le=1e6, description="Weight of the denoised image against the measurement; λ σ_f²."
    )
    sigma_f: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Noise level that the denoiser is told in the end, for intensities in [0, 1]; left out, that "
        "of the noise, at least 4/255. Of a plain image with photon noise: its mean.",
    )
    sigma_start: float = Field(
        0.2, ge=0, le=1, description="Noise level that it is told at first; below sigma_f, the same throughout."
    )
    adapt: int = Field(
        40,
        ge=0,
        le=10_000,
        description="Steps in which a denoising network is fine-tuned on the measurement itself, where that is a "
        "plain image with noise of known level; 0 takes the network as it is.",
    )
    views: Literal[1, 8] = Field(
        8,
        description="Flips and turns of the image that the denoiser goes through, one in each iteration; volumes "
        "stay as they are.",
    )
    start: Literal["measurement", "classical"] | Array = Field(
        "classical",
        description="Where to begin: the measurement on the image's grid, its projection onto the data, or an "
        "image.",
    )
    project: bool = Field(True, description="Project the image onto the data, as far as the noise allows.")
    output: Literal["denoised", "image"] = Field(
        "denoised", description="What is returned: the denoised image f(x), or x."
    )
    iteration: IterationField = None
    snapshots: SnapshotsField = 0

    @model_validator(mode="after")
    def _can_be_reached(self) -> Self:
        if self.acceleration == "anderson" and (
            self.solver == "admm" or self.output != "image" or self.sigma_start
        ):
            raise ValueError(
                "acceleration goes with a fixed level and with x as output: sigma_start 0, output image, and the "
                "solver fixed_point or steepest_descent, as in the preset romano2017"
            )
        most = max(self.iterations, self.adapt + self.views)
        if self.iteration is not None and self.iteration >= most:
            raise ValueError(f"iteration {self.iteration} lies beyond the {most} iterations there can be")
        return self

    @classmethod
    def romano2017(cls, **changes: Any) -> Self:
        """Return RED as published: a fixed noise level of 3.25/255, λσ² of the uniform deblurring experiment.

        Fixed point, 200 iterations, from the measurement; the strength is ``λ σ_f² = 0.02 · 3.25²``.
        """
        published: dict[str, Any] = {
            "iterations": 200,
            "strength": 0.02 * 3.25**2,
            "sigma_f": 3.25 / 255,
            "sigma_start": 0.0,
            "views": 1,
            "adapt": 0,
            "project": False,
            "start": "measurement",
            "output": "image",
        }
        return cls(**{**published, **changes})

    @property
    def states_iteration(self) -> bool:
        """Whether settings of the iteration differ from the defaults; a plain noisy image is iterated on then too.

        By their values, not by whether they were given: a recipe holds all of them.
        """
        names = {"start", "strength", "output", "solver", "sigma_start", "iterations", "acceleration"}
        return self.model_dump(mode="json", include=names) != type(self)().model_dump(mode="json", include=names)

    def default_model(self) -> str | None:
        """Return the bundled denoiser where a network is to denoise."""
        return "drunet-s" if self.denoiser.needs_network else None

    def default_stop(self) -> StoppingRule:
        """Return the rule that ends the run if none is given: the image has settled."""
        return Settled(change=1e-4)

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
        """Run RED on a measurement (N, C, *m), 2-D or 3-D; ``model`` denoises. See :meth:`Method.steps`."""
        from napari_fidelity.methods._red_run import Run

        run = Run(self, y, operator, model, noise=noise, stop=stop, weights=weights, rng=rng)
        return (yield from run.steps())

    def memory(
        self,
        shape: Sequence[int],
        model: Network | None,
        device: torch.device,
        image_shape: Sequence[int] | None = None,
    ) -> int:
        """Return about how many bytes a run holds at once. See :meth:`Method.memory`."""
        from napari_fidelity.methods._memory import adaptation_memory, denoising_memory

        image_shape = image_shape or shape
        denoising = denoising_memory(self, image_shape, model)
        plain = tuple(image_shape) == tuple(shape) and len(shape) == 4 and self.adapt > 0
        return max(denoising, adaptation_memory(self, shape, model)) if plain else denoising
