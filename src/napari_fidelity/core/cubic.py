"""The cubic convolution kernel, shared by operators and networks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def cubic(t: NDArray[np.float64], a: float = -0.5) -> NDArray[np.float64]:
    """Return Keys' cubic convolution kernel at the distances ``t``.

    Parameters
    ----------
    t
        Distances in samples.
    a
        Slope at 1: -0.5 is Keys' choice and MATLAB's, -0.75 that of TensorFlow 1 and OpenCV.

    Notes
    -----
    Keys 1981, eq. 15, doi:10.1109/TASSP.1981.1163711.
    """
    t = np.abs(t)
    near = (a + 2) * t**3 - (a + 3) * t**2 + 1
    far = a * (t**3 - 5 * t**2 + 8 * t - 4)
    return np.where(t <= 1, near, np.where(t < 2, far, 0.0))
