"""The run behind :class:`napari_fidelity.methods.ZSSR`."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

import torch

from napari_fidelity.core.errors import OptionError
from napari_fidelity.methods._iteration import Iterate, iterate
from napari_fidelity.methods._network import autocast
from napari_fidelity.methods._start import filled, image_shape, observed
from napari_fidelity.methods._zssr_pairs import SMALLEST, Making, Source, too_small
from napari_fidelity.methods._zssr_sizes import enlargement, planned
from napari_fidelity.methods._zssr_training import Training
from napari_fidelity.methods.calls import call_operator, generator
from napari_fidelity.methods.checks import check_fit, check_measurement
from napari_fidelity.methods.data_term import split
from napari_fidelity.methods.projection import UNKNOWN_NOISE, assumed_variance, project
from napari_fidelity.methods.scores import known_variance, lr_psnr
from napari_fidelity.methods.views import commuting_views, from_view, to_view
from napari_fidelity.operators.noise import GaussianNoise
from napari_fidelity.operators.resample import resize

if TYPE_CHECKING:
    from napari_fidelity.methods.base import LinearOperator, Steps
    from napari_fidelity.methods.zssr import ZSSR
    from napari_fidelity.operators.noise import Noise
    from napari_fidelity.stopping.rules import StoppingRule

STRIP = 2**20
"""Pixels of the network's grid that go through it together when an image is made."""


class Run:
    """One super-resolution of one measurement."""

    def __init__(
        self,
        options: ZSSR,
        y: torch.Tensor,
        operator: LinearOperator,
        *,
        noise: Noise | None,
        stop: StoppingRule | None,
        weights: torch.Tensor | None,
        rng: int | torch.Generator,
    ) -> None:
        self.started = time.perf_counter()
        y, weights = check_measurement(y, weights)
        self.options, self.operator = options, operator
        self.stop, self.rng = stop or options.default_stop(), generator(rng)
        self.seed = self.rng.initial_seed()
        self.shape = image_shape(y, operator)
        scale = enlargement(operator, y, self.shape)
        if min(y.shape[2:]) < SMALLEST:
            raise too_small(y.shape[2:], [int(n / s) for n, s in zip(y.shape[2:], scale, strict=True)])
        self.term = split(y, noise, weights, self.stop, self.rng).term(operator)
        self.noise = self._known_noise()
        seen = observed(self.term.y, operator, self.term.weights)
        self.source = Source(self.term.y if seen is None else filled(self.term.y, seen), seen)
        self.views = [0]
        self.plan = planned(options, operator, scale)
        self.results: list[Source] = []
        self.training: Training | None = None
        self.size, self.shown, self.measured = self.plan[0], self.source.image, self.source.image

    def _known_noise(self) -> Noise | None:
        """Return the noise model, or Gaussian noise as strong as the measurement shows where it shows any."""
        y, noise, weights = self.term.y, self.term.noise, self.term.weights
        if known_variance(noise, y) is not None:
            return noise
        variance = assumed_variance(y, self.operator, self.shape[2:], weights=weights, rng=self.seed)
        return GaussianNoise(sigma=math.sqrt(variance)) if variance > UNKNOWN_NOISE**2 else None

    # -- the iteration ----------------------------------------------------------------------------------------

    def steps(self) -> Steps:
        """Yield one step per iteration; return the result."""
        options = self.options
        last = options.iterations * len(self.plan) - 1
        if options.iteration is not None:
            if options.iteration > last:
                raise OptionError(
                    f"There is no iteration {options.iteration}",
                    found=f"{last + 1} iterations, over all sizes on the way",
                    do=f"Choose one from 0 to {last}",
                )
            last = options.iteration
        return iterate(options, self.stop, self._advance, started=self.started, last=last, finish=self._finished)

    def _advance(self, index: int) -> Iterate:
        if self.training is None or self.training.ended:
            self._begin()
        training = self.training
        assert training is not None
        loss = training.advance()
        own = training.own
        error = lr_psnr(self._made(own.base, 0) - own.father, own.seen)
        training.judge(10 ** (-error / 10))
        image, ends = self._made(self.shown, 0), ""
        if training.ended:
            image = self._combined()
            ends = training.ended if self.last_size else ""
            self._keep(image)
        if image.shape != self.shape:
            image = resize(image, self.shape[2:])
        return Iterate(
            loss,
            image,
            lambda estimate: self.term.scores(call_operator(self.operator, estimate)) | {"reconstruction": error},
            ends=ends,
        )

    @property
    def last_size(self) -> bool:
        """Whether no larger size comes after the present one."""
        return len(self.results) + 1 >= len(self.plan)

    def _begin(self) -> None:
        """Begin to learn for the next size."""
        self.size = size = self.plan[len(self.results)]
        before = self.results[-1] if size.chained and self.results else None
        self.measured = self.source.image if before is None else before.image
        # of a result on the way the noise has been taken
        making = Making(self.options, size.operator, self.noise if before is None else None, size.scale)
        self.shown = making.base(self.measured)
        if self.options.views > 1 or self.options.turns:  # sizes on the way that are stretched have fewer
            self.views = commuting_views(size.operator, self.measured)
        sources = [self._first_father(), *self.results] if before is None else [before]
        if len(self.plan) == 1:
            check_fit(self.operator, self.shown, self.term.y)
        self.training = Training(making, sources, self.views, self.rng, before=self.training)

    def _first_father(self) -> Source:
        """Return the measurement, without its blur where that can be taken back.

        A father plays the image: it must be as sharp as images are, or the network learns to make blurred ones.
        """
        if self.options.base == "bicubic":
            return self.source
        return Source(resize(self.shown, self.source.image.shape[2:]), self.source.seen)

    def _keep(self, image: torch.Tensor) -> None:
        """Keep the image of a size on the way."""
        if not self.last_size:
            image = self._corrected(image, self.size.operator, self.measured)
        # in a chain, an image is what the next size is measured from
        self.results.append(Source(image, None, 1.0 if self.size.chained else min(self.size.scale)))

    # -- images -----------------------------------------------------------------------------------------------

    @torch.no_grad()
    def _made(self, base: torch.Tensor, view: int) -> torch.Tensor:
        """Return the image that the network makes of an enlarged measurement, shown to it in a view."""
        assert self.training is not None
        z = to_view(base, view)
        fold, depth = self.training.network.fold[0], self.options.depth
        rows = max(1, STRIP * fold // z.shape[3]) * fold
        margin = depth * fold  # what the network looks at beyond a pixel
        strips = []
        for start in range(0, z.shape[2], rows):
            first, end = max(0, start - margin), start + rows
            part = z[:, :, first : end + margin].contiguous(memory_format=torch.channels_last)
            with autocast(self.options.precision, z.device):
                made = self.training.averaged(part).float()
            strips.append(made[:, :, start - first : start - first + min(rows, z.shape[2] - start)])
        image = from_view(strips[0] if len(strips) == 1 else torch.cat(strips, dim=2), view)
        return image.clamp(0, 1) if self.options.clip else image.contiguous()

    @torch.no_grad()
    def _combined(self) -> torch.Tensor:
        """Return what the images of all views have in common."""
        options = self.options
        images = [self._made(self.shown, view) for view in self.views[: options.views]]
        if options.combine == "mean" or len(images) == 1:
            return torch.stack(images).mean(dim=0)
        if options.correction == "back_projection":
            images = [self._corrected(image, self.size.operator, self.measured) for image in images]
        ordered = torch.stack(images).sort(dim=0).values
        middle = (len(images) - 1) // 2
        return ordered[middle : len(images) // 2 + 1].mean(dim=0)

    def _finished(self, image: torch.Tensor) -> torch.Tensor:
        return self._corrected(image, self.operator, self.term.y)

    @torch.no_grad()
    def _corrected(self, x: torch.Tensor, operator: LinearOperator, y: torch.Tensor) -> torch.Tensor:
        """Return an image made to agree with a measurement, or with what is taken for one on the way."""
        options, weights, noise = self.options, None, None
        if y.shape == self.term.y.shape:  # the measurement itself, with nothing filled in
            y, weights, noise = self.term.y, self.term.weights, self.noise
        if options.correction == "project":
            x = project(x, y, operator, noise=noise, weights=weights, rng=self.seed)
        elif options.correction == "back_projection":
            for _ in range(options.back_projections):
                residual = y - call_operator(operator, x)
                x = x + resize(residual if weights is None else residual * weights, x.shape[2:])
                x = x.clamp(0, 1) if options.clip else x
        return x.clamp(0, 1) if options.clip else x
