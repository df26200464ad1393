"""Networks that were made elsewhere, held to what our own ones promise: any size, no clipping, one scale."""

from __future__ import annotations

import copy
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_fidelity.core.errors import ArchitectureError
from napari_fidelity.core.foreign_code import no_exit
from napari_fidelity.networks.base import RestorationNetwork, check_image
from napari_fidelity.networks.reconstruction import ReconstructionNetwork

if TYPE_CHECKING:
    from napari_fidelity.networks.info import ModelInfo

_DRAWING = threading.RLock()  # on the process's random numbers; a network may run another one inside
_SEED = 0


class ForeignNetwork(nn.Module):
    """Any module ``(N, C, H, W)`` to ``(N, C, scale·H, scale·W)``, on images of any size.

    Images are padded at their lower and right edges, by reflection as far as it reaches and by repetition beyond,
    to the sizes that the module takes; its output is cropped. Intensities are left as they are.

    Parameters
    ----------
    module
        The network. Where it takes the noise level or the image formation model (``takes_noise_level``,
        ``takes_operator``), or is one for video (``frames``), so is this one.
    scale
        Factor by which width and height grow.
    n_channels
        Channels of the input and of the output image.
    info
        What is known of it; sizes and frames in it are filled in from here.
    size_multiple
        Width and height must be multiples of this.
    smallest
        Least width and height, in pixels.
    square
        Whether width and height must be the same.

    Attributes
    ----------
    last_layer_name
        Name in ``module`` of the convolution that the output follows one to one, where that has been verified
        (:func:`napari_fidelity.networks.probe.examined`).
    one_by_one
        Whether it runs on one image of a batch after the other: found likewise, where it must.
    takes_channels_last
        Whether it runs on images and weights whose channels lie together in memory: verified likewise.
    same_numbers
        Whether it is given the same random numbers each time: where it was found to draw some. Such networks run
        one after the other, and leave the process's random numbers as they were; what other threads draw of these
        meanwhile comes from the same seed.
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
        square: bool = False,
    ) -> None:
        super().__init__()
        self.module = module
        self.scale, self.n_channels = scale, n_channels
        frames = int(getattr(module, "frames", 1))
        self.info = replace(info, size_multiple=size_multiple, smallest=smallest, frames=frames)
        self.size_multiple, self.smallest, self.square = size_multiple, smallest, square
        self.takes_noise_level = bool(getattr(module, "takes_noise_level", False))
        self.takes_operator = bool(getattr(module, "takes_operator", False))
        self.frames = frames
        self.last_layer_name: str | None = None
        self.one_by_one = self.takes_channels_last = self.same_numbers = False

    @property
    def last_layer(self) -> nn.Conv2d | None:
        """The convolution to whose weight and bias the output is affine, where that has been verified."""
        if self.last_layer_name is None:
            return None
        layer = self.module.get_submodule(self.last_layer_name)
        return layer if isinstance(layer, nn.Conv2d) else None

    def forward(self, y: Tensor, given: Any = None) -> Tensor:
        """Restore ``(N, C, H, W)``, nominally in [0, 1]; the result is not clipped.

        Parameters
        ----------
        y
            Image.
        given
            Standard deviation of its noise, or its image formation model, for networks that take one of them.

        Raises
        ------
        ShapeError
            If `y` is no float image (N, C, H, W).
        ArchitectureError
            If it has another number of channels, or the network's output another size than it promised, or if the
            network tries to end the program.
        """
        check_image(y, self.n_channels, self.info.architecture)
        padded = self._padded(y if self.takes_channels_last else y.contiguous())
        output = self._run(padded, given)
        wanted = (*y.shape[:2], *(self.scale * size for size in padded.shape[2:]))
        if not isinstance(output, Tensor) or tuple(output.shape) != wanted:
            found = f"shape {tuple(output.shape)}" if isinstance(output, Tensor) else type(output).__name__
            raise ArchitectureError(
                f"The {self.info.architecture} network makes no image of {wanted[1]} channels, ×{self.scale}",
                found=f"{found} from {tuple(padded.shape)}",
                do="Use another model",
            )
        height, width = (self.scale * size for size in y.shape[2:])
        return output[..., :height, :width]

    def _run(self, y: Tensor, given: Any) -> Tensor:
        if self.one_by_one and len(y) > 1:
            each = isinstance(given, Tensor) and given.ndim > 0 and len(given) == len(y)
            parts = torch.split(given, 1) if each else [given] * len(y)
            return torch.cat([self._run(*pair) for pair in zip(torch.split(y, 1), parts, strict=True)])
        takes = given is not None and (self.takes_noise_level or self.takes_operator)
        arguments = (y, given) if takes else (y,)
        with no_exit(ArchitectureError, f"The {self.info.architecture} network"):
            if not self.same_numbers:
                output: Tensor = self.module(*arguments)
                return output
            with _DRAWING, torch.random.fork_rng(devices=[y.device] if y.is_cuda else []):
                torch.manual_seed(_SEED)
                output = self.module(*arguments)
            return output

    def padded_size(self, height: int, width: int) -> tuple[int, int]:
        """Return the size that an image is padded to."""
        multiple = self.size_multiple
        sizes = [-(-max(size, self.smallest) // multiple) * multiple for size in (height, width)]
        return (max(sizes), max(sizes)) if self.square else (sizes[0], sizes[1])

    def _padded(self, y: Tensor) -> Tensor:
        height, width = y.shape[2:]
        below, right = (n - m for n, m in zip(self.padded_size(height, width), (height, width), strict=True))
        if not below and not right:
            return y.clone()  # some networks scale their input in place
        mirrored = min(right, width - 1), min(below, height - 1)
        y = F.pad(y, (0, mirrored[0], 0, mirrored[1]), mode="reflect")
        return F.pad(y, (0, right - mirrored[0], 0, below - mirrored[1]), mode="replicate")

    def to_scale(self, scale: int) -> Self:
        """Return a copy that shares no storage, if it is already for that scale.

        Raises
        ------
        ArchitectureError
            If it is for another one.
        """
        if scale != self.scale:
            raise ArchitectureError(
                f"The {self.info.architecture} network cannot be adapted to another scale",
                found=f"a network for ×{self.scale}, asked for ×{scale}",
                do="Use a network trained for the scale",
            )
        with torch.no_grad():  # the copy of a TorchScript program would hang on the original's weights else
            return copy.deepcopy(self)


LoadedNetwork = RestorationNetwork | ForeignNetwork | ReconstructionNetwork
"""What :func:`napari_fidelity.load_model` returns."""
