"""Networks on images that are not as they expect: other channels, another range of intensities."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from napari_fidelity.core.errors import ArchitectureError

if TYPE_CHECKING:
    from collections.abc import Callable


def call_at_level(
    network: Callable[..., torch.Tensor], y: torch.Tensor, sigma: float | torch.Tensor | None
) -> torch.Tensor:
    """Return ``f(y, σ)`` of a network that takes the noise level and is told one, and ``f(y)`` of any other."""
    told = sigma is not None and getattr(network, "takes_noise_level", False)
    return network(y, sigma) if told else network(y)


class _Around(nn.Module):
    """A network around another one, which takes the noise level if that one does."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.takes_noise_level = bool(getattr(network, "takes_noise_level", False))
        self.frames = int(getattr(network, "frames", 1))


def innermost(network: object) -> object:
    """Return the network inside of such adapters; it knows its scale and what it was trained for."""
    while isinstance(network, _Around):
        network = network.network
    return network


class GrayThroughRGB(_Around):
    """An RGB network on gray images: the image enters as three equal channels, the mean of the output counts.

    The mean, not one of the channels: an RGB network's outputs for a gray input differ a little in colour.
    """

    def forward(self, y: torch.Tensor, sigma: float | torch.Tensor | None = None) -> torch.Tensor:
        """Restore ``(N, 1, H, W)``; `sigma` is for networks that take the noise level."""
        return call_at_level(self.network, y.expand(-1, 3, -1, -1), sigma).mean(dim=1, keepdim=True)

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


class InRange(_Around):
    """A network that was trained on another range of intensities than [0, 1], put on [0, 1]."""

    def __init__(self, network: nn.Module, low: float, high: float) -> None:
        super().__init__(network)
        self.low, self.extent = low, high - low
        if hasattr(network, "n_channels"):
            self.n_channels = network.n_channels

    def forward(self, y: torch.Tensor, sigma: float | torch.Tensor | None = None) -> torch.Tensor:
        """Restore ``(N, C, H, W)`` in [0, 1]; `sigma` is for networks that take the noise level, on that scale."""
        level = None if sigma is None else sigma * self.extent
        output = call_at_level(self.network, y * self.extent + self.low, level)
        return (output - self.low) / self.extent


def for_unit_range(network: nn.Module) -> nn.Module:
    """Return the network, or one around it, that works on [0, 1]; ``info.value_range`` says what it expects."""
    low, high = getattr(getattr(network, "info", None), "value_range", (0.0, 1.0))
    return network if (low, high) == (0.0, 1.0) else InRange(network, low, high)
