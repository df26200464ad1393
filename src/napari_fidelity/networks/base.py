"""What every restoration network promises."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import Tensor, nn

from napari_fidelity.core.errors import ArchitectureError, ModelFileError, ShapeError
from napari_fidelity.networks.blocks import random_start
from napari_fidelity.networks.info import ModelInfo

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class RestorationNetwork(nn.Module, ABC):
    """A network ``x̂ = f(y)``: image ``(N, C, H, W)`` to ``(N, C, scale·H, scale·W)``, any H and W from 1.

    Intensities of input and output are floats of nominal range [0, 1]; the output is not clipped. A subclass
    is one file and one line in :mod:`napari_fidelity.networks.registry`. It calls :meth:`check_input` first
    thing in ``forward``, and what its constructor takes is plain values, all returned by :meth:`config`.

    Attributes
    ----------
    architecture
        Name in the registry, the same as the class's.
    scale
        Factor by which width and height grow.
    n_channels
        Channels of the input and of the output image.
    takes_noise_level
        Whether ``forward`` takes the standard deviation of the noise as a second argument.
    takes_operator
        Whether ``forward`` takes the image formation model as a second argument.
    frames
        Frames each frame is restored from; above 1, the batch axis of the input is time.
    """

    architecture: ClassVar[str]
    scale: int
    n_channels: int
    takes_noise_level: bool = False
    takes_operator: bool = False
    frames: int = 1
    _info: ModelInfo | None = None

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """Return the arguments, as plain values, that build a network of the same shape."""

    @classmethod
    @abstractmethod
    def detect(cls, state_dict: Mapping[str, Tensor]) -> bool:
        """Tell from the names of the weights whether they belong to this architecture."""

    @classmethod
    @abstractmethod
    def infer_config(cls, state_dict: Mapping[str, Tensor]) -> dict[str, Any]:
        """Return the arguments that build the network these weights belong to.

        Raises
        ------
        ArchitectureError
            If weights are missing or their shapes do not fit together.
        """

    @property
    def last_layer(self) -> nn.Conv2d | None:
        """The convolution to whose weight and bias the output is affine, if the network ends in one."""
        return None

    @property
    def info(self) -> ModelInfo:
        """What is known of the weights; what can be counted, for a network that was not loaded from a file."""
        if self._info is not None:
            return self._info
        count = sum(p.numel() for p in self.parameters())
        return ModelInfo("", self.architecture, self.scale, self.n_channels, count, frames=self.frames)

    @info.setter
    def info(self, info: ModelInfo) -> None:
        self._info = info

    def to_scale(self, scale: int) -> Self:
        """Return a network for another scale, made of the same trained layers and sharing no storage.

        Parameters
        ----------
        scale
            Factor the new network enlarges by.

        Raises
        ------
        ArchitectureError
            If this would need a layer that nobody trained; the reason is given.
        """
        if scale == self.scale:
            return copy.deepcopy(self)
        config, weights = self._rescaled(scale)
        with torch.random.fork_rng(devices=[]):
            network = type(self)(**config)
        network.load_weights(weights)
        like = next(self.parameters())
        network.to(like.device, like.dtype).train(self.training)
        network.info = replace(self.info, scale=scale)
        return network

    def _rescaled(self, scale: int) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Return config and weights of the network for another scale, or say why there is none."""
        raise ArchitectureError(
            f"{self.architecture} cannot be adapted to another scale",
            found=f"a network for ×{self.scale}, asked for ×{scale}",
            do="Use a network trained for the scale",
        )

    @classmethod
    def settings_for(cls, scale: int) -> dict[str, Any]:
        """Return those arguments of the constructor that make a network of this scale.

        Raises
        ------
        ArchitectureError
            If the architecture has one scale, and it is another.
        """
        own = getattr(cls, "scale", None)
        if own is None:
            return {"scale": scale}
        if own != scale:
            raise ArchitectureError(
                f"There is no {cls.architecture} for ×{scale}", do=f"Its scale is {own}: leave the scale out"
            )
        return {}

    def start_as_interpolation(self, generator: torch.Generator | None = None) -> Self:
        """Initialise for training, as near to an interpolation of the input as this architecture can begin.

        Here: random weights for rectifiers, the updates of residual blocks small.

        Parameters
        ----------
        generator
            Source of randomness on the CPU; torch's own one if left out.
        """
        random_start(self, generator)
        return self

    def check_input(self, x: Tensor) -> None:
        """Refuse what is not a float image ``(N, C, H, W)`` with this network's channels.

        Raises
        ------
        ShapeError
            If the number of dimensions is wrong, an axis is empty or the values are not floats.
        ArchitectureError
            If the number of channels is not the network's.
        """
        check_image(x, self.n_channels, self.architecture)

    @torch.no_grad()
    def load_weights(self, weights: Mapping[str, Any]) -> None:
        """Copy weights in, all or none of them; any float dtype is converted to the network's.

        Raises
        ------
        ArchitectureError
            If names are missing or unknown, or a shape or kind of number differs.
        ModelFileError
            If a weight is NaN or infinite.
        """
        own = self.state_dict()
        _check_names(self.architecture, own, weights)
        for name, tensor in own.items():
            _check_tensor(self.architecture, name, tensor, weights[name])
        for name, tensor in own.items():
            tensor.copy_(weights[name])


def check_image(x: Tensor, n_channels: int, architecture: str) -> None:
    """Refuse what is not a float image ``(N, C, H, W)`` of a network's channels.

    Raises
    ------
    ShapeError
        If the number of dimensions is wrong, an axis is empty or the values are not floats.
    ArchitectureError
        If the number of channels is not the network's.
    """
    if x.ndim != 4 or 0 in x.shape:
        raise ShapeError("A network needs a tensor (N, C, H, W) without empty axes", found=f"{tuple(x.shape)}")
    if not x.is_floating_point():
        raise ShapeError("A network needs floats of nominal range [0, 1]", found=str(x.dtype))
    if x.shape[1] != n_channels:
        raise ArchitectureError(
            f"This {architecture} network works on images of {_plural(n_channels, 'channel')}",
            found=f"an image of {_plural(x.shape[1], 'channel')}",
            do="Use a network for that number of channels, or convert the image",
        )


def _check_names(architecture: str, own: Mapping[str, Tensor], given: Mapping[str, Any]) -> None:
    missing = [name for name in own if name not in given]
    unknown = [name for name in given if name not in own]
    if missing or unknown:
        found = [f"{_names(missing)} missing"] if missing else []
        found += [f"{_names(unknown)} not known"] if unknown else []
        raise ArchitectureError(
            f"The weights do not fit the {architecture} network that their settings describe",
            found="; ".join(found),
            do="Check that the file belongs to this architecture and was saved whole",
        )


def _check_tensor(architecture: str, name: str, own: Tensor, given: Any) -> None:
    if not isinstance(given, Tensor) or given.layout is not torch.strided:
        raise ArchitectureError(f"The weight '{name}' is not an ordinary tensor", found=type(given).__name__)
    if given.shape != own.shape or given.is_floating_point() != own.is_floating_point():
        raise ArchitectureError(
            f"The weight '{name}' does not fit the {architecture} network that its settings describe",
            found=f"shape {tuple(given.shape)} of {given.dtype} instead of {tuple(own.shape)} of {own.dtype}",
            do="Check number of channels, features and scale of the model",
        )
    check_finite({name: given})


def check_finite(weights: Mapping[str, Tensor]) -> None:
    """Refuse weights that no training ends with.

    Raises
    ------
    ModelFileError
        If a value is NaN or infinite.
    """
    for name, tensor in weights.items():
        bad = int((~torch.isfinite(tensor)).sum())
        if bad:
            raise ModelFileError(
                f"The weight '{name}' is damaged", found=f"{bad} of {tensor.numel()} values NaN or infinite"
            )


def _names(names: Sequence[str], show: int = 3) -> str:
    text = ", ".join(f"'{name}'" for name in names[:show])
    return text if len(names) <= show else f"{text} and {len(names) - show} more"


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def check_integer(architecture: str, name: str, value: object, low: int, high: int) -> int:
    """Return a setting of an architecture if it is an integer from ``low`` to ``high``.

    Raises
    ------
    ArchitectureError
        If it is not: settings may come from a file that somebody else wrote.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ArchitectureError(
            f"{architecture}: '{name}' must be an integer from {low} to {high}", found=repr(value)
        )
    return value
