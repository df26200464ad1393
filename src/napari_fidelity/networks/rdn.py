"""RDN, the residual dense network for super-resolution.

Zhang, Tian, Kong, Zhong, Fu, "Residual Dense Network for Image Super-Resolution", CVPR 2018, arXiv:1802.08797; the
network of Cardinale et al., *ISR*, 2018. Scale surgery after Lucas et al. 2020.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import nn

from napari_fidelity.core.errors import ArchitectureError
from napari_fidelity.networks.base import check_integer
from napari_fidelity.networks.blocks import DenseBlock
from napari_fidelity.networks.upsamplers import SubPixelNetwork, sub_pixel_scale, sub_pixel_upsampler

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor


class RDN(SubPixelNetwork):
    """RDN: residual dense blocks, of which all outputs are fused, a long skip, sub-pixel upsampler, tail.

    Maps images (N, C, H, W) in [0, 1] to (N, C, scale·H, scale·W), nominally in [0, 1] and not clipped; any size
    from 1 × 1. The defaults are the paper's network (D = 16, C = 8, G = 64): 22.1 million parameters at ×2.

    Parameters
    ----------
    n_channels
        Channels of the image.
    n_feats
        Features between the blocks (G0 in the paper).
    n_blocks
        Residual dense blocks (D).
    n_layers
        Convolutions of a block (C).
    growth
        Features that each of them adds (G).
    scale
        1, 2, 3, 4 or 8.

    Raises
    ------
    ArchitectureError
        If a setting is out of its range.
    """

    architecture: ClassVar[str] = "RDN"

    def __init__(
        self,
        n_channels: int = 3,
        n_feats: int = 64,
        n_blocks: int = 16,
        n_layers: int = 8,
        growth: int = 64,
        scale: int = 4,
    ) -> None:
        super().__init__()
        self.n_channels = check_integer("RDN", "n_channels", n_channels, 1, 64)
        self.n_feats = check_integer("RDN", "n_feats", n_feats, 1, 2048)
        self.n_blocks = check_integer("RDN", "n_blocks", n_blocks, 1, 512)
        self.n_layers = check_integer("RDN", "n_layers", n_layers, 1, 64)
        self.growth = check_integer("RDN", "growth", growth, 1, 2048)
        self.scale = check_integer("RDN", "scale", scale, 1, 8)
        self.shallow1 = nn.Conv2d(n_channels, n_feats, 3, padding=1)
        self.shallow2 = nn.Conv2d(n_feats, n_feats, 3, padding=1)
        self.blocks = nn.ModuleList(ResidualDenseBlock(n_feats, growth, n_layers) for _ in range(n_blocks))
        self.fusion = nn.Conv2d(n_blocks * n_feats, n_feats, 1)
        self.body_end = nn.Conv2d(n_feats, n_feats, 3, padding=1)
        self.upsampler = sub_pixel_upsampler("RDN", n_feats, scale)
        self.tail = nn.Conv2d(n_feats, n_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C, scale·H, scale·W), both in [0, 1].

        Raises
        ------
        ShapeError, ArchitectureError
            If `x` is no float image (N, C, H, W), or not one of `n_channels` channels.
        """
        self.check_input(x)
        shallow = self.shallow1(x)
        features, made = self.shallow2(shallow), []
        for block in self.blocks:
            features = block(features)
            made.append(features)
        features = shallow + self.body_end(self.fusion(torch.cat(made, dim=1)))
        output: Tensor = self.tail(self.upsampler(features))
        return output

    def config(self) -> dict[str, Any]:
        """Return the arguments that build this network again, as plain values."""
        names = ("n_channels", "n_feats", "n_blocks", "n_layers", "growth", "scale")
        return {name: getattr(self, name) for name in names}

    @classmethod
    def detect(cls, state_dict: Mapping[str, Tensor]) -> bool:
        """Tell from the names of the weights whether they are those of an :class:`RDN`."""
        return {"shallow1.weight", "fusion.weight", "tail.weight"} <= state_dict.keys()

    @classmethod
    def infer_config(cls, state_dict: Mapping[str, Tensor]) -> dict[str, Any]:
        """Return the arguments of the constructor that fit these weights.

        Raises
        ------
        ArchitectureError
            If the first block is missing, a layer is no convolution, or the upsampler none that an :class:`RDN`
            can have.
        """
        names = ("shallow1.weight", "fusion.weight", "blocks.0.layers.0.weight")
        if any(name not in state_dict or state_dict[name].ndim != 4 for name in names):
            raise ArchitectureError("The weights look like RDN, but a layer is missing or no convolution")
        shallow, fusion, layer = (state_dict[name] for name in names)
        layers = {name for name in state_dict if name.startswith("blocks.0.layers.") and name.endswith(".weight")}
        return {
            "n_channels": shallow.shape[1],
            "n_feats": len(shallow),
            "n_blocks": fusion.shape[1] // len(shallow),
            "n_layers": len(layers),
            "growth": len(layer),
            "scale": sub_pixel_scale("RDN", state_dict, len(shallow)),
        }

    def start_as_interpolation(self, generator: torch.Generator | None = None) -> Self:
        """Initialise so that the network begins near linear interpolation.

        Raises
        ------
        ArchitectureError
            If there are fewer features than channels.
        """
        self._interpolate(self.shallow1, (self.body_end,), generator)
        return self


class ResidualDenseBlock(DenseBlock):
    """Dense layers, brought together by a 1 × 1 convolution and added to the input (fig. 3 of the paper)."""

    is_residual_block = True
