"""Networks that need more than the image: other channels, another range of intensities, the operator."""

from __future__ import annotations

import copy
import inspect
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from napari_fidelity.core.errors import ArchitectureError, OperatorError
from napari_fidelity.core.foreign_code import is_physics

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

    @property
    def last_layer(self) -> nn.Module | None:
        """The layer that the inner network names: means and changes of units keep the output affine in it."""
        layer = getattr(self.network, "last_layer", None)
        return layer if isinstance(layer, nn.Module) else None


def innermost(network: object) -> Any:
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


class WithOperator(_Around):
    """A network ``f(y, A)`` on the measurements of one image formation model: ``f(y)``.

    The network is handed ``A`` as a ``deepinv.physics.LinearPhysics`` for images of the size that belongs to the
    measurement at hand, so a smaller measurement is one of the same operator. Images whose number of channels it
    does not know run through it channel by channel.

    Parameters
    ----------
    network
        The network.
    operator
        One of our operators, or a ``deepinv.physics.LinearPhysics``, of which a copy is made: such objects change
        while they are applied.
    noise
        Noise model in the units of the measurement; ``None`` for unknown. A physics keeps its own one then.
    """

    def __init__(self, network: nn.Module, operator: Any, noise: Any = None) -> None:
        super().__init__(network)
        self.takes_noise_level = False  # it is told by the operator
        self.noise = noise
        ours = hasattr(operator, "to_deepinv")
        # in a tuple: a physics is a module, but no part of the network that could be tuned
        self._operator = (operator if ours else copy.deepcopy(operator),)
        if not ours and noise is not None:
            self.operator.set_noise_model(noise.to_deepinv())
        self.train(network.training)

    @property
    def operator(self) -> Any:
        """The image formation model."""
        return self._operator[0]

    def forward(self, y: torch.Tensor, sigma: float | torch.Tensor | None = None) -> torch.Tensor:
        """Restore ``(N, C, *m)``; `sigma` is not looked at."""
        planes = y.reshape(-1, 1, *y.shape[2:]) if self._one_by_one(y.shape[1]) else y
        x: torch.Tensor = self.network(planes, self._physics(planes))
        return x if planes is y else x.reshape(*y.shape[:2], *x.shape[2:])

    def with_noise(self, noise: Any) -> WithOperator:
        """Return the same network bound to the same operator, for measurements with another noise."""
        return WithOperator(self.network, self.operator, noise)

    def _physics(self, y: torch.Tensor) -> Any:
        own = hasattr(self.operator, "to_deepinv")
        return self.operator.to_deepinv(y, self.noise) if own else self.operator.to(y.device)

    def _one_by_one(self, channels: int) -> bool:
        """Tell whether the network has no part for so many channels; two are a complex image where it has."""
        known = getattr(self.network, "in_channels", None)
        return isinstance(known, list | tuple) and (channels == 2 or channels not in known)


def takes_operator(network: object) -> bool:
    """Tell whether a network is one ``f(y, A)``: it says so, or its ``forward`` has an argument ``physics``."""
    told = getattr(network, "takes_operator", None)
    if told is not None or not isinstance(network, nn.Module):
        return bool(told)
    return "physics" in inspect.signature(network.forward).parameters


def for_operator(network: Any, operator: Any, noise: Any = None) -> Any:
    """Return the network, or one around it, that takes measurements of an image formation model alone.

    Parameters
    ----------
    network
        Any network; one that does not take the operator (:func:`takes_operator`) is returned as it is.
    operator
        The image formation model.
    noise
        Noise model in the units of the measurements; ``None`` for unknown.

    Raises
    ------
    OperatorError
        If the network takes the operator, and this one is none of ours nor of deepinv's.
    ArchitectureError
        If it was trained on another range of intensities than [0, 1]: the operator need not keep another one.
    """
    if not takes_operator(network):
        return network
    if not hasattr(operator, "to_deepinv") and not is_physics(operator):
        raise OperatorError(
            f"{type(network).__name__} is told the image formation model, and does not understand this one",
            found=type(getattr(operator, "operator", operator)).__name__,  # not the one around it
            do="Use an operator of this package, a deepinv.physics.LinearPhysics, or a network that takes the "
            "measurement alone",
        )
    if for_unit_range(network) is not network:
        raise ArchitectureError(
            f"{type(network).__name__} takes the image formation model, but intensities of another range",
            found=f"{network.info.value_range}",
            do="Wrap it so that it works on [0, 1]",
        )
    return WithOperator(network, operator, noise)


def is_bound(network: object) -> bool:
    """Tell whether a network, or one inside it, is bound to an operator."""
    while network is not None and not isinstance(network, WithOperator):
        network = getattr(network, "network", None)
    return network is not None
