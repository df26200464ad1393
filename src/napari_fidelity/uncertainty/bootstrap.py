"""The equivariant bootstrap: how far the method would be off if its own result were the truth.

Tachella and Pereyra 2024, "Equivariant Bootstrapping for Uncertainty Quantification in Imaging Inverse Problems",
AISTATS, arXiv:2310.11838.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from napari_fidelity.uncertainty.base import Output
from napari_fidelity.uncertainty.deviation import INTERVALS, DeviationMap

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch

    from napari_fidelity.methods.base import LinearOperator, Network, Steps
    from napari_fidelity.operators.noise import Noise
    from napari_fidelity.stopping.rules import StoppingRule


class Bootstrap(DeviationMap):
    """Parametric bootstrap over transformed images, for any method and any image formation model.

    The result ``x̂`` plays the truth. For each sample it is transformed by a random flip, turn and shift ``T``,
    measured with new noise, ``ỹ = A T x̂ + n``, and restored by the method; the error is ``e = T⁻¹ x̂(ỹ) − x̂``.
    ``std`` is the root mean square of ``e``, ``bias`` its mean and ``mean`` the mean of the restored images. The
    transforms move the image against what ``A`` does not see: without them, a bootstrap knows nothing of errors
    there. What ``x̂`` lost for good, such as texture that it does not have, no bootstrap from it can show.

    Pixels that a shift moved out of the image are left out of the means. Scores: ``mean_std`` and those of
    :class:`DeviationMap`.
    """

    kind: Literal["bootstrap"] = "bootstrap"
    title: ClassVar[str] = "Bootstrap"
    outputs: ClassVar[Mapping[str, Output]] = {
        "std": Output("Root mean square error in the bootstrap"),
        "bias": Output("Mean error in the bootstrap", signed=True),
        "mean": Output("Mean of the bootstrapped results", "intensity"),
        **INTERVALS,
    }
    samples: int = Field(50, ge=1, le=100_000, description="Measurements that are drawn and restored.")
    transforms: Literal["auto", "shifts", "flips", "rotations", "none"] = Field(
        "auto",
        description="How the image is moved before it is measured again: shifts by whole pixels that are no "
        "multiple of the scale, flips, half and (of square images) quarter turns, all of these (auto), or not at "
        "all.",
    )
    fast: bool = Field(
        True,
        description="Of fine-tuning: restore the samples with the network as it was tuned on the measurement, "
        "averaged over views and projected, instead of tuning it again on each of them.",
    )

    def steps(
        self,
        y: torch.Tensor,
        operator: LinearOperator,
        model: Network | None = None,
        *,
        noise: Noise | None = None,
        stop: StoppingRule | None = None,
        weights: torch.Tensor | None = None,
        rng: int | torch.Generator = 0,
    ) -> Steps:
        """Draw and restore ``samples`` measurements. See :meth:`Method.steps`; ``stop`` is the method's.

        The noise of unknown strength is drawn at the level that the measurement shows.
        """
        from napari_fidelity.uncertainty._bootstrap_run import Run

        run = Run(self, y, operator, model, noise=noise, stop=stop, weights=weights, rng=rng)
        return (yield from run.steps())
