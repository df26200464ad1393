"""Metrics against a reference image: PSNR and SSIM."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_fidelity.core.errors import NonFiniteError, OptionError, ShapeError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

Channels = Literal["rgb", "y", "gray", "each"]

_STUDIO = np.array([65.481, 128.553, 24.966]) / 255  # BT.601 luma from 16 to 235, for a range of 1
_STUDIO_BLACK = 16 / 255
_FULL = np.array([0.299, 0.587, 0.114])  # BT.601 luma from 0 to 1
_SSIM_SIGMA = 1.5
_SSIM_WINDOW = 11  # pixels: scikit-image cuts the Gaussian off at 3.5 σ


def psnr(
    estimate: ArrayLike,
    reference: ArrayLike,
    *,
    data_range: float,
    channels: Channels = "rgb",
    crop: int = 0,
    rounded: bool = False,
) -> float:
    """Peak signal-to-noise ratio, ``20 log10(data_range / RMSE)``, in dB.

    The bicubic rows of super-resolution papers are reproduced by ``channels="y"``, ``crop=scale`` and
    ``rounded=True``.

    Parameters
    ----------
    estimate, reference
        ``(H, W)`` or ``(H, W, C)``, of the same shape and in the same units.
    data_range
        The peak: the difference between the largest and smallest value there could be (255 for uint8).
    channels
        ``"rgb"``: one error over all channels, however many; ``"y"``: of the luma (:func:`rgb_to_y`); ``"gray"``:
        of ``0.299 R + 0.587 G + 0.114 B``; ``"each"``: the mean of :func:`psnr_per_channel`. A gray image is its
        own luma.
    crop
        Pixels to leave out at each border of the first two axes.
    rounded
        Whether both images are first rounded to 8 bits, and cut off at 0 and ``data_range``.

    Returns
    -------
    float
        Infinity for equal images.

    Raises
    ------
    ShapeError
        If the shapes differ, nothing is left after cropping, or luma is asked of neither gray nor RGB.
    NonFiniteError
        If one of the images holds NaN or infinity.
    OptionError
        If ``data_range`` or ``crop`` is impossible.
    """
    if channels == "each":
        values = psnr_per_channel(estimate, reference, data_range=data_range, crop=crop, rounded=rounded)
        return float(np.mean(values))
    a, b = _prepare(estimate, reference, data_range, channels, crop, rounded)
    return _decibels(a, b, data_range)


def psnr_per_channel(
    estimate: ArrayLike, reference: ArrayLike, *, data_range: float, crop: int = 0, rounded: bool = False
) -> tuple[float, ...]:
    """PSNR of every channel for itself, in dB; one value for a gray image. Parameters as for :func:`psnr`."""
    a, b = _prepare(estimate, reference, data_range, "rgb", crop, rounded)
    if a.ndim == 2:
        return (_decibels(a, b, data_range),)
    return tuple(_decibels(a[..., i], b[..., i], data_range) for i in range(a.shape[-1]))


def ssim(
    estimate: ArrayLike,
    reference: ArrayLike,
    *,
    data_range: float,
    channels: Literal["rgb", "y", "gray"] = "rgb",
    crop: int = 0,
    rounded: bool = False,
) -> float:
    """Structural similarity (Wang 2004): scikit-image's, with a Gaussian window of σ = 1.5 (11 × 11 pixels).

    ``use_sample_covariance=False``, K1 = 0.01, K2 = 0.03, as in the paper; colour is the mean of its channels.

    Parameters
    ----------
    estimate, reference, data_range, channels, crop, rounded
        As for :func:`psnr`.

    Returns
    -------
    float
        1 for equal images.

    Raises
    ------
    ShapeError
        As for :func:`psnr`, and if fewer than 11 × 11 pixels are left.

    References
    ----------
    Wang et al. 2004, doi:10.1109/TIP.2003.819861.
    """
    from skimage import metrics

    a, b = _prepare(estimate, reference, data_range, channels, crop, rounded)
    if min(a.shape[:2]) < _SSIM_WINDOW:
        need = f"{_SSIM_WINDOW} × {_SSIM_WINDOW} pixels"
        raise ShapeError(f"SSIM needs at least {need}", found=f"shape {a.shape} after cropping")
    compute: Any = metrics.structural_similarity  # scikit-image has no annotations
    return float(
        compute(
            a,
            b,
            data_range=data_range,
            channel_axis=-1 if a.ndim == 3 else None,
            gaussian_weights=True,
            sigma=_SSIM_SIGMA,
            use_sample_covariance=False,
        )
    )


def rgb_to_y(rgb: ArrayLike, *, data_range: float) -> NDArray[np.float64]:
    """Luma of BT.601 between 16/255 and 235/255 of the range: MATLAB's ``rgb2ycbcr``, not rounded.

    Parameters
    ----------
    rgb
        ``(H, W, 3)``.
    data_range
        The value of white.

    Returns
    -------
    numpy.ndarray
        ``(H, W)``, float64, in the units of ``rgb``.

    Raises
    ------
    ShapeError
        If the last axis is not of length 3.
    """
    array = np.asarray(rgb, np.float64)
    if array.ndim < 1 or array.shape[-1] != 3:
        raise ShapeError("An RGB image (H, W, 3) is needed", found=str(array.shape))
    luma: NDArray[np.float64] = array @ _STUDIO + _STUDIO_BLACK * data_range
    return luma


def _prepare(
    estimate: ArrayLike, reference: ArrayLike, data_range: float, channels: str, crop: int, rounded: bool
) -> tuple[NDArray[Any], NDArray[Any]]:
    if not (math.isfinite(data_range) and data_range > 0):
        raise OptionError("data_range must be a positive number", found=str(data_range))
    if channels not in ("rgb", "y", "gray"):
        raise OptionError("channels must be rgb, y, gray or each", found=repr(channels))
    if crop < 0:
        raise OptionError("crop must be 0 or more pixels", found=str(crop))
    a, b = np.asarray(estimate, np.float64), np.asarray(reference, np.float64)
    if a.shape != b.shape:
        raise ShapeError("The image and its reference differ in shape", found=f"{a.shape} and {b.shape}")
    if a.ndim not in (2, 3):
        raise ShapeError("An image (H, W) or (H, W, C) is needed", found=str(a.shape))
    if min(a.shape[:2]) <= 2 * crop:
        raise ShapeError(f"Cropping {crop} pixels at each border leaves nothing", found=f"shape {a.shape}")
    inner = tuple(slice(crop, n - crop) for n in a.shape[:2])
    a, b = (_converted(image[inner], data_range, channels, rounded) for image in (a, b))
    return a, b


def _converted(image: NDArray[Any], data_range: float, channels: str, rounded: bool) -> NDArray[Any]:
    if not np.isfinite(image).all():
        raise NonFiniteError("A metric needs finite numbers", found=f"{int((~np.isfinite(image)).sum())} others")
    if rounded:
        image = np.rint(np.clip(image / data_range, 0, 1) * 255) * (data_range / 255)
    if image.ndim == 3 and image.shape[-1] == 1:
        image = image[..., 0]
    if channels == "rgb" or image.ndim == 2:
        return image
    if image.shape[-1] != 3:
        raise ShapeError("Luma is defined for gray and RGB images", found=f"{image.shape[-1]} channels")
    if channels == "gray":
        return np.asarray(image @ _FULL)
    return rgb_to_y(image, data_range=data_range)


def _decibels(a: NDArray[Any], b: NDArray[Any], data_range: float) -> float:
    error = math.sqrt(float(np.mean((a - b) ** 2)))
    return math.inf if error == 0 else 20 * math.log10(data_range / error)
