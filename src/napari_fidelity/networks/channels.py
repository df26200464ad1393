"""Networks for one number of channels on images with another."""

from __future__ import annotations

import torch
from torch import nn

from napari_fidelity.core.errors import ArchitectureError


class GrayThroughRGB(nn.Module):
    """An RGB network on gray images: the image enters as three equal channels, the mean of the output counts.

    The mean, not one of the channels: an RGB network's outputs for a gray input differ a little in colour.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, y: torch.Tensor) -> torch.Tensor:
        """Restore ``(N, 1, H, W)``."""
        output: torch.Tensor = self.network(y.expand(-1, 3, -1, -1)).mean(dim=1, keepdim=True)
        return output

    @property
    def last_layer(self) -> nn.Module | None:
        """The inner network's last layer: the mean keeps the output affine in it."""
        layer = getattr(self.network, "last_layer", None)
        return layer if isinstance(layer, nn.Module) else None


class ChannelByChannel(nn.Module):
    """A network for gray images on any number of channels: each goes through it on its own."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, y: torch.Tensor) -> torch.Tensor:
        """Restore ``(N, C, H, W)``."""
        gray: torch.Tensor = self.network(y.reshape(-1, 1, *y.shape[2:]))
        return gray.reshape(*y.shape[:2], *gray.shape[2:])


def for_channels(network: nn.Module, n_channels: int) -> nn.Module:
    """Return the network, or one around it, that takes images with ``n_channels`` channels.

    Parameters
    ----------
    network
        A network; its attribute ``n_channels`` says what it was trained for (any number if it has none).
    n_channels
        Channels of the image.

    Raises
    ------
    ArchitectureError
        If the network needs more channels than a gray or an RGB image has.
    """
    trained = getattr(network, "n_channels", n_channels)
    if trained == n_channels:
        return network
    if trained not in (1, 3):
        raise ArchitectureError(
            f"The network takes images of {trained} channels", found=f"{n_channels}", do="Choose another model"
        )
    gray = network if trained == 1 else GrayThroughRGB(network)
    return gray if n_channels == 1 else ChannelByChannel(gray)
