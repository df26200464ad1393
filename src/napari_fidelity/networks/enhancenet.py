"""EnhanceNet: super-resolution by an image prior and automated texture synthesis.

Sajjadi, Schölkopf, Hirsch, "EnhanceNet: Single Image Super-Resolution Through Automated Texture Synthesis",
ICCV 2017, arXiv:1612.07919. Scale surgery after Lucas et al. 2020.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar, Self

from torch import Tensor, nn
from torch.nn import functional as F

from napari_fidelity.core.errors import ArchitectureError
from napari_fidelity.networks.base import RestorationNetwork, check_integer
from napari_fidelity.networks.blocks import ResidualBlock, random_start, tf1_bicubic
from napari_fidelity.networks.upsamplers import (
    Interpolating,
    checked_factors,
    interpolating_factors,
    interpolating_plan,
    without_interpolation,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import torch

PUBLISHED_MEAN = (0.47614917, 0.45001204, 0.40904046)
"""Mean colour that the published network takes off its input, in [0, 1]."""


class EnhanceNet(RestorationNetwork):
    """The EnhanceNet generator: residual blocks, nearest-neighbour upsampling, and a bicubic skip.

    Maps ``(N, C, H, W)`` to ``(N, C, scale·H, scale·W)``, nominal range [0, 1], not clipped. The defaults are
    the published ×4 network with 852,867 parameters.

    Parameters
    ----------
    n_channels
        Channels of the image.
    n_feats
        Features of every hidden layer.
    n_blocks
        Residual blocks at the resolution of the input.
    factors
        One upsampling stage each: nearest-neighbour interpolation by that factor, then a convolution. A factor
        of 1 is a stage whose interpolation was dropped and whose convolution stayed.
    mean
        Colour taken off the input of the convolutions; the published one, or 0.5 for other than three channels.

    Raises
    ------
    ArchitectureError
        If a setting is out of its range.
    """

    architecture: ClassVar[str] = "EnhanceNet"

    def __init__(
        self,
        n_channels: int = 3,
        n_feats: int = 64,
        n_blocks: int = 10,
        factors: Sequence[int] = (2, 2),
        mean: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        self.n_channels = check_integer("EnhanceNet", "n_channels", n_channels, 1, 64)
        self.n_feats = check_integer("EnhanceNet", "n_feats", n_feats, 1, 2048)
        self.n_blocks = check_integer("EnhanceNet", "n_blocks", n_blocks, 0, 512)
        self.factors = checked_factors("EnhanceNet", factors, least=1)
        self.mean = _checked_mean(mean, self.n_channels)
        self.scale = math.prod(self.factors)
        self.head = nn.Conv2d(n_channels, n_feats, 3, padding=1)
        self.blocks = nn.Sequential(*(ResidualBlock(n_feats) for _ in range(n_blocks)))
        self.upsampler = Interpolating(n_feats, self.factors)
        self.refine = nn.Conv2d(n_feats, n_feats, 3, padding=1)
        self.tail = nn.Conv2d(n_feats, n_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Restore images (N, C, H, W) in [0, 1] to (N, C, scale·H, scale·W)."""
        self.check_input(x)
        h = F.relu(self.head(x - x.new_tensor(self.mean)[:, None, None]))
        h = F.relu(self.refine(self.upsampler(self.blocks(h))))
        # Interpolation keeps constants, so the skip needs no mean.
        restored: Tensor = self.tail(h) + tf1_bicubic(x, self.scale)
        return restored

    @property
    def last_layer(self) -> nn.Conv2d:
        """The convolution to whose weight and bias the output is affine."""
        return self.tail

    def config(self) -> dict[str, Any]:
        """Return the arguments, as plain values, that build a network of the same shape."""
        return {
            "n_channels": self.n_channels,
            "n_feats": self.n_feats,
            "n_blocks": self.n_blocks,
            "factors": list(self.factors),
            "mean": list(self.mean),
        }

    @classmethod
    def detect(cls, state_dict: Mapping[str, Tensor]) -> bool:
        """Tell from the names of the weights whether they belong to an EnhanceNet."""
        return {"head.weight", "refine.weight", "tail.weight"} <= state_dict.keys() and bool(
            interpolating_factors(state_dict)
        )

    @classmethod
    def infer_config(cls, state_dict: Mapping[str, Tensor]) -> dict[str, Any]:
        """Return the arguments that build the network these weights belong to, but for a ``mean`` of their own.

        Raises
        ------
        ArchitectureError
            If the first layer is no convolution.
        """
        head = state_dict["head.weight"]
        if head.ndim != 4:
            raise ArchitectureError("The weight 'head.weight' is no convolution", found=f"{tuple(head.shape)}")
        blocks = {name.split(".")[1] for name in state_dict if name.startswith("blocks.")}
        return {
            "n_channels": head.shape[1],
            "n_feats": head.shape[0],
            "n_blocks": len(blocks),
            "factors": interpolating_factors(state_dict),
        }

    def _rescaled(self, scale: int) -> tuple[dict[str, Any], dict[str, Tensor]]:
        return without_interpolation(self, self.factors, scale)

    @classmethod
    def settings_for(cls, scale: int) -> dict[str, Any]:
        """Return the argument of the constructor that makes a network of this scale: ×4 as ×2 twice."""
        return {"factors": interpolating_plan(cls.architecture, scale, least=1)}

    def start_as_interpolation(self, generator: torch.Generator | None = None) -> Self:
        """Initialise so that the network begins near its bicubic skip."""
        random_start(self, generator, quiet=(self.tail,))
        return self


def _checked_mean(mean: Sequence[float] | None, n_channels: int) -> tuple[float, ...]:
    if mean is None:
        return PUBLISHED_MEAN if n_channels == 3 else (0.5,) * n_channels
    try:
        checked = tuple(float(value) for value in mean)
    except (TypeError, ValueError):
        checked = ()
    if len(checked) != n_channels or not all(map(math.isfinite, checked)):
        raise ArchitectureError(f"EnhanceNet: 'mean' must be {n_channels} numbers", found=repr(mean))
    return checked
