"""Modules of published packages as networks on images ``(N, C, H, W)``: their axes, sizes and edges."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_fidelity.core.errors import ArchitectureError
from napari_fidelity.networks.foreign import ForeignNetwork

if TYPE_CHECKING:
    from napari_fidelity.networks.info import ModelInfo


class InAxes(nn.Module):
    """A module whose tensors have their axes in another order, or some of them not at all.

    Parameters
    ----------
    module
        The module; of several outputs, the first counts.
    taken, made
        Letters of the axes of its input and of its output, some of ``bcyx``.
    one_by_one
        Whether it takes one image at a time.
    """

    def __init__(self, module: nn.Module, taken: str, made: str, *, one_by_one: bool) -> None:
        super().__init__()
        self.module, self.taken, self.made, self.one_by_one = module, taken, made, one_by_one

    def forward(self, y: Tensor) -> Tensor:
        """Return what it makes of ``(N, C, H, W)``, in the same order."""
        if self.one_by_one and len(y) > 1:
            return torch.cat([self(image) for image in torch.split(y, 1)])
        missing = tuple(place for place, axis in enumerate("bcyx") if axis not in self.taken)
        kept = [axis for axis in "bcyx" if axis in self.taken]
        x = self.module(y.squeeze(missing).permute([kept.index(axis) for axis in self.taken]))
        x = x[0] if isinstance(x, list | tuple) else x
        if not isinstance(x, Tensor) or x.ndim != len(self.made):
            found = f"shape {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
            raise ArchitectureError(f"The package promises an output of the axes {self.made}", found=found)
        x = x.permute([self.made.index(axis) for axis in "bcyx" if axis in self.made])
        for place, axis in enumerate("bcyx"):
            x = x if axis in self.made else x.unsqueeze(place)
        return x


class Sized(ForeignNetwork):
    """A module that takes images of ``least + k · step`` pixels, and makes less of them than all.

    Parameters
    ----------
    module
        ``(N, C, H, W)`` to ``(N, C, scale·H − 2·cropped, scale·W − 2·cropped)``.
    scale, n_channels, info
        As for :class:`ForeignNetwork`.
    least, step, square
        Heights and widths, and whether these must be the same.
    cropped
        Pixels that the output lacks at each edge, in y and x.
    halo
        Pixels at each edge of the output that are not to be used.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        scale: int,
        n_channels: int,
        info: ModelInfo,
        least: tuple[int, int],
        step: tuple[int, int],
        square: bool = False,
        cropped: tuple[int, int] = (0, 0),
        halo: tuple[int, int] = (0, 0),
    ) -> None:
        edges = [a + b for a, b in zip(cropped, halo, strict=True)]
        margins = (-(-edges[0] // scale), -(-edges[1] // scale))
        super().__init__(
            _WithMargin(module, scale, margins, cropped),
            scale=scale,
            n_channels=n_channels,
            info=info,
            square=square,
        )
        self.least, self.step, self.margins = least, step, margins

    def padded_size(self, height: int, width: int) -> tuple[int, int]:
        """Return the size that an image is padded to, without the margins that are added then."""
        sizes = [
            least - 2 * margin + max(0, -(-(size + 2 * margin - least) // step)) * step
            for size, least, step, margin in zip((height, width), self.least, self.step, self.margins, strict=True)
        ]
        return (max(sizes), max(sizes)) if self.square else (sizes[0], sizes[1])


class _WithMargin(nn.Module):
    """A module that is shown a mirrored margin, so that its output covers all of the image."""

    def __init__(self, module: nn.Module, scale: int, margins: tuple[int, int], cropped: tuple[int, int]) -> None:
        super().__init__()
        self.module, self.scale, self.margins, self.cropped = module, scale, margins, cropped

    def forward(self, y: Tensor) -> Tensor:
        if not any(self.margins):
            output: Tensor = self.module(y)
            return output
        (my, mx), (height, width) = self.margins, y.shape[2:]
        mirrored = min(mx, width - 1), min(my, height - 1)
        shown = F.pad(y, (mirrored[0], mirrored[0], mirrored[1], mirrored[1]), mode="reflect")
        rest = mx - mirrored[0], my - mirrored[1]
        x: Tensor = self.module(F.pad(shown, (rest[0], rest[0], rest[1], rest[1]), mode="replicate"))
        top, left = (self.scale * m - c for m, c in zip(self.margins, self.cropped, strict=True))
        return x[..., top : top + self.scale * height, left : left + self.scale * width]
