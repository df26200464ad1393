"""A network that knows nothing of this package, as a model of a known scale and number of channels."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Self

import torch
from torch import nn
from torch.nn import functional

from napari_fidelity.core.errors import ArchitectureError

if TYPE_CHECKING:
    from napari_fidelity.networks.info import ModelInfo


class OwnNetwork(nn.Module):
    """A module around another one, which says what a restoration network says of itself.

    Parameters
    ----------
    module
        Maps ``(N, C, H, W)`` to ``(N, C, scale·H, scale·W)``. Its attributes ``last_layer``,
        ``takes_noise_level``, ``takes_operator`` and ``frames`` are those of this one, where it has them.
    scale, n_channels
        Factor by which it enlarges, and channels of the image.
    info
        What is known of it.
    size_multiple, smallest
        Width and height that it takes: multiples of a number, and not below another one. Images of other sizes
        are mirrored at their lower and right edges, and the result is cropped.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        scale: int,
        n_channels: int,
        info: ModelInfo,
        size_multiple: int = 1,
        smallest: int = 1,
    ) -> None:
        super().__init__()
        self.module = module
        self.scale, self.n_channels, self.info = scale, n_channels, info
        self.size_multiple, self.smallest = size_multiple, smallest
        self.takes_noise_level = bool(getattr(module, "takes_noise_level", False))
        self.takes_operator = bool(getattr(module, "takes_operator", False))
        self.frames = int(getattr(module, "frames", 1))

    @property
    def last_layer(self) -> nn.Module | None:
        """The layer to whose weights the output is affine, as far as the module says so."""
        layer = getattr(self.module, "last_layer", None)
        return layer if isinstance(layer, nn.Module) else None

    def forward(self, y: torch.Tensor, *given: object) -> torch.Tensor:
        """Restore ``(N, C, H, W)``; what else is given, such as the noise level, goes to the module.

        Raises
        ------
        ArchitectureError
            If the module does not give an image of the size that its scale and channels let expect.
        """
        height, width = (n * self.scale for n in y.shape[-2:])
        whole = _padded(_padded(y, 0, self._size(y.shape[-1])), 1, self._size(y.shape[-2]))
        x: torch.Tensor = self.module(whole, *given)
        expected = (len(y), self.n_channels, *(n * self.scale for n in whole.shape[2:]))
        if not isinstance(x, torch.Tensor) or x.shape != expected:
            found = f"{tuple(x.shape)}" if isinstance(x, torch.Tensor) else type(x).__name__
            raise ArchitectureError(
                f"'{self.info.id}' turned an image of shape {tuple(whole.shape)} into something else than one of "
                f"shape {expected}",
                found=found,
                do=f"Check its scale, ×{self.scale}, and its number of channels, {self.n_channels}",
            )
        return x[..., :height, :width]

    def to_scale(self, scale: int) -> Self:
        """Return a copy.

        Raises
        ------
        ArchitectureError
            If another scale than the network's own is asked for: nothing is known of its layers.
        """
        if scale != self.scale:
            raise ArchitectureError(
                f"'{self.info.id}' cannot be adapted to another scale",
                found=f"a network for ×{self.scale}, asked for ×{scale}",
                do="Use a network trained for the scale",
            )
        return copy.deepcopy(self)

    def _size(self, length: int) -> int:
        """Return the length to which an axis is extended."""
        return -(-max(length, self.smallest) // self.size_multiple) * self.size_multiple


def _padded(y: torch.Tensor, axis: int, length: int) -> torch.Tensor:
    """Return ``y`` extended at the end of its last (0) or last but one (1) axis; mirrored as often as needed."""
    while (missing := length - (n := y.shape[-1 - axis])) > 0:
        more = min(missing, n - 1) if n > 1 else missing
        pad = (0, 0, 0, more) if axis else (0, more, 0, 0)
        y = functional.pad(y, pad, "reflect" if n > 1 else "replicate")
    return y
