"""RRDN, the network of residual-in-residual dense blocks, known as the generator of ESRGAN.

Wang et al., "ESRGAN: Enhanced Super-Resolution Generative Adversarial Networks", ECCV Workshops 2018,
arXiv:1809.00219; called RRDN by Cardinale et al., *ISR*, 2018, whose smaller variant ends in one sub-pixel layer
instead. Scale surgery as that of EnhanceNet, which upsamples alike (Lucas et al. 2020).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar, Self

from torch import nn
from torch.nn import functional as F

from napari_fidelity.core.errors import ArchitectureError
from napari_fidelity.networks.base import RestorationNetwork, check_integer
from napari_fidelity.networks.blocks import DenseBlock, pass_through, random_start
from napari_fidelity.networks.upsamplers import (
    Interpolating,
    checked_factors,
    interpolating_factors,
    interpolating_plan,
    start_interpolating,
    without_interpolation,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import torch
    from torch import Tensor

_SLOPE = 0.2  # of the rectifiers for negative values
_FACTOR = 0.2  # of every update


class RRDN(RestorationNetwork):
    """RRDN: residual-in-residual dense blocks, a long skip, nearest-neighbour upsampling with convolutions, tail.

    Maps images (N, C, H, W) in [0, 1] to (N, C, scale·H, scale·W), nominally in [0, 1] and not clipped; any size
    from 1 × 1. The defaults are the published ×4 network with 16.7 million parameters.

    Parameters
    ----------
    n_channels
        Channels of the image.
    n_feats
        Features between the blocks.
    n_blocks
        Residual-in-residual dense blocks, of three dense blocks with five convolutions each.
    growth
        Features that each convolution within a dense block adds.
    factors
        One upsampling stage each: nearest-neighbour interpolation by that factor, then a convolution. A factor
        of 1 is a stage whose interpolation was dropped and whose convolution stayed.

    Raises
    ------
    ArchitectureError
        If a setting is out of its range.
    """

    architecture: ClassVar[str] = "RRDN"

    def __init__(
        self,
        n_channels: int = 3,
        n_feats: int = 64,
        n_blocks: int = 23,
        growth: int = 32,
        factors: Sequence[int] = (2, 2),
    ) -> None:
        super().__init__()
        self.n_channels = check_integer("RRDN", "n_channels", n_channels, 1, 64)
        self.n_feats = check_integer("RRDN", "n_feats", n_feats, 1, 2048)
        self.n_blocks = check_integer("RRDN", "n_blocks", n_blocks, 1, 512)
        self.growth = check_integer("RRDN", "growth", growth, 1, 2048)
        self.factors = checked_factors("RRDN", factors)
        self.scale = math.prod(self.factors)
        self.first = nn.Conv2d(n_channels, n_feats, 3, padding=1)
        self.blocks = nn.Sequential(*(ResidualInResidual(n_feats, growth) for _ in range(n_blocks)))
        self.trunk_end = nn.Conv2d(n_feats, n_feats, 3, padding=1)
        self.upsampler = Interpolating(n_feats, self.factors, _SLOPE)
        self.refine = nn.Conv2d(n_feats, n_feats, 3, padding=1)
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
        features = self.first(x)
        features = self.upsampler(features + self.trunk_end(self.blocks(features)))
        output: Tensor = self.tail(F.leaky_relu(self.refine(features), _SLOPE))
        return output

    def config(self) -> dict[str, Any]:
        """Return the arguments that build this network again, as plain values."""
        names = ("n_channels", "n_feats", "n_blocks", "growth")
        return {**{name: getattr(self, name) for name in names}, "factors": list(self.factors)}

    @classmethod
    def detect(cls, state_dict: Mapping[str, Tensor]) -> bool:
        """Tell from the names of the weights whether they are those of an :class:`RRDN`."""
        return {"first.weight", "trunk_end.weight", "refine.weight", "tail.weight"} <= state_dict.keys()

    @classmethod
    def infer_config(cls, state_dict: Mapping[str, Tensor]) -> dict[str, Any]:
        """Return the arguments of the constructor that fit these weights.

        Raises
        ------
        ArchitectureError
            If the first block is missing, or a layer is no convolution.
        """
        first, layer = state_dict["first.weight"], state_dict.get("blocks.0.dense.0.layers.0.weight")
        if layer is None or not first.ndim == layer.ndim == 4:
            raise ArchitectureError("The weights look like RRDN, but a layer is missing or no convolution")
        return {
            "n_channels": first.shape[1],
            "n_feats": len(first),
            "n_blocks": len({name.split(".")[1] for name in state_dict if name.startswith("blocks.")}),
            "growth": len(layer),
            "factors": interpolating_factors(state_dict),
        }

    def _rescaled(self, scale: int) -> tuple[dict[str, Any], dict[str, Tensor]]:
        return without_interpolation(self, self.factors, scale)

    @classmethod
    def settings_for(cls, scale: int) -> dict[str, Any]:
        """Return the argument of the constructor that makes a network of this scale: ×4 as ×2 twice."""
        return {"factors": interpolating_plan(cls.architecture, scale, least=0)}

    def start_as_interpolation(self, generator: torch.Generator | None = None) -> Self:
        """Initialise so that the network begins near linear interpolation.

        Raises
        ------
        ArchitectureError
            If there are fewer features than channels.
        """
        inner = [module.fuse for module in self.modules() if isinstance(module, DenseBlock)]
        random_start(self, generator, quiet=(*inner, self.trunk_end, self.tail))
        for conv in (self.first, self.refine, self.tail):
            pass_through(conv, self.n_channels)
        start_interpolating(self.upsampler, self.n_channels)
        return self


class ResidualInResidual(nn.Module):
    """Three dense blocks whose update of the input is added in part (fig. 4 of the paper)."""

    is_residual_block = True

    def __init__(self, n_feats: int, growth: int) -> None:
        super().__init__()
        self.dense = nn.Sequential(
            *(DenseBlock(n_feats, growth, 4, kernel=3, slope=_SLOPE, factor=_FACTOR) for _ in range(3))
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map features (N, F, H, W) to features of the same shape."""
        refined: Tensor = x + _FACTOR * self.dense(x)
        return refined
