"""Upsampling at the end of a network, in stages, and how stages are left out for another scale.

Sub-pixel stages (Shi 2016, arXiv:1609.05158) end a network whole: ×4 → ×2 leaves the second one out. Interpolating
stages are an interpolation and a convolution: ×4 → ×2 leaves the second interpolation out and keeps the
convolution, ×4 → ×3 interpolates once. Both after Lucas et al. 2020, arXiv:1912.12879.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional as F

from napari_fidelity.core.errors import ArchitectureError
from napari_fidelity.networks.base import RestorationNetwork, check_integer
from napari_fidelity.networks.blocks import pass_through, random_start

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor

FACTORS: dict[int, tuple[int, ...]] = {1: (), 2: (2,), 3: (3,), 4: (2, 2), 8: (2, 2, 2)}
"""Scale → factors of the sub-pixel stages in a row."""

_SUB_PIXEL = re.compile(r"upsampler\.(\d+)\.0\.weight")
_INTERPOLATING = re.compile(r"upsampler\.(\d+)_x(\d+)\.weight")


# -- sub-pixel stages -------------------------------------------------------------------------------------------


class SubPixel(nn.Sequential):
    """Convolution to ``factor²`` times the features, pixel shuffle, and what may follow."""

    def __init__(self, n_feats: int, factor: int, *after: nn.Module) -> None:
        super().__init__(nn.Conv2d(n_feats, n_feats * factor**2, 3, padding=1), nn.PixelShuffle(factor), *after)
        self.factor = factor


def sub_pixel_upsampler(
    architecture: str, n_feats: int, scale: int, activation: Callable[[], nn.Module] | None = None
) -> nn.Sequential:
    """Return the stages for a scale, each followed by an activation if there is one.

    Raises
    ------
    ArchitectureError
        If the scale is none of :data:`FACTORS`.
    """
    check_integer(architecture, "scale", scale, 1, 8)
    if scale not in FACTORS:
        raise _no_upsampler(architecture, scale)
    after = [activation] if activation else []
    return nn.Sequential(*(SubPixel(n_feats, factor, *(make() for make in after)) for factor in FACTORS[scale]))


def _no_upsampler(architecture: str, scale: int) -> ArchitectureError:
    return ArchitectureError(f"{architecture} has no upsampler for ×{scale}", do=f"Use one of {sorted(FACTORS)}")


def sub_pixel_scale(architecture: str, state_dict: Mapping[str, Tensor], n_feats: int) -> int:
    """Return the scale of the sub-pixel stages that weights hold.

    Raises
    ------
    ArchitectureError
        If their factors are none of :data:`FACTORS`.
    """
    stages = sorted((int(found[1]), found[0]) for found in map(_SUB_PIXEL.fullmatch, state_dict) if found)
    factors = tuple(math.isqrt(len(state_dict[name]) // n_feats) for _, name in stages)
    for scale, plan in FACTORS.items():
        if plan == factors:
            return scale
    raise ArchitectureError(f"The upsampler is none of {architecture}'s", found=f"sub-pixel factors {factors}")


def without_sub_pixels(network: RestorationNetwork, scale: int) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return config and weights of a network for a smaller scale, sub-pixel stages dropped from the end.

    Raises
    ------
    ArchitectureError
        If this would need a stage that nobody trained.
    """
    own, wanted = FACTORS[network.scale], FACTORS.get(scale)
    if wanted is None or own[: len(wanted)] != wanted:
        name, reachable = network.architecture, [s for s, f in FACTORS.items() if own[: len(f)] == f]
        raise ArchitectureError(
            f"{name} ×{network.scale} cannot be adapted to ×{scale}: it would need an untrained sub-pixel layer",
            found=f"sub-pixel layers {' and '.join(f'×{f}' for f in own) or 'none'}",
            do=f"Use a network trained for ×{scale}; this one can be adapted to "
            + " or ".join(f"×{s}" for s in reachable),
        )
    dropped = tuple(f"upsampler.{i}." for i in range(len(wanted), len(own)))
    weights = {name: value for name, value in network.state_dict().items() if not name.startswith(dropped)}
    return {**network.config(), "scale": scale}, weights


class SubPixelNetwork(RestorationNetwork):
    """A network that ends in sub-pixel stages and a convolution.

    Attributes
    ----------
    upsampler
        The stages.
    tail
        The convolution.
    """

    upsampler: nn.Sequential
    tail: nn.Conv2d

    @property
    def last_layer(self) -> nn.Conv2d:
        """The final convolution; the output is linear in its weights."""
        return self.tail

    def _rescaled(self, scale: int) -> tuple[dict[str, Any], dict[str, Tensor]]:
        return without_sub_pixels(self, scale)

    def _interpolate(
        self, first: nn.Conv2d, quiet: Sequence[nn.Module], generator: torch.Generator | None
    ) -> None:
        """Initialise so that features carry the image from first layer to last; what is quiet adds little."""
        random_start(self, generator, quiet=(*quiet, self.tail))
        pass_through(first, self.n_channels)
        start_interpolating(self.upsampler, self.n_channels)
        pass_through(self.tail, self.n_channels)


# -- interpolating stages ---------------------------------------------------------------------------------------


class Interpolating(nn.ModuleDict):
    """Nearest-neighbour interpolation, a convolution and a rectifier for each of several factors.

    Interpolation has no weights: the factors stand in the names, so that weights alone tell the scale. A factor of
    1 is a stage whose interpolation was dropped and whose convolution stayed.
    """

    def __init__(self, n_feats: int, factors: Sequence[int], slope: float = 0.0) -> None:
        super().__init__(
            {f"{i}_x{factor}": nn.Conv2d(n_feats, n_feats, 3, padding=1) for i, factor in enumerate(factors)}
        )
        self.factors, self.slope = tuple(factors), slope

    def forward(self, h: Tensor) -> Tensor:
        """Map features (N, F, H, W) to (N, F, scale·H, scale·W)."""
        for factor, conv in zip(self.factors, self.values(), strict=True):
            if factor > 1:
                h = F.interpolate(h, scale_factor=factor, mode="nearest")
            h = F.leaky_relu(conv(h), self.slope)
        return h


def checked_factors(architecture: str, factors: object, least: int = 0) -> tuple[int, ...]:
    """Return the factors of the interpolating stages if there are `least` to four, of ×16 together at most.

    Raises
    ------
    ArchitectureError
        If they are anything else.
    """
    if not isinstance(factors, list | tuple) or not least <= len(factors) <= 4:
        raise ArchitectureError(
            f"{architecture}: 'factors' must be {least} to four integers", found=repr(factors)[:80]
        )
    checked = tuple(check_integer(architecture, "factors", factor, 1, 4) for factor in factors)
    if math.prod(checked) > 16:
        raise ArchitectureError(f"{architecture}: the 'factors' multiply to more than ×16", found=repr(checked))
    return checked


def interpolating_plan(architecture: str, scale: int, least: int = 0) -> list[int]:
    """Return the factors, `least` of them or more, of the interpolating stages for a scale.

    Raises
    ------
    ArchitectureError
        If the scale is none of :data:`FACTORS`.
    """
    if scale not in FACTORS:
        raise _no_upsampler(architecture, scale)
    factors = list(FACTORS[scale])
    return factors + [1] * (least - len(factors))


def interpolating_factors(state_dict: Mapping[str, Tensor]) -> list[int]:
    """Return the factors of the interpolating stages that weights hold."""
    stages = sorted((int(found[1]), int(found[2])) for found in map(_INTERPOLATING.fullmatch, state_dict) if found)
    return [factor for _, factor in stages]


def without_interpolation(
    network: RestorationNetwork, factors: tuple[int, ...], scale: int
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return config and weights of a ×4 network for ×2 or ×3.

    Raises
    ------
    ArchitectureError
        If the network is another one, or the scale.
    """
    if factors != (2, 2) or scale not in (2, 3):
        raise ArchitectureError(
            f"{network.architecture} cannot be adapted from ×{network.scale} to ×{scale}",
            found=f"interpolation layers {' and '.join(f'×{f}' for f in factors) or 'none'}",
            do="Only a ×4 network (×2 twice) can be adapted, to ×2 by dropping its second interpolation or to "
            "×3 by one ×3 interpolation; the convolutions behind any other were never trained for it",
        )
    weights = network.state_dict()
    for part in ("weight", "bias"):
        for i, factor in enumerate((scale, 1)):
            weights[f"upsampler.{i}_x{factor}.{part}"] = weights.pop(f"upsampler.{i}_x2.{part}")
    return {**network.config(), "factors": [scale, 1]}, weights


# -- the start of a training ------------------------------------------------------------------------------------


@torch.no_grad()
def start_interpolating(upsampler: nn.Module, n: int) -> None:
    """Make the first `n` features of all stages a linear interpolation of theirs.

    The other features of a sub-pixel stage start without checkerboard (ICNR, Aitken 2017, arXiv:1707.02937).
    """
    for module in upsampler.children():
        if isinstance(module, SubPixel) and isinstance(module[0], nn.Conv2d):
            _start_sub_pixel(module[0].weight, module.factor, n)
        elif isinstance(module, nn.Conv2d) and isinstance(upsampler, Interpolating):
            # behind nearest-neighbour ×2 this binomial filter makes the interpolation a linear one
            taps = torch.tensor([0.25, 0.5, 0.25]).to(module.weight)
            module.weight[:n] = 0
            module.weight[range(n), range(n)] = torch.outer(taps, taps)


def _start_sub_pixel(weight: Tensor, factor: int, n: int) -> None:
    area = factor**2
    weight.copy_(weight[::area].repeat_interleave(area, 0))
    weight[: n * area] = 0
    shift = (torch.arange(factor, dtype=torch.float64) + 0.5) / factor - 0.5
    taps = torch.stack([(1 - (shift - k).abs()).clamp(min=0) for k in (-1, 0, 1)], 1)
    kernels = torch.einsum("iy,jx->ijyx", taps, taps).reshape(area, 3, 3)
    for i in range(n):
        weight[i * area : (i + 1) * area, i] = kernels.to(weight)
