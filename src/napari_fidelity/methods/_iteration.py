"""What the iterations of the reconstruction methods share: averages, stopping, history, and how they end."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from napari_fidelity.core.errors import DivergedError
from napari_fidelity.core.step import Record, Result, Step
from napari_fidelity.methods._outcome import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from napari_fidelity.methods.base import Steps
    from napari_fidelity.stopping.rules import StoppingRule


@dataclass(frozen=True)
class Iterate:
    """What one iteration comes to.

    Attributes
    ----------
    loss
        The objective.
    image
        The image (N, C, *n), detached.
    scores
        Makes the scores of the estimate, the average of the images so far.
    settles
        Whether a small change of the estimate means that it has settled.
    ends
        Why there is no next iteration, or ``""``.
    """

    loss: float
    image: torch.Tensor
    scores: Callable[[torch.Tensor], dict[str, float]]
    settles: bool = True
    ends: str = ""


def iterate(
    options: Any,
    stop: StoppingRule,
    advance: Callable[[int], Iterate],
    *,
    started: float,
    last: int,
    weight: Callable[[int], float] = lambda count: 1.0,
    finish: Callable[[torch.Tensor], torch.Tensor] | None = None,
    at_the_end: str = "",
) -> Steps:
    """Yield one step per iteration; return the result.

    Parameters
    ----------
    options
        Of the method: ``iteration`` and ``snapshots`` are looked at.
    stop
        The stopping rule; without effect where an iteration was chosen.
    advance
        Does one iteration, given its number.
    started
        When the method began, by ``time.perf_counter``.
    last
        Number of the last iteration there can be.
    weight
        Weight of the newest image in the average that is the estimate, from how many there are.
    finish
        Makes the image that is handed over of an estimate; left out, it is handed over as it is.
    at_the_end
        Why the iteration ended if nothing stopped it before ``last``.

    Raises
    ------
    DivergedError
        If the very first loss is not finite.
    """
    chosen = options.iteration is not None
    finish = finish or _itself
    outcome = Outcome(options, finish, weight)
    parts = () if chosen else stop.parts()
    watchers = [part.watch() for part in parts]
    best = next((part.best for part in parts if part.best), None)
    history: list[Record] = []
    reason = ""
    for index in range(last + 1):
        new = advance(index)
        if not math.isfinite(new.loss):
            _check_start(index, new.loss)
            reason = f"the iteration diverged at step {index}; the image before it is returned"
            break
        estimate = outcome.take(new.image)
        scores = new.scores(estimate) | (outcome.change if new.settles else {})
        outcome.judge(index, scores.get(best, math.inf) if best else math.inf)
        seconds = time.perf_counter() - started
        step = Step(index, last + 1, new.loss, scores, partial(finish, estimate), seconds)
        history.append(Record.of(step))
        reply = yield step
        said = [watch(step) for watch in watchers]
        reason = reply or next((text for text in said if text), "") or new.ends
        if reason:
            break
    if not reason:
        reason = f"the image of iteration {last} was asked for" if chosen else at_the_end
    seconds = time.perf_counter() - started
    reason = reason or f"all {last + 1} iterations are done"
    return Result(outcome.image(), tuple(history), reason, seconds, {}, outcome.snapshots)


def _itself(image: torch.Tensor) -> torch.Tensor:
    return image


def _check_start(index: int, loss: float) -> None:
    if index == 0:
        raise DivergedError(
            "The very first step is not finite",
            found=f"an objective of {loss}",
            do="Check the intensity scaling and the image formation model",
        )
