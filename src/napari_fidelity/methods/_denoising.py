"""RED of a plain noisy image: the denoiser, adapted to the image, in every view."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

import torch

from napari_fidelity.methods._adaptation import Adaptation
from napari_fidelity.methods._iteration import Iterate, iterate
from napari_fidelity.methods.views import VIEWS, from_view, to_view

if TYPE_CHECKING:
    from napari_fidelity.methods._red_run import Run
    from napari_fidelity.methods.base import Steps

_MEMORY = 4  # images that the average goes back to while the network learns


class Denoising:
    """One denoising: steps that adapt the network, then one pass for each view, averaged.

    Everything happens on a scale on which the noise is the same everywhere; for photon noise it is brought to
    [0, 1] for the denoiser.
    """

    def __init__(self, run: Run) -> None:
        self.run, self.options = run, run.options
        self.t, self.level = run.y, run.sigma_f
        self.stable = None if run.noise is None else run.noise.stabilised()
        if self.stable is not None:
            t = self.stable(run.y)
            self.low, self.extent = float(t.min()), max(float(t.max() - t.min()), 1.0)
            told = 1.0 if self.options.sigma_f is None else self.options.sigma_f / math.sqrt(run.sigma2)
            self.t, self.level = (t - self.low) / self.extent, told / self.extent
        self.network = run.model
        self.adaptation: Adaptation | None = None
        self.adapts = 0
        # from noise of a level that is only estimated the network would learn some of the noise
        if run.stated and run.y.ndim == 4 and Adaptation.suits(self.options.denoiser, run.model):
            self.adapts = self.options.adapt

    def steps(self) -> Steps:
        """Yield one step per gradient step and per view; return the result."""
        total = self.adapts + self.run.views
        chosen = self.options.iteration
        adapted = f", after {self.adapts} steps of adapting the network to it" if self.adapts else ""
        return iterate(
            self.options,
            self.run.stop,
            self._advance,
            started=self.run.started,
            last=total - 1 if chosen is None else min(chosen, total - 1),
            weight=self._weight,
            at_the_end=f"the measurement is the image itself with noise: it is denoised{adapted}",
        )

    def _weight(self, count: int) -> float:
        if count <= self.adapts:
            return 1 / min(count, _MEMORY)
        return 1 / (count - self.adapts)

    @torch.no_grad()
    def _advance(self, index: int) -> Iterate:
        if index < self.adapts:
            t = self._adapt(index)
        else:
            view = VIEWS[(index - self.adapts) % self.run.views]
            t = from_view(self._denoised(to_view(self.t, view)), view)
        image = t if self.stable is None else self.stable.inverse(t * self.extent + self.low)
        loss = float(self.run.term.misfit(image))
        # Put together of parts that different networks made, the image of a gradient step says nothing to a rule.
        told = {"lr_psnr"} if index < self.adapts else None
        return Iterate(loss, image, partial(self._scores, told=told), settles=False)

    def _scores(self, image: torch.Tensor, told: set[str] | None) -> dict[str, float]:
        scores = self.run.term.scores(image)
        return {name: value for name, value in scores.items() if told is None or name in told}

    def _adapt(self, index: int) -> torch.Tensor:
        if self.adaptation is None:
            start, seed = self._denoised(self.t), self.run.seed
            assert isinstance(self.network, torch.nn.Module)  # what suits
            self.adaptation = Adaptation(
                self.network, self.options.denoiser, self.t, start, self.level, self.adapts, seed
            )
            self.network = self.adaptation.network
        self.adaptation.step(index)
        return self.adaptation.image

    def _denoised(self, t: torch.Tensor) -> torch.Tensor:
        return self.options.denoiser.denoise(t, self.level, self.network)
