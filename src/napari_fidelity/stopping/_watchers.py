"""What the stopping rules have in common: functions that follow one score through a run."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_fidelity.core.step import Step

    Watcher = Callable[[Step[Any]], str | None]
    """A function that looks at each step of one run, and says why to stop, or ``None``."""


def plateau(score: str, sign: int, delta: float, window: int, phrase: str, unit: str) -> Watcher:
    """Return a watcher of a score that is to rise (sign 1) or fall (-1) by ``delta`` over a window."""
    values: list[float] = []

    def look(step: Step[Any]) -> str | None:
        values.append(sign * step.scores[score])
        if len(values) <= window:
            return None
        new, old = max(values[-window:]), max(values[:-window])
        gain = 0.0 if new == old else new - old  # both are infinite once nothing is left to explain
        if gain >= delta:
            return None
        over = "iteration" if window == 1 else f"{window} iterations"
        return f"{phrase} by {max(gain, 0.0):.3g} {unit} over the last {over}, less than {delta:g}".replace(
            "  ", " "
        )

    return look


def not_improving(score: str, patience: int, phrase: str) -> Watcher:
    """Return a watcher of a score that is to fall below its lowest value within ``patience`` iterations."""
    best, best_at = math.inf, 0

    def look(step: Step[Any]) -> str | None:
        nonlocal best, best_at
        value = step.scores.get(score, math.inf)
        if value < best or best == math.inf:
            best, best_at = value, step.index
        if step.index - best_at < patience:
            return None
        return f"{phrase.format(best_at)} and have not improved since"

    return look
