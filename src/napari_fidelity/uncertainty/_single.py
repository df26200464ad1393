"""Maps that one look at the result gives."""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_fidelity.core.lazy import torch
from napari_fidelity.core.step import Record, Result, Step
from napari_fidelity.methods.checks import check_measurement
from napari_fidelity.uncertainty._judged import judged
from napari_fidelity.uncertainty.base import UncertaintyMap

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_fidelity.methods.base import LinearOperator, Network, Steps
    from napari_fidelity.operators.noise import Noise
    from napari_fidelity.stopping.rules import StoppingRule


@dataclass(frozen=True)
class Look:
    """What a map sees in a result.

    Attributes
    ----------
    maps
        Its images by name, the map itself first.
    loss
        Its mean square.
    scores
        Numbers about the whole image; those that are not finite are left out.
    words
        What it was made from.
    """

    maps: Mapping[str, torch.Tensor]
    loss: float
    scores: Mapping[str, float]
    words: str


class SinglePassMap(UncertaintyMap, ABC):
    """A map that follows from result, measurement and image formation model without anything random."""

    @abstractmethod
    def look(
        self,
        x: torch.Tensor,
        y: torch.Tensor,
        operator: LinearOperator,
        noise: Noise | None,
        weights: torch.Tensor | None,
    ) -> Look:
        """Return what there is to see in the result ``x``; the rest as for :meth:`steps`."""

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
        """Make the result, unless it was given, and look at it once. See :meth:`Method.steps`.

        ``noise``, ``stop`` and ``rng`` go to the method that makes the result, too.
        """
        started = time.perf_counter()
        y, weights = check_measurement(y, weights)
        result, asked = yield from judged(
            self, y, operator, model, total=1, noise=noise, stop=stop, weights=weights, rng=rng
        )
        with torch.no_grad():
            look = self.look(result.image, y, operator, noise, weights)
        main = next(iter(look.maps.values()))
        scores = {name: value for name, value in look.scores.items() if math.isfinite(value)}
        step = Step(0, 1, look.loss, scores, lambda: main, time.perf_counter() - started)
        reply = yield step
        reason = asked or reply or look.words
        return Result(main, (Record.of(step),), reason, step.seconds, maps=look.maps)
