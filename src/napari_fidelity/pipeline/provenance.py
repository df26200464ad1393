"""What a result was made from and with, as plain values."""

from __future__ import annotations

import hashlib
import math
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fidelity.core.arrays import AXES
from napari_fidelity.core.device import describe
from napari_fidelity.stopping.rules import AnyOf, Budget
from napari_fidelity.uncertainty.base import UncertaintyMap

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from napari_fidelity.core.arrays import Image
    from napari_fidelity.core.step import Result
    from napari_fidelity.pipeline.recipe import Recipe
    from napari_fidelity.stopping.rules import StoppingRule

_LIBRARIES = ("napari-fidelity", "torch", "numpy", "scipy", "scikit-image")


def software_versions() -> dict[str, str]:
    """Return the versions of what the numbers depend on."""
    found = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def provenance(
    recipe: Recipe,
    results: Sequence[Result[torch.Tensor]],
    device: torch.device,
    seconds: float,
    blocks: int,
    *,
    asked: bool = False,
) -> dict[str, Any]:
    """Return the record that is stored with a result: JSON-able, with the recipe that replays it.

    Parameters
    ----------
    recipe
        What was run.
    results
        Of each block that was begun.
    device, seconds
        Where it ran, and for how long.
    blocks
        How many there are.
    asked
        Whether the user asked the run to end.
    """
    replay = replayable(recipe, results, blocks) if asked or _clock_spoke(recipe.stop, results) else recipe
    replay = _in_the_tiles_of(results, replay)
    return {
        "recipe": replay.replace(software=software_versions()).to_plain(),
        "device": describe(device),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(seconds, 3),
        "blocks": blocks,
        "blocks_done": len(results),
        "runs": [
            {
                "iterations": result.history[-1].index if result.history else 0,
                "stop_reason": result.stop_reason,
                "seconds": round(result.seconds, 3),
                "scores": {name: round(value, 6) for name, value in _last_scores(result).items()},
                **result.provenance,
            }
            for result in results
        ],
    }


def _in_the_tiles_of(results: Sequence[Result[torch.Tensor]], recipe: Recipe) -> Recipe:
    """Return the recipe with the tiles that a run ended with, where memory ran out on the way."""
    sides = [result.provenance["tile"] for result in results if "tile" in result.provenance]
    method: Any = recipe.method
    if not sides or "tile" not in type(method).model_fields or method.tile == min(sides):
        return recipe
    return recipe.replace(method=method.replace(tile=min(sides)))


def digest(image: Image) -> str:
    """Return a hash of an image's values, whatever the order of its axes and bytes."""
    order = [image.axes.index(axis) for axis in AXES if axis in image.axes]
    data = image.data.transpose(order)
    values = np.ascontiguousarray(data, data.dtype.newbyteorder("<"))
    return hashlib.sha256(values.data).hexdigest()


def replayable(recipe: Recipe, results: Sequence[Result[torch.Tensor]], blocks: int) -> Recipe:
    """Return the recipe that ends by itself where the user or the clock ended a run; parameters as above.

    For a single block, a budget of iterations joins the stopping rule; for several, the recipe keeps the last
    iteration of each.
    """
    ends = tuple(result.history[-1].index for result in results)
    if isinstance(recipe.method, UncertaintyMap):
        return recipe.replace(last_iterations=ends)  # the stopping rule is that of the judged method
    if blocks > 1:
        stop = None if recipe.stop is None else _ending_at(max(ends), recipe.stop.parts())
        return recipe.replace(stop=stop, last_iterations=ends)
    method: Any = recipe.method
    if not method.iterative:
        return recipe  # their only step is always done
    if method.iteration is not None:
        return recipe.replace(method=method.replace(iteration=ends[0]))
    # Of the method's own rule, what chooses among the images has a say before the end too.
    own = [part for part in method.default_stop().parts() if part.best]
    return recipe.replace(stop=_ending_at(ends[0], own if recipe.stop is None else recipe.stop.parts()))


def _ending_at(iteration: int, rules: Sequence[StoppingRule]) -> StoppingRule:
    """Return a rule without clock that ends at an iteration, which these had reached."""
    budget = Budget(iterations=iteration)
    others = [rule for rule in rules if not isinstance(rule, Budget)]  # other budgets were not used up by then
    return AnyOf(rules=(*others, budget)) if others else budget


def _clock_spoke(rule: StoppingRule | None, results: Sequence[Result[torch.Tensor]]) -> bool:
    limits = [part.seconds for part in rule.parts() if isinstance(part, Budget)] if rule is not None else []
    last = [result.history[-1].seconds for result in results]
    return any(seconds >= limit for seconds in last for limit in limits if limit is not None)


def _last_scores(result: Result[torch.Tensor]) -> dict[str, float]:
    scores = dict(result.history[-1].scores) if result.history else {}
    # JSON knows no infinity: a residual of exactly zero has no PSNR.
    return {name: value for name, value in scores.items() if math.isfinite(value)}
