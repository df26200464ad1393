"""SRResNet, which trained as the generator of a GAN is SRGAN.

Ledig et al., "Photo-Realistic Single Image Super-Resolution Using a Generative Adversarial Network", CVPR 2017,
arXiv:1609.04802. Scale surgery after Lucas et al. 2020.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Self

from torch import nn

from napari_fidelity.core.errors import ArchitectureError
from napari_fidelity.networks.base import check_integer
from napari_fidelity.networks.upsamplers import SubPixelNetwork, sub_pixel_scale, sub_pixel_upsampler

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch
    from torch import Tensor


class SRResNet(SubPixelNetwork):
    """SRResNet: residual blocks with batch normalisation, a long skip, sub-pixel stages, a 9 × 9 tail.

    Maps images (N, C, H, W) in [0, 1] to (N, C, scale·H, scale·W), nominally in [0, 1] and not clipped; any size
    from 1 × 1 in evaluation mode. The defaults are the published ×4 network with 1.5 million parameters; each
    parametric rectifier has one slope for all its features. The tail is nine times as large as a 3 × 3 one: its
    closed form takes seconds an iteration, which ``FineTune(last_layer="descend")`` spares.

    Parameters
    ----------
    n_channels
        Channels of the image.
    n_feats
        Features of every layer.
    n_blocks
        Residual blocks.
    scale
        1, 2, 3, 4 or 8.

    Raises
    ------
    ArchitectureError
        If a setting is out of its range.
    """

    architecture: ClassVar[str] = "SRResNet"

    def __init__(self, n_channels: int = 3, n_feats: int = 64, n_blocks: int = 16, scale: int = 4) -> None:
        super().__init__()
        self.n_channels = check_integer("SRResNet", "n_channels", n_channels, 1, 64)
        self.n_feats = check_integer("SRResNet", "n_feats", n_feats, 1, 2048)
        self.n_blocks = check_integer("SRResNet", "n_blocks", n_blocks, 0, 512)
        self.scale = check_integer("SRResNet", "scale", scale, 1, 8)
        self.entry = nn.Conv2d(n_channels, n_feats, 9, padding=4)
        self.entry_act = nn.PReLU()
        self.blocks = nn.Sequential(*(NormalisedBlock(n_feats) for _ in range(n_blocks)))
        self.body_end = nn.Conv2d(n_feats, n_feats, 3, padding=1)
        self.body_norm = nn.BatchNorm2d(n_feats)
        self.upsampler = sub_pixel_upsampler("SRResNet", n_feats, scale, nn.PReLU)
        self.tail = nn.Conv2d(n_feats, n_channels, 9, padding=4)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C, scale·H, scale·W), both in [0, 1].

        Raises
        ------
        ShapeError, ArchitectureError
            If `x` is no float image (N, C, H, W), or not one of `n_channels` channels.
        """
        self.check_input(x)
        features = self.entry_act(self.entry(x))
        features = features + self.body_norm(self.body_end(self.blocks(features)))
        output: Tensor = self.tail(self.upsampler(features))
        return output

    def config(self) -> dict[str, Any]:
        """Return the arguments that build this network again, as plain values."""
        return {name: getattr(self, name) for name in ("n_channels", "n_feats", "n_blocks", "scale")}

    @classmethod
    def detect(cls, state_dict: Mapping[str, Tensor]) -> bool:
        """Tell from the names of the weights whether they are those of an :class:`SRResNet`."""
        return {"entry.weight", "body_norm.weight", "tail.weight"} <= state_dict.keys()

    @classmethod
    def infer_config(cls, state_dict: Mapping[str, Tensor]) -> dict[str, Any]:
        """Return the arguments of the constructor that fit these weights.

        Raises
        ------
        ArchitectureError
            If the first layer is no convolution, or the upsampler none that an :class:`SRResNet` can have.
        """
        entry = state_dict["entry.weight"]
        if entry.ndim != 4:
            raise ArchitectureError("The weight 'entry.weight' is no convolution", found=f"{tuple(entry.shape)}")
        return {
            "n_channels": entry.shape[1],
            "n_feats": len(entry),
            "n_blocks": len({name.split(".")[1] for name in state_dict if name.startswith("blocks.")}),
            "scale": sub_pixel_scale("SRResNet", state_dict, len(entry)),
        }

    def start_as_interpolation(self, generator: torch.Generator | None = None) -> Self:
        """Initialise so that the network begins near linear interpolation.

        Raises
        ------
        ArchitectureError
            If there are fewer features than channels.
        """
        self._interpolate(self.entry, (self.body_norm,), generator)
        return self


class NormalisedBlock(nn.Module):
    """``x + norm(conv(prelu(norm(conv(x)))))`` on features."""

    is_residual_block = True

    def __init__(self, n_feats: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(n_feats, n_feats, 3, padding=1)
        self.norm1 = nn.BatchNorm2d(n_feats)
        self.act = nn.PReLU()
        self.conv2 = nn.Conv2d(n_feats, n_feats, 3, padding=1)
        self.norm2 = nn.BatchNorm2d(n_feats)

    def forward(self, x: Tensor) -> Tensor:
        """Map features (N, F, H, W) to features of the same shape."""
        refined: Tensor = x + self.norm2(self.conv2(self.act(self.norm1(self.conv1(x)))))
        return refined
