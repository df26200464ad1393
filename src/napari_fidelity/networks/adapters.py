"""Networks on images that are not as they expect: other channels, another range of intensities."""

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


def for_gray(network: nn.Module) -> nn.Module:
    """Return the network, or one around it, that takes images with one channel.

    Parameters
    ----------
    network
        A network; its attribute ``n_channels`` says what it was trained for.

    Raises
    ------
    ArchitectureError
        If it was trained for anything but gray or RGB images.
    """
    trained = getattr(network, "n_channels", 1)
    if trained not in (1, 3):
        raise ArchitectureError(
            f"The network takes images of {trained} channels, not one by one", do="Choose another model"
        )
    return network if trained == 1 else GrayThroughRGB(network)


class InRange(nn.Module):
    """A network that was trained on another range of intensities than [0, 1], put on [0, 1]."""

    def __init__(self, network: nn.Module, low: float, high: float) -> None:
        super().__init__()
        self.network, self.low, self.extent = network, low, high - low
        if hasattr(network, "n_channels"):
            self.n_channels = network.n_channels

    def forward(self, y: torch.Tensor) -> torch.Tensor:
        """Restore ``(N, C, H, W)`` in [0, 1]."""
        output: torch.Tensor = (self.network(y * self.extent + self.low) - self.low) / self.extent
        return output


def for_unit_range(network: nn.Module) -> nn.Module:
    """Return the network, or one around it, that works on [0, 1]; ``info.value_range`` says what it expects."""
    low, high = getattr(getattr(network, "info", None), "value_range", (0.0, 1.0))
    return network if (low, high) == (0.0, 1.0) else InRange(network, low, high)
