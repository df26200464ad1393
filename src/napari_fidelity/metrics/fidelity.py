"""Whether an image accounts for its measurement: is what is left over white, and where is it too large."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from napari_fidelity.core.errors import NonFiniteError, OptionError, ShapeError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

MAX_LAG = 4


@dataclass(frozen=True, slots=True)
class Whiteness:
    """Autocorrelation of a residual beside that of white noise.

    Attributes
    ----------
    autocorrelation
        Of each channel, ``(2k+1, 2k+1, C)`` or ``(2k+1, 2k+1, 2k+1, C)``, 1 in the middle; NaN where no two pixels
        lie that far apart. Along an axis of at most ``k`` pixels there are fewer lags.
    ratios
        For each channel the mean over all lags of the squared autocorrelation, in units of what white noise gives:
        1 for white noise, more where structure is left; NaN for a channel without any.
    p_values
        For each channel, how probable a ratio this large is for white noise.
    """

    autocorrelation: NDArray[np.float64]
    ratios: tuple[float, ...]
    p_values: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """The largest ratio of the channels; NaN where there is none."""
        return max((ratio for ratio in self.ratios if not math.isnan(ratio)), default=math.nan)

    @property
    def p_value(self) -> float:
        """How probable the least white channel is for white noise (Bonferroni); NaN where there is none."""
        known = [p for p in self.p_values if not math.isnan(p)]
        return min(1.0, len(known) * min(known)) if known else math.nan

    @property
    def strongest(self) -> float:
        """The correlation of largest size between a pixel and its neighbours; NaN where there is none."""
        flat = self.autocorrelation.reshape(-1, self.autocorrelation.shape[-1])
        neighbours = np.delete(flat, len(flat) // 2, axis=0).ravel()
        neighbours = neighbours[np.isfinite(neighbours)]
        return float(neighbours[np.abs(neighbours).argmax()]) if neighbours.size else math.nan


def whiteness(residual: ArrayLike, *, lag: int = MAX_LAG, spatial_dims: Literal[2, 3] = 2) -> Whiteness:
    """Test whether a residual is white noise, whose strength may differ from pixel to pixel.

    Portmanteau test: with ``S = Σ r(x) r(x+l)`` and ``V = Σ r²(x) r²(x+l)``, ``S / √V`` is a standard normal
    variable for every lag ``l`` of independent noise of whatever variances (photon noise too), so that the sum of
    its squares over the ``K`` lags of a half plane follows χ² with ``K`` degrees of freedom.

    Parameters
    ----------
    residual
        ``(H, W)`` or ``(H, W, C)``; a volume ``(D, H, W)`` or ``(D, H, W, C)``. NaN marks pixels that were not
        observed. Its mean is taken off.
    lag
        The largest distance along each axis, in pixels.
    spatial_dims
        3 for volumes.

    Returns
    -------
    Whiteness
        NaN for a channel that is constant.

    Raises
    ------
    ShapeError
        If it is no such image, or all its axes have a single pixel.
    NonFiniteError
        If it holds infinity.
    OptionError
        If ``lag`` is not positive.

    References
    ----------
    Box and Pierce 1970, doi:10.1080/01621459.1970.10481180; unequal variances: Lobato, Nankervis and Savin 2001,
    doi:10.1111/1468-2354.00106; of images: Almeida and Figueiredo 2013, doi:10.1109/TIP.2013.2257810.
    """
    if lag < 1:
        raise OptionError("The largest lag must be 1 pixel or more", found=str(lag))
    left = np.array(residual, np.float64)
    if left.ndim not in (spatial_dims, spatial_dims + 1) or left.size == 0:
        raise ShapeError(f"A residual with {spatial_dims} spatial axes is needed", found=f"shape {left.shape}")
    if np.isinf(left).any():
        raise NonFiniteError(
            "A residual needs finite numbers, or NaN where nothing was observed", found="infinity"
        )
    left = left[..., None] if left.ndim == spatial_dims else left
    if max(left.shape[:-1]) < 2:
        raise ShapeError("A single pixel has no neighbours to compare it with", found=f"shape {left.shape[:-1]}")
    tests = [_test(left[..., channel], lag) for channel in range(left.shape[-1])]
    maps, ratios, p_values = zip(*tests, strict=True)
    return Whiteness(np.stack(maps, axis=-1), ratios, p_values)


def _test(channel: NDArray[np.float64], lag: int) -> tuple[NDArray[np.float64], float, float]:
    """Return autocorrelation, ratio and p-value of one channel."""
    from scipy.stats import chi2

    seen = np.isfinite(channel)
    if not seen.any():
        return np.full(_lags(channel.shape, lag), np.nan), math.nan, math.nan
    noise = np.where(seen, channel - channel[seen].mean(), 0.0)
    size = np.abs(noise).max()
    # what a constant leaves after its mean is rounding, not a residual
    if size <= 1e-12 * np.abs(channel[seen]).max():
        return np.full(_lags(channel.shape, lag), np.nan), math.nan, math.nan
    noise /= size
    products, squares = _autocorrelate(noise, lag), _autocorrelate(noise**2, lag)
    pairs = np.rint(_autocorrelate(seen.astype(np.float64), lag))
    middle = products.size // 2
    # the transform leaves rounding where no two pixels take part
    usable = (pairs > 0) & (squares > 1e-12 * squares.ravel()[middle])
    power = products.ravel()[middle] / pairs.ravel()[middle]
    correlation = np.divide(products, pairs * power, out=np.full_like(products, np.nan), where=pairs > 0)
    half = usable.ravel()[:middle]
    if not half.any():
        return correlation, math.nan, math.nan
    statistic = float((products.ravel()[:middle][half] ** 2 / squares.ravel()[:middle][half]).sum())
    count = int(half.sum())
    return correlation, statistic / count, float(chi2.sf(statistic, count))


def _lags(shape: tuple[int, ...], lag: int) -> tuple[int, ...]:
    return tuple(2 * min(lag, n - 1) + 1 for n in shape)


def _autocorrelate(image: NDArray[np.float64], lag: int) -> NDArray[np.float64]:
    """Return ``Σ a(x) a(x+l)`` for all lags up to the largest, 0 in the middle; nothing is wrapped around."""
    from scipy import fft

    axes = tuple(range(image.ndim))
    reach = [min(lag, n - 1) for n in image.shape]
    size = [fft.next_fast_len(n + r, real=True) for n, r in zip(image.shape, reach, strict=True)]
    power = np.abs(fft.rfftn(image, size, axes=axes)) ** 2
    sums: NDArray[np.float64] = fft.irfftn(power, size, axes=axes)
    sums = np.roll(sums, reach, axis=axes)
    return sums[tuple(slice(0, 2 * r + 1) for r in reach)]


@dataclass(frozen=True, slots=True)
class Squirrel:
    """How a measurement differs from what an image predicts of it, gain and offset fitted.

    Attributes
    ----------
    gain, offset
        ``measurement ≈ gain · prediction + offset``, by least squares.
    map
        Absolute difference, of the measurement's shape and in its units; NaN where it was not observed.
    rse
        Resolution-scaled error: root mean square of the difference, in the measurement's units.
    rsp
        Resolution-scaled Pearson coefficient, -1 … 1; NaN where one of the two images is constant.
    """

    gain: float
    offset: float
    map: NDArray[np.float64]
    rse: float
    rsp: float


def squirrel(prediction: ArrayLike, measurement: ArrayLike) -> Squirrel:
    """Compare what an image predicts of a measurement with the measurement.

    Parameters
    ----------
    prediction
        ``A x̂``: the image seen through its formation model, of any shape. Gain and offset are the same for all of
        it, channels included; a constant one has the gain 0.
    measurement
        Of the same shape; NaN marks pixels that were not observed.

    Raises
    ------
    ShapeError
        If the shapes differ, the images are empty or nothing was observed.
    NonFiniteError
        If the prediction holds NaN, or one of both infinity.

    References
    ----------
    Culley et al. 2018, doi:10.1038/nmeth.4605.
    """
    seen, data = np.asarray(prediction, np.float64), np.asarray(measurement, np.float64)
    if seen.shape != data.shape or seen.size == 0:
        raise ShapeError(
            "The measurement and what an image predicts of it must have one shape, which is not empty",
            found=f"{data.shape} and {seen.shape}",
        )
    if not np.isfinite(seen).all() or np.isinf(data).any():
        raise NonFiniteError("An error map needs finite numbers, or NaN in the measurement where none was made")
    observed = np.isfinite(data)
    if not observed.any():
        raise ShapeError("Nothing of the measurement was observed", found="NaN throughout", do="Check the mask")
    a, b = seen[observed], data[observed]
    deviation, around = a - a.mean(), b - b.mean()
    energy, product, other = (float(v) for v in (deviation @ deviation, deviation @ around, around @ around))
    varies = energy > (1e-12 * np.abs(a).max()) ** 2 * a.size
    gain = product / energy if varies else 0.0
    offset = float(b.mean() - gain * a.mean())
    left = np.abs(data - (gain * seen + offset))
    defined = varies and other > (1e-12 * np.abs(b).max()) ** 2 * b.size
    rsp = float(np.clip(product / math.sqrt(energy * other), -1, 1)) if defined else math.nan
    return Squirrel(float(gain), offset, left, math.sqrt(float(np.mean(left[observed] ** 2))), rsp)
