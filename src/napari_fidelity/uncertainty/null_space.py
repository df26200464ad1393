"""What the data cannot verify: the part of an image that its measurement does not depend on."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from napari_fidelity.core.lazy import torch
from napari_fidelity.methods.projection import assumed_variance, proximal
from napari_fidelity.methods.scores import known_variance
from napari_fidelity.uncertainty._single import Look, SinglePassMap
from napari_fidelity.uncertainty.base import Output

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_fidelity.methods.base import LinearOperator
    from napari_fidelity.operators.noise import Noise


class NullSpace(SinglePassMap):
    """Null-space content ``|(I − A†A) x̂|``: what could be otherwise without any change in the measurement.

    A deep network may be right about it all the same: the map says where its word is all there is. The other way
    round, a small value means that the measurement speaks about the pixel, not that it agrees (:class:`ErrorMap`
    says that). The image is taken about its mean, so that the map does not depend on the intensities' offset.
    Pixels of the measurement that were not observed count as not measured.

    Score: ``unseen_share``, the map's share of the energy that the image has about its mean, 0 … 1.

    Reference: the decomposition of Schwab, Antholzer and Haltmeier 2019, doi:10.1088/1361-6420/aaf14a.
    """

    kind: Literal["null_space"] = "null_space"
    title: ClassVar[str] = "Null-space content"
    outputs: ClassVar[Mapping[str, Output]] = {"unseen": Output("What the data cannot verify")}
    ridge: float | None = Field(
        0.0,
        ge=0,
        description="λ of (I − Aᵀ(A Aᵀ + λI)⁻¹A): 0 counts as measured whatever A lets through at all; left out, "
        "λ is the noise's variance over the image's, and what the noise drowns counts as not measured.",
        json_schema_extra={"none": "from the noise"},
    )

    def look(
        self,
        x: torch.Tensor,
        y: torch.Tensor,
        operator: LinearOperator,
        noise: Noise | None,
        weights: torch.Tensor | None,
    ) -> Look:
        """Return the map of a result ``(N, C, *n)``. See :meth:`SinglePassMap.look`."""
        around = x - x.mean(dim=tuple(range(2, x.ndim)), keepdim=True)
        ridge = self.ridge
        if ridge is None:
            # not by the residual, as in a projection: of an image that explains its data it is the noise alone
            spread = float(around.square().mean())
            sigma2 = assumed_variance(y, operator, x.shape[2:], noise=noise, weights=weights)
            ridge = sigma2 / spread if spread > 0 else float("inf")
        unseen = around
        if ridge < float("inf"):
            variance = known_variance(noise, y) if ridge > 0 else None
            nothing = torch.zeros_like(y)
            unseen = proximal(around, nothing, operator, ridge, variance=variance, weights=weights)
        energy = float(around.square().sum())
        share = float(unseen.square().sum()) / energy if energy > 0 else 0.0
        words = f"{_percent(share)} % of the image's energy about its mean cannot be verified by the data"
        return Look({"unseen": unseen.abs()}, float(unseen.square().mean()), {"unseen_share": share}, words)


def _percent(share: float) -> str:
    """Return a share in percent, with two digits where they say something."""
    percent = 100 * share
    return f"{percent:.0f}" if percent >= 10 else f"{percent:.2g}"
