"""Axes of small plots: limits, few ticks, short numbers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def _short_number(value: float, _: int | None = None) -> str:
    """Write a tick; powers as "2e-4": read at once, and without matplotlib's slow layout of formulas."""
    text = f"{value:.3g}" if value == 0 or 1e-2 <= abs(value) < 1e5 else f"{value:.1e}"
    return text.replace(".0e", "e").replace("e-0", "e-").replace("e+0", "e")


def number_axis(axis: Any, name: str, limits: tuple[float, float]) -> None:
    """Set limits, short numbers and the name of an upright linear axis; a power of ten goes to the name."""
    from matplotlib.ticker import MaxNLocator

    largest = max(abs(limit) for limit in limits)
    power = math.floor(math.log10(largest)) if largest else 0
    power = 0 if -3 < power < 5 else power
    axis.axes.set_ylim(*limits)
    axis.set_major_locator(MaxNLocator(5))
    axis.set_major_formatter(lambda value, _: f"{value / 10.0**power:.5g}")
    axis.set_label_text(f"{name} ×1e{power}" if power else name)


def widened(values: NDArray[Any], share: float) -> tuple[float, float]:
    """Return the limits of an axis: the finite values and a little more, never less than two percent of them."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return 0.0, 1.0
    low, high = float(finite.min()), float(finite.max())
    least = 0.02 * max(abs(low), abs(high)) or 1.0
    if high - low < least:
        low, high = (low + high - least) / 2, (low + high + least) / 2
    extra = share * (high - low)
    return low - extra, high + extra


def scale_loss(axes: Any, loss: NDArray[Any]) -> None:
    """Make the axis of the loss logarithmic where it can be, with a tick at least."""
    from matplotlib.ticker import LogLocator, NullLocator

    finite = loss[np.isfinite(loss)]
    if not finite.size or finite.min() <= 0:
        axes.set_yscale("linear")
        number_axis(axes.yaxis, "loss", widened(loss, 0.06))
    else:
        low, high = float(finite.min()), float(finite.max())
        widen = max(1.1, math.sqrt(3 * low / high)) if high < 3 * low else 1.15
        axes.set_yscale("log")
        axes.set_ylim(low / widen, high * widen)
        subs = (1,) if high > 30 * low else (1, 2, 5) if high > 5 * low else (1, 1.5, 2, 3, 5, 7)
        axes.yaxis.set_major_locator(LogLocator(subs=subs, numticks=6 if len(subs) == 1 else 20))
        axes.yaxis.set_major_formatter(_short_number)
        axes.yaxis.set_label_text("loss")
    axes.yaxis.set_minor_locator(NullLocator())
