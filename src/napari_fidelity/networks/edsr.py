"""EDSR, the enhanced deep residual network for super-resolution.

Lim, Son, Kim, Nah, Lee, "Enhanced Deep Residual Networks for Single Image Super-Resolution", CVPR Workshops
2017, arXiv:1707.02921. Scale surgery after Lucas et al. 2020.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import nn

from napari_fidelity.core.errors import ArchitectureError
from napari_fidelity.networks.base import RestorationNetwork, check_integer
from napari_fidelity.networks.blocks import ResidualBlock

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

RGB_MEAN = (0.4488, 0.4371, 0.4040)
"""Mean colour of photographs in [0, 1], as in the published EDSR."""

_FACTORS: dict[int, tuple[int, ...]] = {1: (), 2: (2,), 3: (3,), 4: (2, 2), 8: (2, 2, 2)}
"""Scale → factors of the sub-pixel modules in a row."""

_STAGE = re.compile(r"upsampler\.\d+\.0\.weight")


class SubPixel(nn.Sequential):
    """Convolution to ``factor²`` times the features, then pixel shuffle (Shi 2016, arXiv:1609.05158)."""

    def __init__(self, n_feats: int, factor: int) -> None:
        super().__init__(nn.Conv2d(n_feats, n_feats * factor**2, 3, padding=1), nn.PixelShuffle(factor))
        self.factor = factor


class EDSR(RestorationNetwork):
    """EDSR: head, residual blocks with a long skip, sub-pixel upsampler, tail.

    Maps images (N, C, H, W) in [0, 1] to (N, C, scale·H, scale·W), nominally in [0, 1] and not clipped; any size
    from 1 × 1. The mean colour is subtracted in front; the bias of the tail adds it back, so that the network
    ends with a plain convolution.

    Parameters
    ----------
    n_channels
        Channels of the image, 1 or more.
    n_feats
        Features of every layer.
    n_blocks
        Residual blocks.
    scale
        1, 2, 3, 4 or 8.
    res_scale
        Factor of each block's update; 0.1 for the published network of 256 features.
    mean
        Mean colour to subtract, one number per channel: that of photographs for RGB, else 0.5.

    Raises
    ------
    ArchitectureError
        If a size is not positive, the scale is not supported, or `mean` does not have `n_channels` numbers.
    """

    architecture: ClassVar[str] = "EDSR"

    def __init__(
        self,
        n_channels: int = 3,
        n_feats: int = 64,
        n_blocks: int = 16,
        scale: int = 4,
        res_scale: float = 1.0,
        mean: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        self.n_channels = check_integer("EDSR", "n_channels", n_channels, 1, 64)
        self.n_feats = check_integer("EDSR", "n_feats", n_feats, 1, 2048)
        self.n_blocks = check_integer("EDSR", "n_blocks", n_blocks, 0, 512)
        self.scale = check_integer("EDSR", "scale", scale, 1, 8)
        if scale not in _FACTORS:
            raise ArchitectureError(f"EDSR has no upsampler for ×{scale}", do=f"Use one of {sorted(_FACTORS)}")
        self.res_scale, *_ = _checked_numbers("res_scale", (res_scale,), 1)
        default = RGB_MEAN if n_channels == 3 else (0.5,) * n_channels
        self.mean = _checked_numbers("mean", default if mean is None else mean, n_channels)
        self.head = nn.Conv2d(n_channels, n_feats, 3, padding=1)
        self.blocks = nn.Sequential(*(ResidualBlock(n_feats, res_scale) for _ in range(n_blocks)))
        self.body_end = nn.Conv2d(n_feats, n_feats, 3, padding=1)
        self.upsampler = nn.Sequential(*(SubPixel(n_feats, factor) for factor in _FACTORS[scale]))
        self.tail = nn.Conv2d(n_feats, n_channels, 3, padding=1)

    @property
    def last_layer(self) -> nn.Conv2d:
        """The final convolution; the output is linear in its weights."""
        return self.tail

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C, scale·H, scale·W), both in [0, 1].

        Raises
        ------
        ShapeError, ArchitectureError
            If `x` is no float image (N, C, H, W), or not one of `n_channels` channels.
        """
        self.check_input(x)
        features = self.head(x - x.new_tensor(self.mean)[:, None, None])
        features = features + self.body_end(self.blocks(features))
        output: Tensor = self.tail(self.upsampler(features))
        return output

    def config(self) -> dict[str, Any]:
        """Return the arguments that build this network again, as plain values."""
        names = ("n_channels", "n_feats", "n_blocks", "scale", "res_scale")
        return {**{name: getattr(self, name) for name in names}, "mean": list(self.mean)}

    @classmethod
    def detect(cls, state_dict: Mapping[str, Tensor]) -> bool:
        """Tell from the names of the weights whether they are those of an :class:`EDSR`."""
        return {"head.weight", "body_end.weight", "tail.weight"} <= state_dict.keys()

    @classmethod
    def infer_config(cls, state_dict: Mapping[str, Tensor]) -> dict[str, Any]:
        """Return the arguments of the constructor that fit these weights.

        `res_scale` and `mean` leave no trace in the weights; they take their default values.

        Raises
        ------
        ArchitectureError
            If the upsampler is none that :class:`EDSR` can have.
        """
        head = state_dict["head.weight"]
        if head.ndim != 4:
            raise ArchitectureError("The weight 'head.weight' is no convolution", found=f"{tuple(head.shape)}")
        blocks = {name.split(".")[1] for name in state_dict if name.startswith("blocks.")}
        stages = sorted(name for name in state_dict if _STAGE.fullmatch(name))
        factors = tuple(math.isqrt(len(state_dict[name]) // len(head)) for name in stages)
        scales = [scale for scale, plan in _FACTORS.items() if plan == factors]
        if not scales:
            raise ArchitectureError("The upsampler is none of EDSR's", found=f"sub-pixel factors {factors}")
        return {"n_channels": head.shape[1], "n_feats": head.shape[0], "n_blocks": len(blocks), "scale": scales[0]}

    def _rescaled(self, scale: int) -> tuple[dict[str, Any], dict[str, Tensor]]:
        # Lucas 2020: sub-pixel modules are dropped from the end, ×4 → ×2 loses the second one.
        own, wanted = _FACTORS[self.scale], _FACTORS.get(scale)
        if wanted is None or own[: len(wanted)] != wanted:
            raise ArchitectureError(
                f"EDSR ×{self.scale} cannot be adapted to ×{scale}: it would need an untrained sub-pixel layer",
                found=f"sub-pixel layers {' and '.join(f'×{f}' for f in own) or 'none'}",
                do=f"Use a network trained for ×{scale}; this one can be adapted to {_reachable(self.scale)}",
            )
        dropped = tuple(f"upsampler.{i}." for i in range(len(wanted), len(own)))
        weights = {name: value for name, value in self.state_dict().items() if not name.startswith(dropped)}
        return {**self.config(), "scale": scale}, weights

    @torch.no_grad()
    def start_as_interpolation(self, generator: torch.Generator | None = None) -> Self:
        """Initialise so that the network begins near linear interpolation: no time goes into learning identity.

        The first `n_channels` features carry the image from head to tail; all others start small and random, the
        sub-pixel layers without checkerboard (ICNR, Aitken 2017, arXiv:1707.02937).

        Raises
        ------
        ArchitectureError
            If there are fewer features than channels.
        """
        n = self.n_channels
        if self.n_feats < n:
            raise ArchitectureError(
                "The interpolating start needs at least as many features as channels",
                found=f"{self.n_feats} < {n}",
            )
        convolutions = [module for module in self.modules() if isinstance(module, nn.Conv2d)]
        for conv in convolutions:
            nn.init.kaiming_normal_(conv.weight, nonlinearity="relu", generator=generator)
            if conv.bias is not None:
                nn.init.zeros_(conv.bias)
        quiet = [block.conv2 for block in self.blocks if isinstance(block, ResidualBlock)]
        for conv in (*quiet, self.body_end, self.tail):
            conv.weight.mul_(0.1)
        _pass_through(self.head.weight, n)
        for sub in self.upsampler:
            if isinstance(sub, SubPixel) and isinstance(sub[0], nn.Conv2d):
                _interpolate(sub[0].weight, sub.factor, n)
        _pass_through(self.tail.weight, n)
        if self.tail.bias is not None:
            self.tail.bias.copy_(self.tail.bias.new_tensor(self.mean))
        return self


def _checked_numbers(name: str, values: object, count: int) -> tuple[float, ...]:
    try:
        checked = tuple(float(value) for value in values)  # type: ignore[attr-defined]
    except (TypeError, ValueError):
        checked = ()
    if len(checked) != count or not all(map(math.isfinite, checked)):
        raise ArchitectureError(f"EDSR: '{name}' must be {count} finite number(s)", found=repr(values))
    return checked


def _reachable(scale: int) -> str:
    own = _FACTORS[scale]
    return " or ".join(f"×{s}" for s, factors in _FACTORS.items() if own[: len(factors)] == factors)


def _pass_through(weight: Tensor, n: int) -> None:
    """Let the first `n` outputs be copies of the first `n` inputs."""
    if weight.shape[0] > n:
        weight[:n] = 0
    weight[:n, :n] = 0
    for i in range(n):
        weight[i, i, weight.shape[2] // 2, weight.shape[3] // 2] = 1


def _interpolate(weight: Tensor, factor: int, n: int) -> None:
    """Make the first `n` channels of a sub-pixel convolution linear interpolation, the others ICNR."""
    area = factor**2
    weight.copy_(weight[::area].repeat_interleave(area, 0))
    weight[: n * area] = 0
    shift = (torch.arange(factor, dtype=torch.float64) + 0.5) / factor - 0.5
    taps = torch.stack([(1 - (shift - k).abs()).clamp(min=0) for k in (-1, 0, 1)], 1)
    kernels = torch.einsum("iy,jx->ijyx", taps, taps).reshape(area, 3, 3)
    for i in range(n):
        weight[i * area : (i + 1) * area, i] = kernels.to(weight)
