"""The passes of a map whose images differ from pass to pass: their mean and their spread."""

from __future__ import annotations

import math
import time
from functools import partial
from typing import TYPE_CHECKING

from napari_fidelity.core.lazy import torch
from napari_fidelity.core.step import Record, Result, Step
from napari_fidelity.uncertainty._moments import Moments

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_fidelity.uncertainty.deviation import Confidence

    TensorStep = Step[torch.Tensor]


class Passes:
    """Gathers the images of passes, and makes the steps and the result of a map of them.

    Parameters
    ----------
    total
        How many passes there will be at most.
    started
        When the map began, by ``time.perf_counter``.
    """

    def __init__(self, total: int, started: float) -> None:
        self.total, self._started = total, started
        self._moments: dict[str, Moments] = {}
        self._history: list[Record] = []
        self.confidence: Confidence | None = None
        """How far the map can be relied on, once it is known which image it is about."""

    @property
    def count(self) -> int:
        """How many passes are done."""
        return len(self._history)

    def take(self, images: Mapping[str, torch.Tensor]) -> TensorStep:
        """Take the images of one pass, by name, the one of the map itself first; return the step to yield."""
        for name, image in images.items():
            before = self._moments.get(name)
            self._moments[name] = Moments.of(image) if before is None else before.add(image)
        first = next(iter(images))
        scores: dict[str, float] = {}
        if self.count:  # a single image has no spread
            spreads = {name: one.std() for name, one in self._moments.items()}
            scores = {f"mean_std{name}": float(std.mean()) for name, std in spreads.items()}
            if self.confidence is not None:
                scores |= self.confidence.scores(spreads[first])
        loss = scores.get(f"mean_std{first}", 0.0)
        step = Step(self.count, self.total, loss, scores, self._moments[first].std, self._seconds())
        self._history.append(Record.of(step))
        return step

    def meanwhile(self, step: TensorStep) -> TensorStep:
        """Return the step to yield while a method runs for the next pass; ``step`` is its own.

        It has the number of the last pass that is done, −1 before any, and the map so far, 0 at first.
        """
        if self._moments:
            estimate = next(iter(self._moments.values())).std
        else:
            estimate = partial(_nothing_yet, step)
        return Step(self.count - 1, self.total, step.loss, {}, estimate, self._seconds())

    def result(self, reason: str, like: torch.Tensor | None = None) -> Result[torch.Tensor]:
        """Return the map, its mean and whatever else there is; the spread of fewer than two images is NaN.

        Parameters
        ----------
        reason
            Why there are no more passes.
        like
            An image of that shape; needed where there is no pass at all.
        """
        moments = self._moments
        if not moments and like is not None:
            moments = {"": Moments.of(torch.full_like(like, math.nan))}
        maps = {}
        for name, one in moments.items():
            maps[f"std{name}"] = one.std() if one.count > 1 else torch.full_like(one.mean, math.nan)
        maps["mean"] = next(iter(moments.values())).mean
        history = tuple(self._history) or (Record(0, math.nan, self._seconds()),)
        primary = next(iter(maps.values()))
        if self.count < 2:
            reason = f"{reason}; fewer than two passes are done, which have no spread: the map is empty"
        elif self.confidence is not None:
            maps |= self.confidence.maps(primary)
            words = self.confidence.words(primary)
            reason = f"{reason}; {words}" if words else reason
        return Result(primary, history, reason, self._seconds(), maps=maps)

    def _seconds(self) -> float:
        return time.perf_counter() - self._started


def _nothing_yet(step: TensorStep) -> torch.Tensor:
    return torch.zeros_like(step.estimate())
