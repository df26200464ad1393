"""What an iteration returns: the average, the best or a chosen one of its images, and some on the way."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from napari_fidelity.methods.base import ChosenIteration


class Outcome:
    """Gathers the images of an iteration in bounded memory.

    ``change`` holds, from the second image on, the score of that name: by how much (root mean square) the last
    one changed the estimate.

    The snapshots lie evenly over the iterations there have been: when there are too many, every other one is
    dropped and the distance doubles.

    Parameters
    ----------
    options
        Of the method: how many snapshots, and whether an iteration was chosen.
    finish
        Makes the image that is handed over of an estimate.
    weight
        Weight of the newest image in the average, from how many there are: ``1/n`` averages all alike, 1 keeps the
        newest alone.
    """

    def __init__(
        self,
        options: ChosenIteration,
        finish: Callable[[torch.Tensor], torch.Tensor],
        weight: Callable[[int], float],
    ) -> None:
        self.most, self.finish, self.weight = options.snapshots, finish, weight
        self.chosen = options.iteration is not None
        self.snapshots: dict[int, torch.Tensor] = {}
        self.change: dict[str, float] = {}
        self._stride = 1
        self._count = 0
        self._current: torch.Tensor | None = None
        self._best: torch.Tensor | None = None
        self._best_score = math.inf

    def take(self, image: torch.Tensor) -> torch.Tensor:
        """Take the image of one iteration; return the estimate after it, which is never changed in place."""
        self._count += 1
        before = self._current
        if before is None:
            self._current = image
            return image
        weight = self.weight(self._count)
        step = weight * (image - before)
        self.change = {"change": float(step.square().mean().sqrt())}
        self._current = before + step if weight < 1 else image
        return self._current

    def judge(self, index: int, score: float) -> None:
        """Say how good the present estimate is.

        The one with the lowest score is returned; the last one if none is finite, or an iteration was chosen.
        """
        if self._current is None:
            return
        if score < self._best_score and not self.chosen:
            self._best, self._best_score = self._current, score
        if self.most and index % self._stride == 0:
            self.snapshots[index] = self.finish(self._current).cpu()
            if len(self.snapshots) > self.most:
                self._stride *= 2
                self.snapshots = {i: image for i, image in self.snapshots.items() if i % self._stride == 0}

    def image(self) -> torch.Tensor:
        """Return the final image."""
        chosen = self._current if self._best is None else self._best
        assert chosen is not None  # the first output was finite
        return self.finish(chosen)
