"""Total variation."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from napari_fidelity.core.lazy import torch
from napari_fidelity.denoisers.base import Denoiser

if TYPE_CHECKING:
    from torch import Tensor

    from napari_fidelity.denoisers.base import Network

_EXACTNESS = 0.05  # root mean square distance from the minimiser, in units of σ, at most
_LOOK = 10  # iterations from one look at the duality gap to the next
_LONGEST = 500  # iterations


class TV(Denoiser):
    """Total variation: ``min ½‖u − x‖² + λ Σ |∇u|``, with the gradients of all channels in one norm.

    Rudin, Osher, Fatemi, Physica D 1992, doi:10.1016/0167-2789(92)90242-F; for several channels Bresson and Chan,
    Inverse Problems and Imaging 2008, doi:10.3934/ipi.2008.2.455. Solved in its dual by fast gradient projection
    (Beck and Teboulle, IEEE TIP 2009, doi:10.1109/TIP.2009.2028250), until the duality gap says that the mean
    error is below a twentieth of the noise. One channel is scikit-image's ``denoise_tv_chambolle``. In volumes
    the gradient has three directions, one voxel wide each.
    """

    kind: Literal["tv"] = "tv"
    title: ClassVar[str] = "total variation"
    weight: float = Field(
        0.8,
        gt=0,
        le=1000,
        description="λ in units of the noise level times the square root of the number of channels.",
        json_schema_extra={"unit": "σ"},
    )

    def _denoise(self, x: Tensor, sigma: float, network: Network | None) -> Tensor:
        bound = self.weight * sigma * math.sqrt(x.shape[1])
        step = 1 / (4 * (x.ndim - 2))  # over the largest eigenvalue of the gradient times its adjoint
        dual = [torch.zeros_like(x) for _ in x.shape[2:]]
        ahead, momentum = dual, 1.0
        for index in range(1, _LONGEST + 1):
            gradient = _gradient(_explained(x, ahead))
            before, dual = dual, _bounded([a + step * g for a, g in zip(ahead, gradient, strict=True)], bound)
            following = (1 + math.sqrt(1 + 4 * momentum**2)) / 2
            pace, momentum = (momentum - 1) / following, following
            ahead = [torch.add(new, new - old, alpha=pace) for new, old in zip(dual, before, strict=True)]
            if index % _LOOK == 0 and _error(x, dual, bound) <= _EXACTNESS * sigma:
                break
        return _explained(x, dual)


def _gradient(u: Tensor) -> list[Tensor]:
    """Return the forward differences along each spatial axis, 0 at the far border."""
    return [torch.diff(u, dim=axis, append=u.narrow(axis, u.shape[axis] - 1, 1)) for axis in range(2, u.ndim)]


def _explained(x: Tensor, dual: list[Tensor]) -> Tensor:
    """Return ``x − ∇ᵀp``, the image that belongs to a dual variable."""
    u = x.clone()
    for axis, p in enumerate(dual, start=2):
        inner = u.shape[axis] - 1
        u.narrow(axis, 0, inner).add_(p.narrow(axis, 0, inner))
        u.narrow(axis, 1, inner).sub_(p.narrow(axis, 0, inner))
    return u


def _norm(vectors: list[Tensor]) -> Tensor:
    """Return the length of the vectors of all axes and channels at each pixel, (N, 1, *spatial)."""
    length = vectors[0].square().sum(1, keepdim=True)
    for vector in vectors[1:]:
        length += vector.square().sum(1, keepdim=True)
    return length.sqrt_()


def _bounded(vectors: list[Tensor], bound: float) -> list[Tensor]:
    """Return vectors shortened to a length of at most `bound`."""
    excess = _norm(vectors).div_(bound).clamp_min_(1)
    return [vector / excess for vector in vectors]


def _error(x: Tensor, dual: list[Tensor], bound: float) -> float:
    """Return a bound of the root mean square distance from the minimiser, of the worst image of the batch."""
    gradient = _gradient(_explained(x, dual))
    gap = bound * _norm(gradient).flatten(1).sum(1)
    for g, p in zip(gradient, dual, strict=True):
        gap -= (g * p).flatten(1).sum(1)
    # the primal functional is strongly convex: ½‖u − u*‖² is at most the gap
    return math.sqrt(max(0.0, 2 * float(gap.max()) / x[0].numel()))
