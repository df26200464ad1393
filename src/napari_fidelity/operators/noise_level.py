"""The noise of a measurement, found from the measurement itself. NumPy only.

Small patches are put through a discrete cosine transform. Those whose low frequencies hold least show next to
nothing of the scene, and what is left in their high frequencies is noise; as the one does not depend on the
other for white noise, choosing patches by it does not bias the level (Ponomarenko, Lukin, Zriakhov, Kaarna and
Astola 2007, doi:10.1109/IGARSS.2007.4422833; Colom and Buades 2013, doi:10.5201/ipol.2013.45). The level is the
median absolute deviation of those high frequencies (Donoho 1995, doi:10.1109/18.382009). For photon noise it is
found for patches of like brightness, and a line is fitted to variance against brightness (Foi, Trimeche,
Katkovnik and Egiazarian 2008, doi:10.1109/TIP.2008.2001399).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_fidelity.core.errors import ImageError
from napari_fidelity.operators.noise import GaussianNoise, PoissonGaussianNoise, PoissonNoise

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_fidelity.operators.noise import Noise

    Numbers = NDArray[np.float64]

Kind = Literal["gaussian", "poisson", "poisson_gaussian"]

_SIDE = 8  # px, of a patch
_HIGH = 9  # sum of the two frequency indices from which on a coefficient counts as high, as published
_SHARE = 0.05  # of the patches of one brightness that are always used
_FEWEST_USED = 64  # patches, however small the share is
_FEWEST_PATCHES = 256
_MOST_PATCHES = 100_000  # taken evenly from larger images
_LEVELS = 16  # of brightness, for photon noise
_SPREAD = 2.0  # deviations from what noise alone would give, up to which a patch counts as flat
_MAD = 0.6744897501960817  # median absolute deviation of a standard normal variable
_MOST_CLIPPED = 0.1  # share of a patch's pixels; above it the patch shows a saturated object
_CLIPPED_SHARE = 0.02  # of the pixels of like brightness; above it the noise itself is cut off
_FEWEST_PILED = 4  # equal pixels at an end of the range that make it look clipped
_SIGNIFICANT = 3.0  # standard errors


@dataclass(frozen=True)
class _Patches:
    """Patches of one channel, one per row, with the share of saturated pixels of each."""

    values: Numbers
    clipped: Numbers


def estimate_noise(image: NDArray[Any], kind: Kind = "gaussian") -> Noise:
    """Estimate the noise of an image, in its own intensity units.

    It must be independent from pixel to pixel: noise that a camera's software has smoothed, or JPEG has altered,
    is underestimated. Texture as fine as the pixels that fills the image cannot be told from noise.

    Parameters
    ----------
    image
        ``(H, W)`` or ``(H, W, C)``, any real dtype, at least about 24 px a side. Saturated pixels (many equal ones
        at the end of the range) and NaN are left out. Channels are looked at one by one and put together.
    kind
        ``"gaussian"``: one level. ``"poisson"``: gain and offset. ``"poisson_gaussian"``: gain with an offset or a
        read noise. The data show only ``sigma² − gain · offset``, and the likelihood depends on nothing else;
        a positive one is given as read noise, a negative one as offset, an insignificant one as neither.

    Returns
    -------
    Noise
        A Gaussian level is good to 5 %, a gain to 10 %, in 256 × 256 px with some smooth places; for a gain
        together with an offset also a good range of brightness is needed.

    Raises
    ------
    ImageError
        If the image is flat, too small, saturated, or shows no noise of this kind.
    """
    channels = _channels(image)
    patches = [_patches(channel, dark_end=kind != "poisson") for channel in channels]
    if kind == "gaussian":
        variances = [_levels(part, together=True)[1] for part in patches]
        return GaussianNoise(sigma=float(np.sqrt(np.mean(variances))))
    levels = np.concatenate([_levels(part) for part in patches], axis=1)
    gain, constant = _line(levels)
    if constant > 0 and kind == "poisson_gaussian":
        return PoissonGaussianNoise(gain=gain, sigma=float(np.sqrt(constant)))
    offset = -constant / gain if constant else 0.0
    if kind == "poisson":
        return PoissonNoise(gain=gain, offset=offset)
    return PoissonGaussianNoise(gain=gain, offset=offset, sigma=0.0)


def _channels(image: NDArray[Any]) -> list[NDArray[Any]]:
    image = np.asarray(image)
    if image.ndim not in (2, 3) or image.dtype.kind not in "fiub" or image.size == 0:
        raise ImageError(
            "Noise is estimated from an image (H, W) or (H, W, C) of real numbers",
            found=f"shape {image.shape}, {image.dtype}",
        )
    return [image] if image.ndim == 2 else [image[..., c] for c in range(image.shape[2])]


def _patches(channel: NDArray[Any], *, dark_end: bool) -> _Patches:
    """Cut a channel into patches, overlapping as far as their number allows."""
    too_small = ImageError(
        "The image is too small to estimate its noise",
        found=f"{channel.shape[0]} × {channel.shape[1]} px",
        do="Use at least 32 × 32 px, or type the noise level in",
    )
    if min(channel.shape) < _SIDE:
        raise too_small
    windows = np.lib.stride_tricks.sliding_window_view(channel, (_SIDE, _SIDE))
    step = int(np.ceil(np.sqrt(windows.shape[0] * windows.shape[1] / _MOST_PATCHES)))
    values = windows[::step, ::step].reshape(-1, _SIDE**2).astype(np.float64)
    if len(values) < _FEWEST_PATCHES:
        raise too_small
    clipped = np.isin(values, clipped_ends(channel, dark_end=dark_end)).mean(axis=1)
    usable = np.isfinite(values).all(axis=1) & (clipped <= _MOST_CLIPPED)
    return _Patches(values[usable], clipped[usable])


def clipped_ends(channel: NDArray[Any], *, dark_end: bool) -> list[float]:
    """Return the ends of the intensity range at which values pile up.

    Noise makes extreme values rare; several equal ones, more than of the next value, come from clipping. At the
    dark end photon counts pile up of themselves, at zero.
    """
    finite = channel[np.isfinite(channel)]
    if finite.size == 0 or finite.min() == finite.max():
        raise ImageError("The image is flat: there is no noise to estimate", do="Choose another slice or layer")
    ends = []
    for end, inner in ((finite.max(), np.max), (finite.min(), np.min)):
        if inner is np.min and not dark_end:
            continue
        piled = int((finite == end).sum())
        following = inner(finite[finite != end])
        if piled >= _FEWEST_PILED and piled > int((finite == following).sum()):
            ends.append(float(end))
    return ends


def _levels(patches: _Patches, *, together: bool = False) -> Numbers:
    """Return mean, noise variance and number of patches used, ``(3, L)``, for each level of brightness.

    Levels at which the noise itself is clipped are left out; ``together`` makes one of the others.
    """
    count = max(1, min(_LEVELS, len(patches.values) // _FEWEST_PATCHES))
    parts = np.array_split(np.argsort(patches.values.mean(axis=1)), count)
    clean = [p for p in parts if len(p) >= _FEWEST_USED and patches.clipped[p].mean() <= _CLIPPED_SHARE]
    if not clean:
        raise ImageError(
            "No part of the image is free of saturated or missing pixels, so that its noise cannot be seen",
            do="Choose another slice or layer, or type the noise level in",
        )
    if together:
        clean = [np.concatenate(clean)]
    return np.array([_level(patches.values[part]) for part in clean]).T


def _level(values: Numbers) -> tuple[float, float, int]:
    """Return mean, noise variance and number of the flat patches among some of like brightness."""
    low, high = _cosines()
    energy = np.square(values @ low).sum(axis=1)
    order = np.argsort(energy)
    expected = low.shape[1] * (1 + _SPREAD * np.sqrt(2 / low.shape[1]))  # of noise of variance 1
    used = min(len(values), max(_FEWEST_USED, round(_SHARE * len(values))))
    while True:
        details = values[order[:used]] @ high
        variance = float(np.median(np.abs(details)) / _MAD) ** 2
        flat = int(np.searchsorted(energy[order], variance * expected))
        if flat <= used:  # only ever more: the first ones are the safest
            break
        used = flat
    return float(values[order[:used]].mean()), variance, used


def _cosines() -> tuple[Numbers, Numbers]:
    """Return the low (without the mean) and the high frequencies of the orthonormal 2-D DCT, ``(64, k)`` each."""
    n = np.arange(_SIDE)
    one = np.sqrt(2 / _SIDE) * np.cos(np.pi * n[:, None] * (2 * n + 1) / (2 * _SIDE))
    one[0] /= np.sqrt(2)
    both = np.kron(one, one)
    frequency = np.add.outer(n, n).ravel()
    return both[(frequency > 0) & (frequency < _HIGH)].T, both[frequency >= _HIGH].T


def _line(levels: Numbers) -> tuple[float, float]:
    """Return gain and constant of ``variance = gain · mean + constant``; the constant is 0 if not significant."""
    levels = levels[:, levels[1] > 0]
    no_photons = ImageError(
        "The noise does not grow with the brightness, as photon noise does", do="Choose Gaussian noise instead"
    )
    if levels.shape[1] == 0:
        raise ImageError("The image shows no noise at all", do="Choose no noise")
    mean, variance, used = levels
    if len(mean) >= 4:
        (gain, constant), errors = _fit(np.stack([mean, np.ones_like(mean)], 1), variance, used)
        if abs(constant) > _SIGNIFICANT * errors[1]:
            if gain > _SIGNIFICANT * errors[0]:
                return float(gain), float(constant)
            if constant > 0:
                raise no_photons
    (gain,), _ = _fit(mean[:, None], variance, used)
    if not gain > 0:
        raise no_photons
    return float(gain), 0.0


def _fit(columns: Numbers, variance: Numbers, used: Numbers) -> tuple[Numbers, Numbers]:
    """Fit a line by iteratively reweighted least squares; return its coefficients and their standard errors."""
    expected = variance
    trust = np.ones_like(variance)
    for _ in range(20):
        weights = trust * used / expected**2  # the error of a variance is proportional to it
        normal = columns.T @ (weights[:, None] * columns)
        line = np.linalg.pinv(normal) @ (columns.T @ (weights * variance))
        expected = np.maximum(columns @ line, 0.05 * np.median(variance))
        error = (variance - columns @ line) / expected * np.sqrt(used)
        scale = max(float(np.median(np.abs(error))) / _MAD, 1e-9)
        far = error / (1.5 * scale)
        # texture only ever adds to a variance: what lies above the line counts less
        trust = np.where(far > 0, 1 / (1 + far**2), 1 / np.maximum(1, -far))
    return line, scale * np.sqrt(np.diag(np.linalg.pinv(normal)))
