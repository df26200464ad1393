"""Images to start from: the measurement on the image's grid, or a classical solution."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from napari_fidelity.core.errors import FidelityError, ShapeError
from napari_fidelity.methods.calls import adjoint, call_operator
from napari_fidelity.methods.projection import UNKNOWN_NOISE, assumed_variance, project
from napari_fidelity.methods.scores import known_variance
from napari_fidelity.networks.drunet import noise_level
from napari_fidelity.operators.base import Operator
from napari_fidelity.operators.compose import Compose
from napari_fidelity.operators.mask import Mask
from napari_fidelity.operators.noise import GaussianNoise
from napari_fidelity.operators.noise_level import estimate_noise
from napari_fidelity.operators.resample import resize

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_fidelity.methods.base import LinearOperator
    from napari_fidelity.operators.noise import Noise


log = logging.getLogger(__name__)

_UNBELIEVABLE = 1.5  # times the stated level


def image_shape(y: torch.Tensor, operator: LinearOperator) -> tuple[int, ...]:
    """Return the shape ``(N, C, *n)`` of the image that belongs to a measurement ``(N, C, *m)``."""
    if isinstance(operator, Operator):
        spatial = operator.image_shape(y.shape[2:])
        return (len(y), operator.image_channels(y.shape[1]), *spatial)
    return tuple(adjoint(operator, y, ()).shape)


def image_sigma(sigma: float, operator: LinearOperator, like: torch.Tensor) -> float:
    """Return the noise level of an image whose measurement has noise of level ``sigma``.

    The same where the measurement is a picture of the image. Where it is none, ``σ / ‖A‖``: that of the directions
    which are measured best.
    """
    if pictures(operator):
        return sigma
    return sigma / math.sqrt(largest_eigenvalue(operator, like))


def squared_gain(operator: LinearOperator, like: torch.Tensor) -> float:
    """Return the mean square of the measurement for one of the image; 1 where the measurement is a picture."""
    if pictures(operator):
        return 1.0
    return float(call_operator(operator, _probe(like)).square().mean())


def largest_eigenvalue(operator: LinearOperator, like: torch.Tensor, iterations: int = 12) -> float:
    """Return the largest eigenvalue of ``AᵀA`` by power iteration, from below."""
    v, norm = _probe(like), 0.0
    for _ in range(iterations):
        v = adjoint(operator, call_operator(operator, v / v.norm()), like.shape[2:])
        norm = float(v.norm())
    return norm


def pictures(operator: LinearOperator) -> bool:
    """Tell whether a measurement shows the image, on a grid of its own maybe."""
    return not isinstance(operator, Operator) or operator.shares_grid


def _probe(like: torch.Tensor) -> torch.Tensor:
    return torch.randn(like.shape, generator=torch.Generator().manual_seed(0)).to(like)


def is_picture(operator: LinearOperator, y: torch.Tensor, shape: Sequence[int]) -> bool:
    """Tell whether a measurement ``y`` of an image of this shape is that image itself."""
    if tuple(shape) != tuple(y.shape):
        return False
    probe = _probe(y)
    return torch.equal(call_operator(operator, probe), probe)


def believed(
    noise: Noise | None,
    y: torch.Tensor,
    operator: LinearOperator,
    spatial: Sequence[int],
    weights: torch.Tensor | None,
    seed: int,
) -> Noise | None:
    """Return the noise model, with the level that the measurement shows if it shows far more than was stated.

    What ``A`` hides shows the noise alone; the inverse of ``A`` would blow up what too small a level leaves.
    """
    if not isinstance(noise, GaussianNoise) or noise.sigma == 0 or weights is not None or not pictures(operator):
        return noise
    shown = math.sqrt(assumed_variance(y, operator, spatial, rng=seed))
    if shown < _UNBELIEVABLE * max(noise.sigma, UNKNOWN_NOISE):
        return noise
    log.warning("the measurement shows noise of %.3g, %.3g was stated: the former is taken", shown, noise.sigma)
    return noise.replace(sigma=shown)


def found_noise(y: torch.Tensor) -> Noise | None:
    """Return the camera noise that a gray image ``(1, 1, H, W)`` shows; ``None`` where it shows none."""
    if y.ndim != 4 or y.shape[:2] != (1, 1):
        return None
    try:
        return estimate_noise(y[0, 0].cpu().numpy(), "poisson_gaussian")
    except FidelityError:
        return None  # too small, or saturated all over


def noise_variance(
    y: torch.Tensor,
    operator: LinearOperator,
    spatial: Sequence[int],
    noise: Noise | None,
    weights: torch.Tensor | None,
    seed: int,
    *,
    picture: bool,
) -> float:
    """Return the noise's mean variance: the known one, or what the measurement shows of it.

    A measurement that is the image itself (``picture``) hides no direction in which the noise would be alone;
    there its finest differences are looked at (:func:`napari_fidelity.networks.drunet.noise_level`).
    """
    least = assumed_variance(y, operator, spatial, noise=noise, weights=weights, rng=seed)
    if not picture or known_variance(noise, y) is not None:
        return least
    planes = y.flatten(0, 1)[:, None] if y.ndim == 4 else y.movedim(2, 1).flatten(0, 2)[:, None]
    return max(least, float(noise_level(planes).square().mean()))


def starting_image(
    start: str | NDArray[Any],
    y: torch.Tensor,
    operator: LinearOperator,
    *,
    noise: Noise | None = None,
    weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return the image ``(N, C, *n)`` that an option ``start`` names.

    Parameters
    ----------
    start
        ``"measurement"``: the measurement, bicubically brought to the image's grid, or where it is no picture of
        the image (tomography, Fourier samples) its adjoint, scaled to explain it best. ``"classical"``: that
        image, projected onto the data as far as the noise allows. Or an image ``(*n)`` or ``(C, *n)``.
    y, operator, noise, weights
        As for :meth:`napari_fidelity.methods.Method.steps`.

    Raises
    ------
    ShapeError
        If an image that was given does not have the restored image's shape.
    """
    shape = image_shape(y, operator)
    if not isinstance(start, str):
        return _given(start, shape).to(y)
    x = _measurement(y, operator, shape, weights)
    return project(x, y, operator, noise=noise, weights=weights) if start == "classical" else x


def _given(start: NDArray[Any], shape: tuple[int, ...]) -> torch.Tensor:
    image = torch.from_numpy(start.copy())
    if image.ndim == len(shape) - 2:
        image = image[None]
    if image.shape != shape[1:] and (image.shape[0] != 1 or image.shape[1:] != shape[2:]):
        raise ShapeError(
            "The image to start from does not have the restored image's shape",
            found=f"{tuple(image.shape)} beside {shape[1:]}",
            do="Give one of that size, with as many channels or one",
        )
    return image.expand(shape[1:])[None].expand(shape).contiguous()


def filled(y: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
    """Return a picture ``(N, C, *m)`` whose pixels that were not seen have the mean of those around them.

    Means over ever larger squares are taken until every pixel has one, and enlarged linearly (pull and push:
    Gortler et al. 1996, doi:10.1145/237170.237200).

    Parameters
    ----------
    y
        The picture.
    seen
        1 where it was seen, 0 elsewhere; broadcastable to ``y``.
    """
    seen = seen.to(y).expand_as(y)
    if bool((seen > 0).all()) or max(y.shape[2:]) == 1:
        return torch.where(seen > 0, y, (y * seen).sum() / seen.sum().clamp_min(1))
    pool = nn.functional.avg_pool2d if y.ndim == 4 else nn.functional.avg_pool3d
    kernel = [min(2, n) for n in y.shape[2:]]
    share = pool(seen, kernel, ceil_mode=True)
    coarse = filled(pool(y * seen, kernel, ceil_mode=True) / share.clamp_min(1e-6), (share > 0).to(y))
    mode = "bilinear" if y.ndim == 4 else "trilinear"
    fine = nn.functional.interpolate(coarse, size=y.shape[2:], mode=mode, align_corners=False)
    return torch.where(seen > 0, y, fine)


def observed(y: torch.Tensor, operator: LinearOperator, weights: torch.Tensor | None) -> torch.Tensor | None:
    """Return where a measurement was observed, by weights and a mask at the end of ``A``; ``None``: all over."""
    last = operator.operators[-1] if isinstance(operator, Compose) else operator
    if not isinstance(last, Mask) or last.mask.shape != tuple(y.shape[2:]):
        return weights
    kept = torch.from_numpy(last.mask > 0).to(y)[None, None]
    return kept if weights is None else kept * weights


def _measurement(
    y: torch.Tensor, operator: LinearOperator, shape: tuple[int, ...], weights: torch.Tensor | None
) -> torch.Tensor:
    """Return the measurement on the image's grid."""
    seen = observed(y, operator, weights)
    if seen is not None and pictures(operator):
        y = filled(y, seen)
    if pictures(operator) and y.shape[:2] == shape[:2]:
        if y.shape == shape:
            return y.clone()
        return resize(y, shape[2:])
    back = adjoint(operator, y if weights is None else y * weights, shape[2:])
    again = call_operator(operator, back)
    again = again if weights is None else again * weights
    return back * ((again * y).sum() / again.square().sum().clamp_min(1e-12))
