"""Intensities on a scale on which photon noise is the same everywhere.

The generalised Anscombe transform and the closed form of its exact unbiased inverse: Mäkitalo and Foi 2013,
Optimal Inversion of the Generalized Anscombe Transformation for Poisson-Gaussian Noise,
doi:10.1109/TIP.2012.2202675.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from napari_fidelity.core.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

_LEAST = 2 * math.sqrt(3 / 8)  # what no light and no read noise come to
_ROOT = math.sqrt(3 / 2)


class Anscombe:
    """The transform for noise of variance ``gain · (p − offset) + sigma²``; afterwards it is 1.

    Parameters
    ----------
    gain
        Intensity units per photon.
    offset
        Intensity without light.
    sigma
        Standard deviation of the read noise, in intensity units.
    """

    def __init__(self, gain: float, offset: float, sigma: float = 0.0) -> None:
        self.gain, self.offset, self.read = gain, offset, (sigma / gain) ** 2

    def __call__(self, y: Tensor) -> Tensor:
        """Return the transformed intensities, of the shape of ``y``."""
        counts = (y - self.offset) / self.gain
        return 2 * torch.sqrt((counts + 3 / 8 + self.read).clamp_min(0))

    def inverse(self, t: Tensor) -> Tensor:
        """Return the mean intensities whose transformed noisy values have the mean ``t``."""
        d = t.clamp_min(_LEAST)
        counts = d**2 / 4 + _ROOT / (4 * d) - 11 / (8 * d**2) + 5 * _ROOT / (8 * d**3) - 1 / 8
        return (counts - self.read) * self.gain + self.offset
