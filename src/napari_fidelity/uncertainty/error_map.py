"""Where a result contradicts its measurement."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from napari_fidelity.core.lazy import torch
from napari_fidelity.methods.calls import dagger
from napari_fidelity.methods.checks import check_fit
from napari_fidelity.methods.scores import known_variance
from napari_fidelity.metrics.fidelity import squirrel
from napari_fidelity.operators.base import Operator
from napari_fidelity.uncertainty._single import Look, SinglePassMap
from napari_fidelity.uncertainty.base import Output

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_fidelity.methods.base import LinearOperator
    from napari_fidelity.operators.noise import Noise


class ErrorMap(SinglePassMap):
    """SQUIRREL: the measurement beside what the result predicts of it, gain and offset of the latter fitted.

    ``error`` is the absolute difference on the image's grid: enlarged linearly where the measurement is a picture
    of the image; elsewhere (tomography, spatial frequencies) the size of ``A†`` of the difference, the least
    change of the image that would explain it. Pixels that were not observed take the mean of those around them.
    ``noise_ratio`` is the difference over the noise's standard deviation, on the measurement's grid and 0 where
    nothing was observed; it is there where the noise is known. Noise alone exceeds 3 in 0.3 % of the pixels.

    Scores: ``rse``, the root mean square of the difference (on the scale of ``y``), and ``rsp``, the correlation
    between measurement and prediction.

    Reference: Culley et al. 2018, doi:10.1038/nmeth.4605. There the blur is fitted too; here the image formation
    model says what it is.
    """

    kind: Literal["error_map"] = "error_map"
    title: ClassVar[str] = "Error map"
    outputs: ClassVar[Mapping[str, Output]] = {
        "error": Output("Difference from the measurement"),
        "noise_ratio": Output("Difference over noise", "plain", "measurement"),
    }

    def look(
        self,
        x: torch.Tensor,
        y: torch.Tensor,
        operator: LinearOperator,
        noise: Noise | None,
        weights: torch.Tensor | None,
    ) -> Look:
        """Return the map of a result ``(N, C, *n)``. See :meth:`SinglePassMap.look`."""
        prediction = check_fit(operator, x, y)
        measured = y if weights is None else torch.where(weights > 0, y, torch.nan)
        found = squirrel(prediction.cpu().numpy(), measured.cpu().numpy())
        left = y - (found.gain * prediction + found.offset)
        maps = {"error": _on_image(left, x, operator, weights)}
        variance = known_variance(noise, prediction)
        if variance is not None:
            ratio = left.abs() / variance.sqrt()
            maps["noise_ratio"] = ratio if weights is None else ratio * weights
        words = f"correlation between measurement and prediction (RSP): {found.rsp:.4f}"
        if not np.isfinite(found.rsp):
            words = "measurement or prediction is constant: there is no correlation between them"
        return Look(maps, found.rse**2, {"rse": found.rse, "rsp": found.rsp}, words)


def _on_image(
    left: torch.Tensor, x: torch.Tensor, operator: LinearOperator, weights: torch.Tensor | None
) -> torch.Tensor:
    """Return the size of a difference ``(N, C, *m)`` on the grid of the image ``(N, C, *n)``."""
    from napari_fidelity.methods._start import filled, pictures

    if not pictures(operator) or left.shape[:2] != x.shape[:2]:
        seen = left if weights is None else left * weights
        return dagger(operator, seen, x.shape[2:]).abs()
    size = left.abs() if weights is None else filled(left.abs(), weights)
    return size if size.shape == x.shape else _enlarged(size, x.shape[2:], operator)


def _enlarged(size: torch.Tensor, shape: Sequence[int], operator: LinearOperator) -> torch.Tensor:
    """Return a picture ``(N, C, *m)`` on the image's grid, by linear interpolation between its pixels.

    An image may reach further than its measurement; what lies outside takes the nearest value.
    """
    scales: Sequence[float] = [n / m for n, m in zip(shape, size.shape[2:], strict=True)]
    shifts: Sequence[float] = [0.0] * len(shape)
    if isinstance(operator, Operator):
        grid = operator.grid(len(shape))
        scales, shifts = grid.scale, grid.shift
    axes = [
        2 * (shift + (torch.arange(n, device=size.device) + 0.5) / scale) / m - 1
        for n, m, scale, shift in zip(shape, size.shape[2:], scales, shifts, strict=True)
    ]
    # the last axis comes first there
    points = torch.stack(torch.meshgrid(*axes, indexing="ij")[::-1], dim=-1)
    points = points.expand(len(size), *points.shape).to(size)
    return torch.nn.functional.grid_sample(size, points, "bilinear", "border", align_corners=False)
