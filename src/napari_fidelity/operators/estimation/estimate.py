"""The blur of an image, found from the image itself."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from napari_fidelity.core.errors import ImageError, NonFiniteError, OptionError
from napari_fidelity.operators import psf
from napari_fidelity.operators.blur import AiryBlur, Blur, GaussianBlur
from napari_fidelity.operators.compose import Compose
from napari_fidelity.operators.estimation._families import Airy, Defocus, Gaussian
from napari_fidelity.operators.estimation._spots import fit_to_spots
from napari_fidelity.operators.estimation.base import PSFEstimate, PSFKind, correlation
from napari_fidelity.operators.estimation.free_form import fit_free_form
from napari_fidelity.operators.estimation.parametric import fit_to_edges
from napari_fidelity.operators.noise import GaussianNoise
from napari_fidelity.operators.noise_level import clipped_ends, estimate_noise
from napari_fidelity.operators.resample import Downsample

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_fidelity.operators.base import Operator
    from napari_fidelity.operators.estimation._families import Family
    from napari_fidelity.operators.estimation.parametric import Fit

    Numbers = NDArray[np.float64]
    Pair = tuple[float, float]

Source = Literal["auto", "edges", "spots"]

_SMALLEST = 32  # px, a side of the measurement
_LARGEST = 1024  # px: of larger images the middle is used, as published for the free-form kernel
_SMOOTHING = 2.0  # px, for the brightness that photon noise follows
_POINT = 1.1  # px: a full width that cannot be told from none
_ALIKE = 0.998  # correlation of kernels that are one and the same
_NO_BLUR = (
    "No blur wider than a pixel shows; compression and noise that is not as recorded can look like that, too."
)
_WIDER = 1.25  # than theory, from which on a measured width is remarked


def estimate_psf(
    image: NDArray[Any],
    kind: PSFKind = "gaussian",
    scale: float | Pair = 1.0,
    noise: float | None = None,
    *,
    source: Source = "auto",
    wavelength: float | None = None,
    numerical_aperture: float | None = None,
    pixel_size: float | Pair | None = None,
) -> PSFEstimate:
    """Estimate the blur of an image that was blurred, then perhaps sampled more coarsely.

    Parameters
    ----------
    image
        The measurement: ``(H, W)`` or ``(H, W, C)``, whose channels are averaged; any real dtype. Of sides above
        1024 px the middle is used.
    kind
        ``"gaussian"`` of any two widths and orientation, ``"airy"`` (diffraction in focus), ``"defocus"`` (a
        disc), or ``"free"``: any shape (Kotera, Šroubek and Milanfar 2013). What is known to be one of
        the first three is found far better that way.
    scale
        Pixels of the restored image per pixel of the measurement, one number or (y, x), at least 1.
    noise
        Standard deviation of the noise in the image's intensity units; estimated if left out.
    source
        What a blur with parameters is fitted to: the ``"edges"`` of the scene, isolated ``"spots"`` (beads), or
        ``"auto"``: spots where the image consists of such.
    wavelength
        Emission wavelength in nm, for ``"airy"``.
    numerical_aperture
        Of the objective, for ``"airy"``. With wavelength and pixel size the pattern is calculated, and the data
        only tell whether it can be true; without it the aperture is found from the data.
    pixel_size
        Of the measurement in the sample plane in nm, one number or (y, x); gives widths in nm.

    Returns
    -------
    PSFEstimate
        The blur with its operator, kernel, widths, and how far it can be trusted.

    Raises
    ------
    ImageError
        If the image is flat or too small, is no image, shows too few edges, or no spots where those are asked for.
    NonFiniteError
        If it holds NaN or infinity.
    OptionError
        If an option is impossible.
    """
    scales, pixels = _checked(kind, source, scale, noise, pixel_size)
    whole = _gray(image)
    plane = whole[_middle(whole.shape)]
    usable = ~np.isin(plane, clipped_ends(plane, dark_end=False))
    known = GaussianNoise(sigma=noise) if noise is not None else _noise(image)
    low, span = float(plane.min()), float(np.ptp(plane))
    scaled = (plane - low) / span
    fine = None if pixels is None else (pixels[0] / scales[0], pixels[1] / scales[1])
    blur: Operator
    common: dict[str, Any] = {"kind": kind, "noise": known, "pixel_size": fine}
    if kind == "free":
        free = fit_free_form(scaled, scales)
        blur = Blur(kernel=free.kernel.astype(np.float32))
        return _estimate(blur, scales, parameters={}, score=free.score, count=0, source="pixels", **common)
    level = np.full(plane.shape, noise) / span if noise is not None else _noise_map(scaled)
    fit = _fit(scaled, usable, level, _family(kind), scales, source)
    if kind == "airy":
        blur, parameters, remarks, theory = _airy(fit, wavelength, numerical_aperture, fine)
    else:
        blur, parameters, theory = _blur(fit), fit.family.describe(fit.parameters), False
        remarks = (*fit.remarks, _NO_BLUR) if max(psf.fwhm(kernel_of(blur))) < _POINT else fit.remarks
    return _estimate(
        blur,
        scales,
        parameters=parameters,
        score=math.nan if theory else _score(fit),
        count=fit.count,
        source="optics" if theory else "spots" if fit.spots else "edges",
        remarks=remarks,
        **common,
    )


def _estimate(blur: Operator, scale: Pair, **fields: Any) -> PSFEstimate:
    down = Downsample(scale=scale[0] if scale[0] == scale[1] else scale)
    operator = blur if scale == (1.0, 1.0) else Compose(operators=(blur, down))
    return PSFEstimate(blur=blur, operator=operator, kernel=kernel_of(blur), **fields)


def kernel_of(blur: Operator) -> Numbers:
    """Return the 2-D kernel of a blur that an estimate may hold."""
    if isinstance(blur, GaussianBlur):
        sigma = blur.sigma if isinstance(blur.sigma, tuple) else (blur.sigma, blur.sigma)
        return np.outer(*(psf.gaussian_weights(s) for s in sigma))
    return blur.kernel_array(2)  # type: ignore[attr-defined, no-any-return]


# -- the image --------------------------------------------------------------------------------------------------


def _gray(image: NDArray[Any]) -> Numbers:
    image = np.asarray(image)
    if image.ndim not in (2, 3) or image.dtype.kind not in "fiub" or image.size == 0:
        raise ImageError(
            "A blur is estimated from an image (H, W) or (H, W, C) of real numbers",
            found=f"shape {image.shape}, {image.dtype}",
        )
    if min(image.shape[:2]) < _SMALLEST:
        raise ImageError(
            "The image is too small to estimate its blur",
            found=f"{image.shape[0]} × {image.shape[1]} px",
            do=f"Use at least {_SMALLEST} × {_SMALLEST} px",
        )
    gray = image.astype(np.float64) if image.ndim == 2 else image.astype(np.float64).mean(axis=2)
    if not np.isfinite(gray).all():
        raise NonFiniteError(
            "The image has NaN or infinite pixels",
            found=f"{int((~np.isfinite(gray)).sum())} of {gray.size}",
            do="Cut out a part without them",
        )
    if gray.min() == gray.max():
        raise ImageError("The image is flat: no blur can be seen", do="Choose another slice or layer")
    return gray


def _middle(shape: tuple[int, ...]) -> tuple[slice, ...]:
    starts = [max(0, (n - _LARGEST) // 2) for n in shape]
    return tuple(slice(start, start + _LARGEST) for start in starts)


def _noise(image: NDArray[Any]) -> GaussianNoise:
    """Return the noise level; none where the image is too small or saturated to tell."""
    try:
        return estimate_noise(image)  # type: ignore[return-value]
    except ImageError:
        return GaussianNoise(sigma=0.0)


def _noise_map(plane: Numbers) -> Numbers:
    """Return the noise level at each pixel: that of a camera where it grows with the brightness."""
    from scipy.ndimage import gaussian_filter

    try:
        camera: Any = estimate_noise(plane, "poisson_gaussian")
    except ImageError:
        return np.full(plane.shape, _noise(plane).sigma)
    photons = np.maximum(gaussian_filter(plane, _SMOOTHING) - camera.offset, 0)
    return np.asarray(np.sqrt(camera.gain * photons + camera.sigma**2))


# -- the blur ---------------------------------------------------------------------------------------------------


def _family(kind: PSFKind) -> Family:
    return Airy() if kind == "airy" else Defocus() if kind == "defocus" else Gaussian()


def _fit(
    image: Numbers, usable: NDArray[np.bool_], noise: Numbers, family: Family, scale: Pair, source: Source
) -> Fit:
    spots = None if source == "edges" else fit_to_spots(image, usable, noise, family, scale)
    if spots is None and source == "spots":
        raise ImageError(
            "The image does not consist of isolated spots",
            do="Choose an image of beads further apart than they are wide, or let the edges be used",
        )
    return fit_to_edges(image, usable, noise, family, scale) if spots is None else spots


def _score(fit: Fit) -> float:
    """Return how well the kernels of random halves agree with each other."""
    kernels = [fit.family.kernel(parameters) for parameters in fit.halves]
    pairs = [correlation(a, b) for a, b in pairwise(kernels)]
    return float(np.mean(pairs)) if pairs else math.nan


def _blur(fit: Fit) -> Operator:
    """Return the operator of a Gaussian or a disc: one with closed forms where the axes are those of the image."""
    kernel = fit.family.kernel(fit.parameters)
    if isinstance(fit.family, Gaussian):
        covariance = fit.family.covariance(fit.parameters)
        y, x = (round(math.sqrt(covariance[axis, axis]), 3) for axis in (0, 1))
        for sigma in (round((y + x) / 2, 3), (y, x)):
            plain = GaussianBlur(sigma=sigma)
            if correlation(kernel_of(plain), kernel) > _ALIKE:
                return plain
    return Blur(kernel=kernel.astype(np.float32))


def _airy(
    fit: Fit, wavelength: float | None, aperture: float | None, pixel: Pair | None
) -> tuple[Operator, dict[str, float], tuple[str, ...], bool]:
    """Return the operator, its parameters, remarks, and whether it follows from the optics alone."""
    found = fit.family.describe(fit.parameters)
    width = found["wavelength_over_aperture"]
    if wavelength is None or pixel is None:
        kernel = fit.family.kernel(fit.parameters)
        remark = "With wavelength and pixel size the numerical aperture would be known, too."
        return Blur(kernel=kernel.astype(np.float32)), found, (*fit.remarks, remark), False
    if abs(pixel[0] - pixel[1]) > 0.01 * pixel[1]:
        raise OptionError(
            "The diffraction pattern is drawn for square pixels",
            found=f"{pixel[0]:.4g} × {pixel[1]:.4g} nm",
            do="Estimate a Gaussian instead",
        )
    measured = wavelength / (width * pixel[1])
    optics = {"wavelength": wavelength, "pixel_size": pixel[1]}
    if aperture is None:
        aperture = float(f"{measured:.4g}")
        blur = AiryBlur(**optics, numerical_aperture=_possible(aperture, pixel))
        return blur, {"numerical_aperture": aperture}, fit.remarks, False
    blur = AiryBlur(**optics, numerical_aperture=aperture)
    remarks = fit.remarks
    if aperture / measured > _WIDER:
        wider = (
            f"The data look {aperture / measured:.2g} times as wide as diffraction alone would be: a scene "
            "without sharp structures, or aberrations, defocus or scattering. A Gaussian would follow the data."
        )
        remarks = (*remarks, wider)
    return blur, {"numerical_aperture": aperture, "measured_aperture": measured}, remarks, True


def _possible(aperture: float, pixel: Pair) -> float:
    if not 0.02 <= aperture <= 1.7:
        raise OptionError(
            "The width found belongs to no objective",
            found=f"a numerical aperture of {aperture:.3g} with pixels of {pixel[1]:.4g} nm",
            do="Check wavelength and pixel size (both in nm), or estimate a Gaussian",
        )
    return aperture


def _checked(kind: str, source: str, scale: Any, noise: float | None, pixel_size: Any) -> tuple[Pair, Pair | None]:
    """Return scale and pixel size along y and x.

    Raises
    ------
    OptionError
        If an option is impossible.
    """
    for name, value, among in (("kind", kind, get_args(PSFKind)), ("source", source, get_args(Source))):
        if value not in among:
            raise OptionError(f"There is no {name} '{value}'", do=f"Choose one of {', '.join(among)}")
    scales = _pair("scale", scale, 1.0)
    pixels = None if pixel_size is None else _pair("pixel_size", pixel_size, 1e-3)
    if noise is not None and not (math.isfinite(noise) and noise >= 0):
        raise OptionError("The noise level is a number of at least 0", found=str(noise))
    return scales, pixels


def _pair(name: str, value: Any, least: float) -> Pair:
    values = np.asarray(value, np.float64).ravel()
    if values.size not in (1, 2) or not np.isfinite(values).all() or values.min() < least:
        raise OptionError(f"'{name}' is one number, or one for y and one for x", found=str(value))
    return float(values[0]), float(values[-1])
