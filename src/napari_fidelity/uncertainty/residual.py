"""What a result leaves of the measurement unexplained."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, Literal

from napari_fidelity.core.lazy import torch
from napari_fidelity.methods.checks import check_fit
from napari_fidelity.methods.scores import known_variance, lr_psnr, mean_square
from napari_fidelity.metrics.fidelity import whiteness
from napari_fidelity.uncertainty._single import Look, SinglePassMap
from napari_fidelity.uncertainty.base import Output

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_fidelity.methods.base import LinearOperator
    from napari_fidelity.operators.noise import Noise

_DOUBT = 0.01  # p-value below which the residual is said not to be white
_TOO_LITTLE = 0.5  # of the noise's variance


class Residual(SinglePassMap):
    """The residual ``y − A x̂``: of a result that accounts for its data it is white and as strong as the noise.

    0 where nothing was observed.

    Scores: ``lr_psnr``; ``discrepancy``, its mean square over the noise's variance, where that is known;
    ``whiteness``, 1 for white noise and more where structure is left, with its p-value ``whiteness_p``, and
    ``correlation``, the strongest one between a pixel and its neighbours
    (:func:`napari_fidelity.metrics.fidelity.whiteness`).
    """

    kind: Literal["residual"] = "residual"
    title: ClassVar[str] = "Residual"
    outputs: ClassVar[Mapping[str, Output]] = {
        "residual": Output("Measurement − what the result predicts of it", grid="measurement", signed=True)
    }

    def look(
        self,
        x: torch.Tensor,
        y: torch.Tensor,
        operator: LinearOperator,
        noise: Noise | None,
        weights: torch.Tensor | None,
    ) -> Look:
        """Return the residual of a result ``(N, C, *n)``. See :meth:`SinglePassMap.look`."""
        prediction = check_fit(operator, x, y)
        left = y - prediction
        scores = {"lr_psnr": lr_psnr(left, weights)} | _whiteness(left, weights)
        if noise is not None and known_variance(noise, prediction) is not None:
            scores["discrepancy"] = float(noise.discrepancy(prediction, y, weights))
        shown = left if weights is None else left * weights
        return Look({"residual": shown}, mean_square(left, weights), scores, _words(scores))


def _whiteness(left: torch.Tensor, weights: torch.Tensor | None) -> dict[str, float]:
    """Return the scores of a residual ``(N, C, *m)``, its images one by one."""
    if max(left.shape[2:]) < 2:
        return {}
    if weights is not None:
        left = torch.where(weights > 0, left, torch.nan)
    dims: Literal[2, 3] = 2 if left.ndim == 4 else 3
    found = whiteness(left.flatten(0, 1).movedim(0, -1).cpu().numpy(), spatial_dims=dims)
    return {"whiteness": found.ratio, "whiteness_p": found.p_value, "correlation": found.strongest}


def _words(scores: Mapping[str, float]) -> str:
    """Say what the residual is like; whether the noise was known decides what can be said."""
    said = ""
    if "discrepancy" in scores:
        share = scores["discrepancy"]
        meant = ": the result follows the noise" if share < _TOO_LITTLE else ""
        said = f"{share:.2g} of the noise's variance is left{meant}; "
    p_value = scores.get("whiteness_p", math.nan)
    if math.isnan(p_value):
        return said + "there is too little to tell whether it is white"
    white = "white, as noise is" if p_value >= _DOUBT else f"not white (ratio {scores['whiteness']:.3g}, not 1)"
    return said + f"the residual is {white}"
