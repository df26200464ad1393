"""Training of the network of :class:`napari_fidelity.methods.ZSSR`, for one size of the image."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_fidelity.methods._network import autocast
from napari_fidelity.methods._zssr_gallery import Gallery
from napari_fidelity.methods._zssr_sizes import fold_of
from napari_fidelity.methods._zssr_warped import Warped
from napari_fidelity.networks.zero_shot import ZeroShotNetwork

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_fidelity.methods._zssr_pairs import Making, Source

_WARM_UP = 0.05  # of all steps, over which the learning rate rises
_FLOOR = 0.01  # of the learning rate, at the end of the cosine
_LAST_RATE = 1e-6  # at which a training with plateaus ends
_LOOKED_AT = 256  # steps that a plateau must have lasted, and over which the error's slope is taken
_FACTOR = 1.5  # between the slope and its standard deviation at a plateau


class Training:
    """Gradient steps on fathers and sons, the averaged weights, and when it is enough.

    The network is that of the training for the size before, where its blocks hold as many pixels; else a new one.

    Attributes
    ----------
    network
        With the weights of the last step; :meth:`averaged` runs it with their average.
    own
        The measurement as a father, whole.
    ended
        Why the training is over, or ``""``.
    """

    def __init__(
        self,
        making: Making,
        sources: Sequence[Source],
        views: Sequence[int],
        rng: torch.Generator,
        *,
        before: Training | None = None,
    ) -> None:
        self.options = options = making.options
        self.own = making.pair(sources[0].image, sources[0].seen, rng)
        drawn = options.augmentation != "sizes"
        self.pairs = Warped(making, sources, rng) if drawn else Gallery(making, sources, views, rng)
        fold = fold_of(options, making.scale)
        kept = None if before is None or before.network.fold != fold else before.network
        self.network: ZeroShotNetwork = kept or self._new(fold, rng).to(self.own.father.device)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=options.learning_rate, fused=True)
        self.mean = {name: p.detach().clone() for name, p in self.network.named_parameters()}
        self.rate, self.taken, self.changed, self.ended = options.learning_rate, 0, 0, ""
        self.earlier = 0 if before is None else before.all_taken
        self.errors: list[float] = []

    @property
    def all_taken(self) -> int:
        """Number of gradient steps over this size and those before it."""
        return self.earlier + self.taken

    def _new(self, fold: tuple[int, int], rng: torch.Generator) -> ZeroShotNetwork:
        """Return an untrained network that works on blocks of that size."""
        options = self.options
        residual = max(self.pairs.residual(), 1e-6) if options.begin == "base" else None
        channels = self.own.father.shape[1]
        return ZeroShotNetwork(
            channels, rng, width=options.width, depth=options.depth, fold=fold, residual=residual
        )

    def averaged(self, x: torch.Tensor) -> torch.Tensor:
        """Return what the network with averaged weights makes of an enlarged image."""
        made: torch.Tensor = torch.func.functional_call(self.network, self.mean, (x,))
        return made

    def advance(self) -> float:
        """Take the gradient steps of one iteration; return their mean loss."""
        losses = [self._step() for _ in range(self.options.updates)]
        if self.taken >= self.options.iterations * self.options.updates:
            self.ended = f"all {self.all_taken} gradient steps are done"
        return math.fsum(losses) / len(losses)

    def judge(self, error: float) -> None:
        """Take the reconstruction's mean squared error; lower the learning rate where it has come to rest."""
        self.errors.append(error)
        window = self.errors[-math.ceil(_LOOKED_AT / self.options.updates) :]
        resting = self.options.schedule == "plateau" and self.taken - self.changed > _LOOKED_AT
        if not resting or len(window) < 4 or self.ended or not np.isfinite(window).all():
            return
        line, covariance = np.polyfit(np.arange(len(window)), window, 1, cov=True)
        if -_FACTOR * line[0] < math.sqrt(covariance[0, 0]):
            self.rate, self.changed = self.rate / 10, self.taken
        if self.rate < 1.5 * _LAST_RATE:
            self.ended = f"the reconstruction error came to rest after {self.all_taken} gradient steps"

    def _step(self) -> float:
        options = self.options
        father, base, seen = self.pairs.draw()
        with torch.enable_grad():
            with autocast(options.precision, father.device):
                made = self.network(base)
            error = (made.float() - father).abs()
            loss = error.mean() if seen is None else (error * seen).sum() / seen.sum().clamp_min(1)
        for group in self.optimizer.param_groups:
            group["lr"] = self._rate()
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        self.optimizer.step()
        self.taken += 1
        # at the beginning the average of few: what the weights were before the first step says nothing
        weight = 1 - min(options.weight_average, self.taken / (self.taken + 10) if options.weight_average else 0.0)
        new = [p.detach() for p in self.network.parameters()]
        torch._foreach_lerp_(list(self.mean.values()), new, weight)
        return float(loss.detach())

    def _rate(self) -> float:
        options = self.options
        if options.schedule == "plateau":
            return self.rate
        steps = options.iterations * options.updates
        fall = _FLOOR + (1 - _FLOOR) * 0.5 * (1 + math.cos(math.pi * self.taken / steps))
        return options.learning_rate * fall * min(1.0, (self.taken + 1) / (_WARM_UP * steps + 1))
