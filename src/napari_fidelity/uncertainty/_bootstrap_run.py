"""The run behind :class:`napari_fidelity.uncertainty.Bootstrap`."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from napari_fidelity.core.step import Record, Result, Step
from napari_fidelity.methods import Apply, FineTune, Project
from napari_fidelity.methods._follow import follow
from napari_fidelity.methods._start import filled, found_noise, is_picture, noise_variance, pictures
from napari_fidelity.methods.calls import call_operator, generator
from napari_fidelity.methods.checks import check_measurement
from napari_fidelity.methods.scores import known_variance
from napari_fidelity.methods.views import from_view, to_view, views_for
from napari_fidelity.operators.base import Operator
from napari_fidelity.operators.noise import GaussianNoise
from napari_fidelity.uncertainty._judged import judged
from napari_fidelity.uncertainty._transforms import draw
from napari_fidelity.uncertainty.deviation import Confidence

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from napari_fidelity.methods._follow import Inner, TensorStep
    from napari_fidelity.methods.base import LinearOperator, Method, Network, Steps
    from napari_fidelity.methods.tuned import TunedNetwork
    from napari_fidelity.operators.noise import Noise
    from napari_fidelity.stopping.rules import StoppingRule
    from napari_fidelity.uncertainty._transforms import Transform
    from napari_fidelity.uncertainty.bootstrap import Bootstrap


@dataclass(frozen=True)
class Errors:
    """Mean and mean square of errors, each over the samples in which a pixel was there; never changed in place.

    Attributes
    ----------
    count
        In how many samples a pixel was there, ``(1, 1, *n)``.
    mean, square
        Mean of the errors and of their squares ``(N, C, *n)``.
    """

    count: torch.Tensor
    mean: torch.Tensor
    square: torch.Tensor

    def add(self, error: torch.Tensor, there: torch.Tensor) -> Errors:
        """Return those with one more sample; ``there`` is 1 where it counts."""
        count = self.count + there
        share = there / count.clamp_min(1)
        mean = self.mean + share * (error - self.mean)
        return Errors(count, mean, self.square + share * (error.square() - self.square))

    def std(self) -> torch.Tensor:
        """Return the root mean square; pixels that were in no sample take it from those around them."""
        return filled(self.square, self.count.clamp_max(1)).clamp_min(0).sqrt()


class Run:
    """One bootstrap of one method on one measurement."""

    def __init__(
        self,
        options: Bootstrap,
        y: torch.Tensor,
        operator: LinearOperator,
        model: Network | None,
        *,
        noise: Noise | None,
        stop: StoppingRule | None,
        weights: torch.Tensor | None,
        rng: int | torch.Generator,
    ) -> None:
        self.started = time.perf_counter()
        self.y, self.weights = check_measurement(y, weights)
        self.options, self.operator, self.model = options, operator, model
        self.noise, self.stop, self.rng = noise, stop, generator(rng)
        self.seed = self.rng.initial_seed()
        self.history: list[Record] = []
        self.errors: Errors | None = None

    @property
    def _known(self) -> dict[str, Any]:
        return {"noise": self.noise, "stop": self.stop, "weights": self.weights}

    def steps(self) -> Steps:
        """Yield one step per sample; return the result."""
        total = self.options.samples
        found, asked = yield from judged(
            self.options, self.y, self.operator, self.model, total=total, **self._known, rng=self.seed
        )
        self.x = found.image
        if not asked and self.options.fast:
            found, asked = yield from self._tuned(found)
        method, model = self._estimator(found)
        with torch.no_grad():
            self._prepare()
        said = asked
        while len(self.history) < total and not said:
            said = yield from self._sample(method, model)
        return self._result(said)

    def _tuned(self, found: Result[torch.Tensor]) -> Inner:
        """Return what fine-tuning gave, whose network is needed even where its image was given."""
        if found.network is not None or not isinstance(self.options.of, FineTune):
            return found, ""
        run = self.options.of.steps(self.y, self.operator, self.model, **self._known, rng=self.seed)
        return (yield from follow(run, self._meanwhile))

    def _estimator(self, found: Result[torch.Tensor]) -> tuple[Method, Network | None]:
        """Return the method that restores the samples, and its network."""
        of = self.options.of
        if not self.options.fast or not isinstance(of, FineTune) or found.network is None:
            return of, self.model
        views = views_for(found.network, self.operator, self.y, of.views if of.average else 1)
        return (Project() if of.project else Apply()), partial(_averaged, found.network, views)

    def _prepare(self) -> None:
        """Find out what all samples need: the noise, and how the image lies on the measurement."""
        y, operator, spatial = self.y, self.operator, self.x.shape[2:]
        self.scale = [1.0] * len(spatial)
        if isinstance(operator, Operator) and operator.shares_grid:
            self.scale = list(operator.grid(len(spatial)).scale)
        elif not isinstance(operator, Operator) and y.ndim == self.x.ndim:
            self.scale = [n / m for n, m in zip(spatial, y.shape[2:], strict=True)]
        self.drawn = self._drawn_noise()
        # what was not sampled is zero, without noise
        probe = torch.rand(self.x.shape, generator=torch.Generator().manual_seed(0)).to(self.x)
        self.sampled = (call_operator(operator, probe) != 0) | (y != 0)
        known: dict[str, Any] = {"noise": self.drawn, "weights": self.weights, "seed": self.seed}
        self.confidence = Confidence(self.options, self.x, y, operator, self.model, **known)

    def _drawn_noise(self) -> Noise:
        """Return the noise of the samples: that of the measurement, or what it shows of it."""
        y, spatial = self.y, self.x.shape[2:]
        if self.noise is not None and known_variance(self.noise, y) is not None:
            return self.noise
        picture = self.weights is None and is_picture(self.operator, y, self.x.shape)
        found = found_noise(y) if picture else None
        if found is not None:
            return found
        known = (self.noise, self.weights, self.seed)
        return GaussianNoise(sigma=math.sqrt(noise_variance(y, self.operator, spatial, *known, picture=picture)))

    def _sample(self, method: Method, model: Network | None) -> Generator[TensorStep, str | None, str]:
        """Draw and restore one measurement; return the reason that was sent meanwhile, or ``""``."""
        seed = int(torch.randint(2**62, (1,), generator=self.rng))
        transform = draw(self.options.transforms, self.x.shape[2:], self.scale, self.rng)
        with torch.no_grad():
            y = self._measured(transform, seed)
        run = _moved(method, transform).steps(y, self.operator, model, **self._known, rng=seed)
        result, asked = yield from follow(run, self._meanwhile)
        if asked:  # an unfinished result is no sample
            return asked
        with torch.no_grad():
            step = self._take(transform.undo(result.image) - self.x, transform.kept(self.x))
        self.history.append(Record.of(step))
        return (yield step) or ""

    def _measured(self, transform: Transform, seed: int) -> torch.Tensor:
        """Return a measurement of the transformed result."""
        clean = call_operator(self.operator, transform.apply(self.x))
        y = self.drawn.sample(clean, torch.Generator(clean.device).manual_seed(seed)) * self.sampled
        if self.weights is None or not pictures(self.operator):
            return y
        # a network looks at all pixels: it must not find what was not observed
        return torch.where(self.weights > 0, y, filled(y, self.weights))

    def _take(self, error: torch.Tensor, there: torch.Tensor) -> TensorStep:
        before = self.errors or Errors(torch.zeros_like(there), torch.zeros_like(error), torch.zeros_like(error))
        self.errors = before.add(error, there)
        std = self.errors.std()
        scores = {"mean_std": float(std.mean())} | self.confidence.scores(std)
        index = len(self.history)
        return Step(index, self.options.samples, scores["mean_std"], scores, self.errors.std, self._seconds())

    def _meanwhile(self, step: TensorStep) -> TensorStep:
        """Return the step to yield while a sample is being restored: the last one, with the map so far."""
        errors, index = self.errors, len(self.history) - 1
        estimate = partial(torch.zeros_like, self.x) if errors is None else errors.std
        return Step(index, self.options.samples, step.loss, {}, estimate, self._seconds())

    def _result(self, asked: str) -> Result[torch.Tensor]:
        total = self.options.samples
        if self.errors is None:
            empty = torch.full_like(self.x, math.nan)
            reason = f"{asked}; no sample is done: the map is empty"
            record = Record(0, math.nan, self._seconds())
            return Result(empty, (record,), reason, self._seconds(), maps={"std": empty})
        std, bias = self.errors.std(), self.errors.mean
        maps = {"std": std, "bias": bias, "mean": self.x + bias} | self.confidence.maps(std)
        reason = asked or f"all {total} samples are done"
        words = self.confidence.words(std)
        reason = f"{reason}; {words}" if words else reason
        return Result(std, tuple(self.history), reason, self._seconds(), maps=maps)

    def _seconds(self) -> float:
        return time.perf_counter() - self.started


def _moved(method: Method, transform: Transform) -> Method:
    """Return a method whose images (to start from, a mask) are transformed, too."""
    changes: dict[str, Any] = {"snapshots": 0} if "snapshots" in type(method).model_fields else {}
    for name in ("start", "mask"):
        array = getattr(method, name, None)
        if isinstance(array, np.ndarray):
            changes[name] = transform.apply(torch.from_numpy(array.copy())).numpy()
    return method.replace(**changes) if changes else method


def _averaged(network: TunedNetwork, views: Sequence[int], y: torch.Tensor) -> torch.Tensor:
    """Return the image that a tuned network makes of a measurement, averaged over views."""
    shown = network.shown(y)
    images = [from_view(network.image(to_view(shown, view)), view) for view in views]
    return torch.stack(images).mean(dim=0)
