"""DeepRED: the deep image prior and a denoiser as regulariser, together by ADMM.

Mataev, Elad, Milanfar, "DeepRED: Deep Image Prior Powered by RED", ICCV Workshops 2019, arXiv:1903.10176.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field

from napari_fidelity.core.options import Array
from napari_fidelity.denoisers import NLM, AnyDenoiser, NetworkDenoiser
from napari_fidelity.methods.deep_prior import DeepPrior
from napari_fidelity.methods.red import RED
from napari_fidelity.networks.untrained import Skip

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from napari_fidelity.methods.base import LinearOperator, Network, Steps
    from napari_fidelity.operators.noise import Noise
    from napari_fidelity.stopping.rules import StoppingRule

Task = Literal["denoise", "super_resolution", "deblur"]

GROWTH_GAIN = 0.01
"""Gain in the fit, in dB, from one growth of the penalties to the next, as published."""


class DeepRED(DeepPrior):
    """Minimise ``D(A T_θ(z), y) + β/2 xᵀ(x − f(x))`` subject to ``x = T_θ(z)`` by ADMM (algorithm 1).

    Every iteration takes one step of Adam on ``D(A T, y) + μ ‖T − (x − u)‖²``, updates ``x`` from the denoised
    image by the fixed point ``x = (β f(x) + μ (T + u)) / (β + μ)`` or by a gradient step, and ``u += T − x``. The
    denoiser works beside it, in a thread of its own, on a copy of ``x``: what it returns is used from ``every``
    iterations later on, always from the same one.

    :meth:`mataev2019` gives the published settings; the defaults are ours.
    """

    kind: Literal["deepred"] = "deepred"
    denoiser: AnyDenoiser = Field(NetworkDenoiser(), description="The denoiser.")
    sigma_f: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Noise level that the denoiser is told, for intensities in [0, 1]; left out, half that of the "
        "noise, at least 8/255; 2/255 where the measurement is no picture of the image.",
    )
    start: Literal["noise", "measurement", "classical", "red"] | Array = Field(  # type: ignore[assignment]
        "red",
        description=f"{DeepPrior.model_fields['start'].description} red: what RED makes with this denoiser.",
    )
    beta: float | None = Field(
        None, gt=0, description="Weight β of the denoiser; left out, it follows the noise: 0.05 and more."
    )
    mu: float | None = Field(
        None, gt=0, description="Weight μ of the distance between network and image; left out, like β."
    )
    growth: float | None = Field(
        None,
        ge=0,
        description="What is added to β and μ whenever the network explains the measurement by another 0.01 dB "
        "better than its noise allows (see tau); left out, 6 % of what they are at first.",
    )
    tau: float = Field(1.0, gt=0, description="Residual variance over noise variance from which the weights grow.")
    every: int = Field(10, ge=1, le=10_000, description="Iterations from one use of the denoiser to the next.")
    update: Literal["fixed_point", "gradient"] = Field(
        "fixed_point", description="How the image is updated: to where the gradient vanishes, or by a step."
    )
    output: Literal["average", "image"] = Field(
        "average", description="What is returned: the average of the network's images, or x − u."
    )
    clip: bool = Field(
        False, description="Keep x, and the network's image, within [0, 1] of the scaled intensities and no wider."
    )

    @classmethod
    def mataev2019(cls, task: Task, **changes: Any) -> Self:
        """Return the settings published for one of the three experiments, with changes.

        Parameters
        ----------
        task
            ``"denoise"``: σ = 25, non-local means. ``"super_resolution"``: ×4 and ×8, BM3D (a package for
            non-commercial use). ``"deblur"``: non-local means, 30000 iterations.
        changes
            Options to set otherwise.
        """
        from napari_fidelity.denoisers import BM3D

        nlm = NLM(patch_size=5, patch_distance=6, h=0.6, joint=False)
        published: dict[Task, dict[str, Any]] = {
            "denoise": {
                "iterations": 6000,
                "learning_rate": 0.008,
                "denoiser": nlm,
                "sigma_f": 3 / 255,
                "beta": 0.5,
                "mu": 0.5,
                "growth": 0.03,
                # The published threshold is a fit of 20 dB: at σ = 25/255 this much of the noise's variance.
                "tau": 0.01 / (25 / 255) ** 2,
                "input_noise": 0.033,
                "output": "average",
                "average": 0.99,
            },
            "super_resolution": {
                "iterations": 2000,
                "learning_rate": 0.001,
                "denoiser": BM3D(),
                "sigma_f": 5 / 255,
                "beta": 0.05,
                "mu": 0.06,
                "input_noise": 0.02,
                "output": "image",
                "average": 0.0,
            },
            "deblur": {
                "iterations": 30_000,
                "learning_rate": 0.004,
                "decay": 0.9,
                "denoiser": nlm,
                "sigma_f": 3 / 255,
                "beta": 0.02,
                "mu": 0.04,
                "input_noise": 0.01,
                "output": "image",
                "average": 0.0,
            },
        }
        common = {
            "network": Skip(width=128, scales=5, skip=4),
            "every": 10,
            "start": "noise",
            "growth": 0.0,
            "update": "fixed_point",
            "hold_out": 0.0,
            "sigmoid": True,
            "clip": True,
            "precision": "float32",
        }
        return cls(**{**common, **published[task], **changes})

    @property
    def beginning(self) -> RED:
        """The method whose image is what it begins with, where ``start`` is ``"red"``."""
        return RED(denoiser=self.denoiser)

    def default_model(self) -> str | None:
        """Return the bundled denoiser where a network is to denoise."""
        return "drunet-s" if self.denoiser.needs_network else None

    def memory(
        self,
        shape: Sequence[int],
        model: Network | None,
        device: torch.device,
        image_shape: Sequence[int] | None = None,
    ) -> int:
        """Return about how many bytes a run holds at once. See :meth:`Method.memory`."""
        from napari_fidelity.methods._memory import denoising_memory

        iterations = super().memory(shape, model, device, image_shape)
        needed = iterations + denoising_memory(self, image_shape or shape, model)
        if isinstance(self.start, str) and self.start == "red":
            return max(needed, self.beginning.memory(shape, model, device, image_shape))
        return needed

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
        """Run DeepRED on a measurement (N, C, *m), 2-D or 3-D; ``model`` denoises. See :meth:`Method.steps`."""
        from napari_fidelity.methods._prior_run import Run
        from napari_fidelity.methods._splitting import Splitting
        from napari_fidelity.methods._start import pictures

        run = Run(self, y, operator, noise=noise, stop=stop, weights=weights, rng=rng)
        if isinstance(self.start, str) and self.start == "red":
            done, asked = yield from run.begin_with(self.beginning, model)
            # the first iteration of a large image takes long: the last chance to end with what RED made
            reason = asked or (yield run.begun())
            if reason:
                return replace(done, stop_reason=reason)
        with Splitting.thread() as thread:
            run.split(lambda x: Splitting(self, x, model, run.sigma, run.gain, thread, pictures(operator)))
            return (yield from run.steps())
