"""``estimate-psf``: the blur and the noise of an image, from the image itself."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from cyclopts import Parameter

from napari_fidelity.cli._console import OK, out, print_json
from napari_fidelity.core.errors import FidelityError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_fidelity.core.arrays import Image
    from napari_fidelity.operators.estimation import PSFEstimate


def estimate_psf(
    source: Path,
    target: Path | None = None,
    /,
    *,
    kind: Literal["gaussian", "airy", "defocus", "free"] = "gaussian",
    scale: float = 1.0,
    noise: float | None = None,
    fit_to: Literal["auto", "edges", "spots"] = "auto",
    wavelength: float | None = None,
    numerical_aperture: float | None = None,
    pixel_size: float | None = None,
    axes: str | None = None,
    json: Annotated[bool, Parameter(negative="")] = False,
    overwrite: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Estimate the point-spread function of an image, and its noise, from the image itself.

    For example: napari-fidelity estimate-psf cells.tif psf.tif --scale 2

    Then: napari-fidelity correct cells.tif sharp.tif --operator 'blur:kernel=psf.tif + downsample:scale=2'

    Parameters
    ----------
    source
        The measurement: TIFF (plain, ImageJ, OME), PNG or JPEG. Of a stack the sharpest plane is used.
    target
        Where to write the kernel, on the grid of the restored image (32-bit TIFF).
    kind
        gaussian, of any two widths and orientation; airy, diffraction in focus; defocus, a disc; free, any shape
        (slow, less sure).
    scale
        How many times finer than the measurement the restored image is to be.
    noise
        Standard deviation of the noise, in the image's intensity units. Left out: estimated.
    fit_to
        The edges of the scene, or isolated spots such as beads; auto: spots where the image consists of such.
    wavelength
        Emission wavelength in nm, for airy.
    numerical_aperture
        Of the objective, for airy: with wavelength and pixel size the pattern is calculated. Left out: found.
    pixel_size
        Of the measurement in nm. Left out: that of the file, if it has one.
    axes
        Axes of the file where it does not name them, such as ZYX.
    json
        Print one JSON document.
    overwrite
        Replace the target if it exists.
    """
    from napari_fidelity.io import read_image
    from napari_fidelity.operators import estimate_psf

    image = read_image(source, axes=axes, alpha="drop")
    plane, where = sharpest_plane(image)
    estimate = estimate_psf(
        plane,
        kind,
        scale,
        noise,
        source=fit_to,
        wavelength=wavelength,
        numerical_aperture=numerical_aperture,
        pixel_size=_nanometres(image) if pixel_size is None else pixel_size,
    )
    if target is not None:
        _write(estimate, image, scale, target, overwrite=overwrite)
    found = {"plane": where} | _plain(estimate, scale, plane, target)
    if json:
        print_json(found)
    else:
        _print(found)
    return OK


def sharpest_plane(image: Image) -> tuple[NDArray[Any], dict[str, int]]:
    """Return the plane ``(H, W)`` or ``(H, W, 3)`` with the steepest gradients for its contrast, and where it is.

    Parameters
    ----------
    image
        Any axes.
    """
    others = [axis for axis in image.axes if axis not in "YXS"]
    order = [image.axes.index(axis) for axis in (*others, *(a for a in "YXS" if a in image.axes))]
    planes = image.data.transpose(order)
    sizes = planes.shape[: len(others)]
    best = max(np.ndindex(*sizes), key=lambda at: _sharpness(planes[at]))
    return planes[best], dict(zip(others, (int(i) for i in best), strict=True))


def _sharpness(plane: NDArray[Any]) -> float:
    """Return the energy of the gradients over the variance (Brenner's measure of focus, normalised)."""
    values = plane.astype(np.float64)
    spread = float(values.var())
    if spread == 0 or min(values.shape[:2]) < 3:
        return 0.0
    energy = np.square(values[2:] - values[:-2]).mean() + np.square(values[:, 2:] - values[:, :-2]).mean()
    return float(energy / spread)


def _nanometres(image: Image) -> tuple[float, float] | None:
    """Return the pixel size of a file in nm; ``None`` if it has none."""
    from napari_fidelity.io._record import LENGTHS

    if image.unit not in LENGTHS:
        return None
    factor = LENGTHS[image.unit] / LENGTHS["nm"]
    return image.pixel_size["Y"] * factor, image.pixel_size["X"] * factor


def _write(estimate: PSFEstimate, image: Image, scale: float, target: Path, *, overwrite: bool) -> None:
    from napari_fidelity.core.arrays import Image
    from napari_fidelity.io import write_image

    size = {axis: image.pixel_size.get(axis, 1.0) / scale for axis in "YX"}
    kernel = Image(estimate.kernel.astype(np.float32), "YX", pixel_size=size, unit=image.unit)
    write_image(kernel, target, overwrite=overwrite)


def _plain(estimate: PSFEstimate, scale: float, plane: NDArray[Any], target: Path | None) -> dict[str, Any]:
    from napari_fidelity.operators import Downsample, describe

    down = describe(Downsample(scale=scale)) if scale > 1 else ""
    if estimate.blur.kind == "blur":  # a kernel is better kept in its file
        blur = f"blur:kernel={target or 'PSF.tif'}"
    else:
        blur = describe(estimate.blur)
    return {
        "words": estimate.words(),
        "operator": " + ".join(filter(None, [blur, down])),
        "kind": estimate.kind,
        "parameters": dict(estimate.parameters),
        "fwhm_px": estimate.fwhm,
        "fwhm_nm": estimate.fwhm_nm,
        "score": estimate.score if np.isfinite(estimate.score) else None,
        "source": estimate.source,
        "count": estimate.count,
        "noise": {"gaussian": estimate.noise.sigma} | _photons(plane),
        "kernel": str(target) if target else None,
    }


def _photons(plane: NDArray[Any]) -> dict[str, str]:
    """Return the noise of a camera, as text for ``--noise``, if the image shows photon noise."""
    from napari_fidelity.operators import describe, estimate_noise

    try:
        return {"poisson_gaussian": describe(estimate_noise(plane, "poisson_gaussian"))}
    except FidelityError:
        return {}


def _print(found: dict[str, Any]) -> None:
    if found["plane"]:
        at = ", ".join(f"{axis} = {index}" for axis, index in found["plane"].items())
        out.print(f"Sharpest plane: {at}.", markup=False)
    out.print(found["words"], markup=False)
    out.print(f"--operator '{found['operator']}'", markup=False)
    if found["noise"]["gaussian"] > 0:
        out.print(f"--noise gaussian:sigma={found['noise']['gaussian']:.4g}", markup=False)
    if "poisson_gaussian" in found["noise"]:
        out.print(f"or, if it is photon noise: --noise {found['noise']['poisson_gaussian']}", markup=False)
    if found["kernel"]:
        out.print(f"Kernel written to {found['kernel']}.", markup=False)
