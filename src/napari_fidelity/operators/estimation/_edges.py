"""The sharpest edges of an image, and how fast each of them fades when the image is blurred a little more.

A step edge seen through a blur of standard deviation ``σ`` (across the edge) has a gradient ``∝ 1/√(σ² + s²)``
at its middle once it is blurred by a Gaussian ``s`` more. The ratio of two such gradients tells ``σ`` whatever the
height of the step (Zhuo and Sim 2011, doi:10.1016/j.patcog.2011.03.009); edges in all directions tell an
anisotropic blur (the idea of Polyblur: Delbracio, Garcia-Dorado, Choi, Kelly and Milanfar 2021,
doi:10.1109/TCI.2021.3100998).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Numbers = NDArray[np.float64]

_FINE = 2  # samples per pixel along each axis at which the middle of an edge is looked for
_SIGNIFICANT = 6.0  # noise deviations that the gradient of an edge must exceed
_STRONGEST = 0.1  # share of the edges of one direction that are used: the strong ones are steps most often …
_NEARLY = 0.7  # … and all that are nearly as strong, among which noise would choose else
_SECTORS = 12  # of directions
_FEEBLE = 0.1  # of the strongest direction's limit: edges below count as texture in every direction
_CREST = 1e-4  # relative height above what lies half a pixel beside


@dataclass(frozen=True)
class Edges:
    """Edges of one image, ``N`` of them.

    Attributes
    ----------
    normal
        ``(2, N)``: unit vectors (y, x) across the edges.
    contrast
        ``(N,)``: gradient at the wider smoothing, in deviations of the noise there.
    weight
        ``(N,)``: contrast beside that of other edges of like direction.
    ratio
        ``(N,)``: gradient at the wider smoothing over that at the narrower one, below 1 for edges.
    place
        ``(2, N)``: rows and columns, in pixels.
    smoothing
        The two standard deviations in pixels.
    """

    normal: Numbers
    contrast: Numbers
    weight: Numbers
    ratio: Numbers
    place: Numbers
    smoothing: tuple[float, float]

    def __len__(self) -> int:
        return len(self.contrast)

    def only(self, chosen: NDArray[np.bool_]) -> Edges:
        """Return some of the edges."""
        return Edges(
            self.normal[:, chosen],
            self.contrast[chosen],
            self.weight[chosen],
            self.ratio[chosen],
            self.place[:, chosen],
            self.smoothing,
        )

    def variances(self) -> Numbers:
        """Return the squared widths ``σ²`` of the edges, in px², as if the blur were Gaussian."""
        s, t = (value**2 for value in self.smoothing)
        squared = np.clip(self.ratio, 1e-3, 0.999) ** 2
        return (t * squared - s) / (1 - squared)


def find_edges(image: Numbers, usable: NDArray[np.bool_], noise: Numbers, smoothing: tuple[float, float]) -> Edges:
    """Return the strongest edges of an image, in every direction.

    Parameters
    ----------
    image
        ``(H, W)``.
    usable
        ``(H, W)``: pixels whose values are as recorded, not saturated.
    noise
        ``(H, W)``: standard deviation of the noise at each pixel.
    smoothing
        The two standard deviations, in pixels, the smaller one first.
    """
    narrow, wide = smoothing
    # the wider gradient tells where an edge is: at the crest of the narrower one noise would have steepened it
    gradient = np.stack(_gradient(image, wide))
    steepness = np.hypot(*gradient)
    normal = gradient / np.maximum(steepness, 1e-30)
    # noise in a derivative of a Gaussian: Canny 1986, doi:10.1109/TPAMI.1986.4767851
    unit = np.maximum(_on_fine_grid(noise) / (math.sqrt(8 * math.pi) * wide**2), 1e-9 * float(np.ptp(image)))
    crest = _is_crest(steepness, normal) & _far_from(~usable, wide)
    at = np.nonzero(crest & (steepness > _SIGNIFICANT * unit))
    contrast, across = steepness[at], normal[:, *at]
    finer = (np.stack([part[at] for part in _gradient(image, narrow)]) * across).sum(axis=0)
    weight = _beside_alike(across, contrast)
    found = Edges(
        across,
        contrast / unit[at],
        weight,
        contrast / np.maximum(finer, 1e-30),
        np.stack(at) / _FINE,
        smoothing,
    )
    return found.only((weight >= 1) & (finer > 0))


def _beside_alike(normal: Numbers, contrast: Numbers) -> Numbers:
    """Return contrasts in units of the least one that counts among edges of like direction.

    A blur that is narrow in one direction leaves edges across it steeper than others: these must not be all there
    is.
    """
    if contrast.size == 0:
        return contrast
    sector = (np.arctan2(normal[0], normal[1]) % np.pi / np.pi * _SECTORS).astype(int) % _SECTORS
    limits = np.array(
        [np.quantile(contrast[sector == i], 1 - _STRONGEST) if (sector == i).any() else 0 for i in range(_SECTORS)]
    )
    limits = _NEARLY * np.maximum(limits, _FEEBLE * limits.max())
    return np.asarray(contrast / np.maximum(limits[sector], 1e-30))


def _gradient(image: Numbers, smoothing: float) -> tuple[Numbers, Numbers]:
    """Return the derivatives along y and x of the image blurred by a Gaussian, on the finer grid.

    In the Fourier domain, where they are exact: at such small widths sampled derivatives of Gaussians are not. The
    image goes on mirrored.
    """
    smooth = [_filtered(image, axis, smoothing, derivative=False) for axis in (0, 1)]
    return (
        _filtered(smooth[1], 0, smoothing, derivative=True),
        _filtered(smooth[0], 1, smoothing, derivative=True),
    )


def _filtered(image: Numbers, axis: int, smoothing: float, *, derivative: bool) -> Numbers:
    n = image.shape[axis]
    whole = np.concatenate([image, np.flip(image, axis)], axis)
    f = np.fft.rfftfreq(2 * n)
    response = np.exp(-2 * (np.pi * smoothing * f) ** 2) * (2j * np.pi * f if derivative else 1)
    response = response.reshape([-1 if a == axis else 1 for a in (0, 1)])
    fine = np.fft.irfft(np.fft.rfft(whole, axis=axis) * response, n=2 * n * _FINE, axis=axis) * _FINE
    return np.asarray(np.take(fine, np.arange(n * _FINE), axis=axis))


def _is_crest(steepness: Numbers, normal: Numbers) -> NDArray[np.bool_]:
    """Tell where the gradient is the largest one across the edge."""
    from scipy.ndimage import map_coordinates

    places = np.indices(steepness.shape, dtype=np.float64)
    ahead, behind = (
        map_coordinates(steepness, places + sign * normal, order=1, mode="nearest") for sign in (1, -1)
    )
    return np.asarray((steepness >= ahead) & (steepness > (1 + _CREST) * behind))


def _far_from(bad: NDArray[np.bool_], smoothing: float) -> NDArray[np.bool_]:
    """Tell where neither a border nor a bad pixel is near, on the finer grid."""
    from scipy.ndimage import binary_erosion

    away = math.ceil(2 * smoothing) + 1
    kept = binary_erosion(~bad, np.ones((2 * away + 1, 2 * away + 1)), border_value=0)
    return _on_fine_grid(kept)


def _on_fine_grid(values: NDArray[Any]) -> NDArray[Any]:
    return np.repeat(np.repeat(values, _FINE, axis=0), _FINE, axis=1)
