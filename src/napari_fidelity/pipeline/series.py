"""How a network is adapted to a time series: frame by frame, in windows or as a whole, and what that costs."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, Literal

from napari_fidelity.core.blocks import channel_axis
from napari_fidelity.core.errors import OptionError
from napari_fidelity.core.units import lengths
from napari_fidelity.methods import Apply, Project
from napari_fidelity.uncertainty.base import judged_method

if TYPE_CHECKING:
    from napari_fidelity.core.arrays import Image
    from napari_fidelity.methods.base import Method, Network
    from napari_fidelity.pipeline.recipe import Recipe

Series = Literal["auto", "frame", "window", "whole"]

CHOICES: dict[Series, str] = {
    "frame": "frame by frame",
    "window": "window by window",
    "whole": "the whole series at once",
}
"""In words; ``"auto"`` stands for one of them."""

_WINDOW = 5  # frames of a window of a network that looks at single images
_AT_ONCE = 2**20  # pixels of the frames that pass through a network together where nothing is adapted to them


@dataclass(frozen=True, slots=True)
class Plan:
    """How a series is cut into what a method sees at once.

    Attributes
    ----------
    core
        Frames that are restored together.
    context
        Frames on either side that a video network looks at, too; the ends of the series cut them off.
    """

    core: int = 1
    context: int = 0


@dataclass(frozen=True, slots=True)
class Cost:
    """What it takes to go through a series.

    Attributes
    ----------
    runs
        How many runs of the method there are.
    passes
        Frames that pass through the network in one iteration, over all runs.
    at_once
        The most frames that one run holds in memory.
    frames
        Of the series.
    """

    runs: int
    passes: int
    at_once: int
    frames: int

    def total(self, method: Method) -> int:
        """Return how many frames a method passes through the network at most, over all its iterations."""
        return self.passes * (getattr(method, "iterations", 0) + 1)

    def in_words(self, method: Method) -> str:
        """Return the cost of a method in words."""
        runs = "1 run" if self.runs == 1 else f"{self.runs} runs"
        alike = self.passes == self.runs * self.at_once
        frames = "1 frame" if self.at_once == 1 else f"{'' if alike else 'up to '}{self.at_once} frames"
        ratio = self.passes / self.frames
        times = "each frame once" if ratio == 1 else f"each frame {ratio:.2g} times"
        return (
            f"{runs} of {frames} at once; {self.passes} frame passes an iteration ({times}), at most "
            f"{self.total(method)} in all"
        )


def frames_of(network: object) -> int:
    """Return how many consecutive frames a network looks at for each that it restores; 1 for single images."""
    return max(1, int(getattr(network, "frames", 1)))


def adapts(method: Method) -> bool:
    """Tell whether a method, or the one that a map judges, learns from what it is handed."""
    return not isinstance(judged_method(method), Apply | Project)


def plan_of(series: Series, method: Method, frames: int, length: int, pixels: int = 0) -> Plan:
    """Return how a series is cut.

    Parameters
    ----------
    series
        What the recipe says.
    method
        The recipe's method.
    frames
        What the network looks at (:func:`frames_of`).
    length
        Frames of the series.
    pixels
        Of a frame; where nothing is adapted, so many frames pass at once as memory is sure to hold.

    Raises
    ------
    OptionError
        If frames are to be put together for a method that makes images without looking at the measurement through
        a restoration network.
    """
    if length < 2 or not method.reads_measurement:
        if series in ("window", "whole") and length > 1:
            raise OptionError(
                f"{type(judged_method(method)).__name__} works frame by frame",
                found=f"series: {series}",
                do="Set series to auto or frame",
            )
        return Plan()
    context = frames // 2
    if series == "auto" and frames > 1 and not adapts(method):
        return Plan(min(length, max(frames, _AT_ONCE // max(1, pixels))), context)
    if series == "auto":
        series = "window" if frames > 1 else "frame"
    core = {"frame": 1, "window": frames if frames > 1 else _WINDOW, "whole": length}[series]
    return Plan(min(core, length), context)


def plan_for(recipe: Recipe, image: Image, network: Network | None) -> Plan:
    """Return how the frames of an image are cut for a recipe and a network; errors as for :func:`plan_of`."""
    pixels = prod(image.sizes[axis] for axis in recipe.spatial)
    return plan_of(recipe.series, recipe.method, frames_of(network), image.sizes.get("T", 1), pixels)


def cost_of(plan: Plan, length: int, others: int = 1) -> Cost:
    """Return what a plan costs on a series of so many frames, of which there are ``others`` (slices, channels)."""
    seen = [len(frames) for frames, _ in lengths(length, plan.core, plan.context)]
    return Cost(others * len(seen), others * sum(seen), max(seen), others * length)


def costs(method: Method, frames: int, length: int, others: int = 1) -> dict[Series, Cost]:
    """Return the cost of each of :data:`CHOICES` and of ``"auto"``; parameters as for the functions above."""
    names: tuple[Series, ...] = ("auto", *CHOICES)
    return {name: cost_of(plan_of(name, method, frames, length), length, others) for name in names}


def as_run(recipe: Recipe, image: Image, network: Network | None) -> Recipe:
    """Return a recipe with the channels of an image one by one where they cannot go together.

    Channels that a network was not trained for pass through it as a batch, and the batch of a video network is
    time.
    """
    channels = image.sizes.get(channel_axis(image.axes, recipe.channels_of(image)), 1)
    trained = getattr(network, "n_channels", None)
    together = frames_of(network) == 1 or not recipe.method.reads_measurement or trained in (None, channels)
    return recipe if together or channels == 1 else recipe.replace(channels="each")


def without_snapshots(method: Method) -> Any:
    """Return a method that keeps no images of its iterations."""
    changed: Any = method
    return changed.replace(snapshots=0) if method.iterative and changed.snapshots else method
