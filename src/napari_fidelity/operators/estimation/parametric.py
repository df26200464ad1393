"""Blurs with a few parameters, fitted to the edges or the isolated spots of an image. NumPy and SciPy only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fidelity.core.errors import ImageError
from napari_fidelity.operators.estimation._edges import find_edges
from napari_fidelity.operators.estimation._families import Gaussian, Step
from napari_fidelity.operators.psf import fwhm

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_fidelity.operators.estimation._edges import Edges
    from napari_fidelity.operators.estimation._families import Family

    Numbers = NDArray[np.float64]

_NARROWEST = 0.4  # px of the measurement: the first smoothing tried
_APART = 1.75  # between the two smoothings
_ROUND = "The edges lie in one direction only, so the blur was taken to be round."
_ROUNDS = 6  # of fitting, with wider smoothings
_FEWEST = 30  # edges
_ONE_WAY = 0.02  # smallest share of the directions, as an eigenvalue, that tells an ellipse
_TILE = 16  # tiles a side from which halves of the image are made
_HALVES = 2  # pairs of halves that are compared
_MOST = 1500  # edges that are fitted; more would only take longer
_WIDEST = 1 / 12  # of the image: a blur that is wider looks like the scene's own shading
_THIN = 1.05  # px: where a blur seems as thin as a pixel once noise was smoothed, thin objects were seen, no steps
_CLEAR = 20.0  # noise deviations of the median edge: at less, noise steepens the middle of an edge


@dataclass(frozen=True)
class Fit:
    """A blur fitted to an image.

    Attributes
    ----------
    family, parameters
        The blur.
    count
        Edges or spots it was fitted to.
    halves
        Parameters fitted to random halves of them.
    remarks
        What there is to say about it, in sentences.
    spots
        Whether it was fitted to spots.
    """

    family: Family
    parameters: Numbers
    count: int
    halves: tuple[Numbers, ...]
    remarks: tuple[str, ...] = ()
    spots: bool = False


def fit_to_edges(
    image: Numbers, usable: NDArray[np.bool_], noise: Numbers, family: Family, scale: tuple[float, float]
) -> Fit:
    """Fit a blur to the edges of an image.

    The median edge is taken to be a step before it was blurred: where the scene itself has no sharp edges, the
    blur comes out too wide.

    Parameters
    ----------
    image
        ``(H, W)``.
    usable
        ``(H, W)``: pixels whose values are as recorded.
    noise
        ``(H, W)``: standard deviation of the noise at each pixel, in intensity units.
    family
        The blurs to choose from.
    scale
        Pixels of the restored image per pixel of the measurement along y and x.

    Raises
    ------
    ImageError
        If the image shows too few edges, or is too noisy.
    """
    smoothing, found = _NARROWEST, None
    remarks: tuple[str, ...]
    for _ in range(_ROUNDS):
        edges = find_edges(image, usable, noise, (smoothing, _APART * smoothing))
        if len(edges) < _FEWEST:
            if found is not None:
                break  # the last smoothing stands
            smoothing *= 2  # noise may hide them
            continue
        used, chosen, remarks = edges, family, ()
        if isinstance(family, Gaussian) and _directions(edges) < _ONE_WAY:
            chosen, remarks = Gaussian(is_round=True), (_ROUND,)
        found = _fitted(used, chosen, scale)
        # a blur much wider than the smoothing fades too little to be measured
        wanted = chosen.smoothing * _width(chosen, found, scale)
        if float(np.median(edges.contrast)) < _CLEAR:
            wanted = max(wanted, 1.4 * smoothing)
        if wanted <= 1.25 * smoothing:
            break
        smoothing = wanted
    if found is None or _width(chosen, found, scale) > min(image.shape) * _WIDEST:
        raise ImageError(
            "The image shows too few edges to estimate its blur",
            found=f"{len(edges)} above the noise" if found is None else "only gentle slopes",
            do="Choose a slice with sharp structures, a larger part of it, or an image of beads",
        )
    clear = float(np.median(used.contrast))
    is_thin = min(fwhm(chosen.kernel(found))) < _THIN
    if clear < _CLEAR or (is_thin and used.smoothing[0] > _NARROWEST):
        raise ImageError(
            "The image is too noisy to estimate its blur from its edges",
            found=f"edges that rise {clear:.0f} noise deviations, smoothed over {used.smoothing[1]:.1f} px",
            do="Average several frames or planes, or use an image of beads",
        )
    halves = tuple(_fitted(half, chosen, scale) for half in _in_halves(used))
    return Fit(chosen, found, len(used), halves, remarks)


def _fitted(edges: Edges, family: Family, scale: tuple[float, float]) -> Numbers:
    """Return the parameters with the least absolute deviations from the edges, weighted by their contrast."""
    from scipy.optimize import minimize

    if len(edges) > _MOST:
        chosen = np.random.default_rng(0).permutation(len(edges)) < _MOST
        edges = edges.only(chosen)
    step, weights = Step(edges, scale), edges.weight / edges.weight.sum()

    def deviation(parameters: Numbers) -> float:
        return float(weights @ np.abs(edges.ratio - step.ratio(family, parameters)))

    variance = max(float(np.median(edges.variances())), 0.05)
    start = family.start(np.diag([variance * s**2 for s in scale]))
    # a simplex that reaches beyond the start, to kernels of another shape
    simplex = np.concatenate([start[None], start + np.diag(np.where(start == 0, 0.3 * start[0], 0.25 * start))])
    found: Any = minimize(
        deviation,
        start,
        method="Nelder-Mead",
        options={"initial_simplex": simplex, "maxiter": 150, "xatol": 2e-3 * start[0], "fatol": 1e-7},
    )
    return np.asarray(found.x, np.float64)


def _width(family: Family, parameters: Numbers, scale: tuple[float, float]) -> float:
    """Return the standard deviation of a blur, in pixels of the measurement."""
    y, x = fwhm(family.kernel(parameters))
    return float(np.sqrt(y / scale[0] * x / scale[1])) / 2.355


def _directions(edges: Edges) -> float:
    """Return how well the edges tell an ellipse: the smallest eigenvalue of their design, 0 to 1/3."""
    ny, nx = edges.normal
    design = np.stack([ny * ny, np.sqrt(2) * ny * nx, nx * nx])
    return float(np.linalg.eigvalsh(design @ design.T / len(edges))[0])


def _in_halves(edges: Edges) -> Sequence[Edges]:
    """Return the edges in random halves of the image, made of tiles: neighbouring edges are one structure."""
    rng = np.random.default_rng(0)
    extent = edges.place.max(axis=1, keepdims=True) + 1
    tile = (edges.place / extent * _TILE).astype(int)
    halves = []
    for _ in range(_HALVES):
        chosen = (rng.random((_TILE, _TILE)) < 0.5)[tile[0], tile[1]]
        halves += [part for part in (edges.only(chosen), edges.only(~chosen)) if len(part) >= _FEWEST // 2]
    return halves
