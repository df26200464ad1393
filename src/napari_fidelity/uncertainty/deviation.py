"""What maps of a standard deviation share: intervals with a stated coverage, where they were calibrated."""

from __future__ import annotations

from abc import ABC
from typing import TYPE_CHECKING, Self

from pydantic import Field, model_validator

from napari_fidelity.uncertainty.base import Output, UncertaintyMap
from napari_fidelity.uncertainty.conformal import Calibration, intervals
from napari_fidelity.uncertainty.shift import statistics_of, with_std

if TYPE_CHECKING:
    import torch

    from napari_fidelity.methods.base import LinearOperator, Network
    from napari_fidelity.operators.noise import Noise

INTERVALS = {
    "lower": Output("Lower end of the interval", "intensity"),
    "upper": Output("Upper end of the interval", "intensity"),
}
"""Outputs of a calibrated map, to be added to those of its class."""


class DeviationMap(UncertaintyMap, ABC):
    """A map whose first output, ``std``, is the standard deviation of the judged image.

    With a calibration, its maps also hold ``lower`` and ``upper``, between which the stated share of the pixels
    of the true image lies; scores ``shift_p`` and ``guaranteed`` (1 or 0), and the reason it ended with, say
    whether that can be relied on. The scores of :data:`napari_fidelity.uncertainty.shift.STATISTICS` are always
    there: a calibration is made from them.

    Raises
    ------
    OptionError
        If the calibration belongs to another map.
    """

    calibration: Calibration | None = Field(
        None, description="What the standard deviation has to be multiplied with, for intervals."
    )
    level: float = Field(0.9, gt=0, lt=1, description="Share of the pixels that are to lie in their intervals.")

    @model_validator(mode="after")
    def _is_calibrated(self) -> Self:
        if self.calibration is not None:
            # a recipe fills the method in where it was not given
            self.calibration.check(self, method="of" in self.model_fields_set)
        return self


class Confidence:
    """How far the standard deviation map of one result can be relied on.

    Parameters
    ----------
    options
        The map.
    x
        The judged image ``(N, C, *n)``.
    y, operator, model, noise, weights
        As for :meth:`napari_fidelity.methods.Method.steps`.
    seed
        Of the probes that estimate an unknown noise level.
    """

    def __init__(
        self,
        options: DeviationMap,
        x: torch.Tensor,
        y: torch.Tensor,
        operator: LinearOperator,
        model: Network | None,
        *,
        noise: Noise | None = None,
        weights: torch.Tensor | None = None,
        seed: int = 0,
    ) -> None:
        self._options, self._x = options, x
        self._differences: list[str] = []
        if options.calibration is not None:
            options.calibration.check(options)
            self._differences = options.calibration.differences(operator, model)
        self._statistics = statistics_of(x, y, operator, noise=noise, weights=weights, seed=seed)

    def scores(self, std: torch.Tensor) -> dict[str, float]:
        """Return the numbers by which a map ``(N, C, *n)`` is compared with others, and how that ends."""
        scores = with_std(self._statistics, self._x, std)
        calibration = self._options.calibration
        if calibration is None:
            return scores
        verdict = calibration.verdict(self._options.level, scores, self._differences)
        told = {"shift_p": verdict.shift.p_value} if verdict.shift.tested else {}
        return {**scores, **told, "guaranteed": float(verdict.holds)}

    def maps(self, std: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the ends of the intervals by name; nothing without a calibration."""
        calibration = self._options.calibration
        if calibration is None:
            return {}
        lower, upper = intervals(self._x, std, calibration, self._options.level)
        return {"lower": lower, "upper": upper}

    def words(self, std: torch.Tensor) -> str:
        """Say what the intervals are worth; ``""`` without a calibration."""
        calibration = self._options.calibration
        if calibration is None:
            return ""
        scores = with_std(self._statistics, self._x, std)
        return calibration.verdict(self._options.level, scores, self._differences).words
