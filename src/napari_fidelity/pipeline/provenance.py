"""What a result was made from and with, as plain values."""

from __future__ import annotations

import math
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from napari_fidelity.core.device import describe

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from napari_fidelity.core.step import Result
    from napari_fidelity.pipeline.recipe import Recipe

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
    recipe: Recipe, results: Sequence[Result[torch.Tensor]], device: torch.device, seconds: float, blocks: int
) -> dict[str, Any]:
    """Return the record that is stored with a result: JSON-able, with the recipe that replays it."""
    return {
        "recipe": recipe.replace(software=software_versions()).to_plain(),
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
            }
            for result in results
        ],
    }


def _last_scores(result: Result[torch.Tensor]) -> dict[str, float]:
    scores = dict(result.history[-1].scores) if result.history else {}
    # JSON knows no infinity: a residual of exactly zero has no PSNR.
    return {name: value for name, value in scores.items() if math.isfinite(value)}
