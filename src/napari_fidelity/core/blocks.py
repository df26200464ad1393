"""From images to tensors: block by block over time, depth and channels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_fidelity.core.arrays import Image
from napari_fidelity.core.errors import ImageError, NonFiniteError, ShapeError
from napari_fidelity.core.lazy import torch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from napari_fidelity.core.scaling import Scaling

Spatial = Literal["YX", "ZYX"]
Channels = Literal["joint", "each"]


@dataclass(frozen=True, eq=False)
class Block:
    """The part of an image that a method sees at once.

    Attributes
    ----------
    index
        Position in the image along the other axes, by letter: ``{"T": 0, "Z": 3}``.
    data
        A view of the intensities, ``(C, *spatial)``.
    axes
        Letters of its dimensions: ``"CYX"``, ``"SYX"``, ``"CZYX"`` or ``"SZYX"``.
    """

    index: Mapping[str, int]
    data: NDArray[Any]
    axes: str


def planes(image: Image, spatial: Spatial = "YX", channels: Channels = "joint") -> list[Block]:
    """Cut an image into the blocks a method runs over one by one; views, nothing is copied.

    Parameters
    ----------
    image
        Any image.
    spatial
        ``"YX"``: slice by slice; ``"ZYX"``: volume by volume.
    channels
        ``"joint"``: ``S``, or else ``C``, becomes the block's channel axis; ``"each"``: one block per channel.

    Returns
    -------
    list of Block
        In the order of the axes in the image.

    Raises
    ------
    ImageError
        If ``spatial`` is ``"ZYX"`` and the image has no ``Z``.
    """
    check_depth(image.axes, spatial)
    channel = channel_axis(image.axes, channels)
    others = [axis for axis in image.axes if axis not in spatial + channel]
    blocks = []
    for position in np.ndindex(*(image.sizes[axis] for axis in others)):
        index = dict(zip(others, position, strict=True))
        view = view_of(image.data, image.axes, index, channel, spatial)
        blocks.append(Block(index, view, (channel or "C") + spatial))
    return blocks


def check_depth(axes: str, spatial: Spatial) -> None:
    """Raise :class:`ImageError` if volumes are asked for and the image has no ``Z``."""
    if "Z" in spatial and "Z" not in axes:
        raise ImageError("The image has no depth (Z) to work on in 3-D", found=f"axes {axes}", do="Use YX")


def to_tensor(
    source: Image | Block | NDArray[Any],
    scaling: Scaling,
    device: torch.device | str = "cpu",
    *,
    spatial: Spatial = "YX",
    channels: Channels = "joint",
) -> torch.Tensor:
    """Scale intensities and hand them over as a tensor.

    Parameters
    ----------
    source
        A block; or an image, whose blocks are stacked along N; or an array, with the axes
        :func:`~napari_fidelity.core.arrays.guess_axes` finds.
    scaling
        Of the whole image; a block takes its own part of it.
    device
        Where the tensor is to lie.
    spatial, channels
        As for :func:`planes`; ignored for a block.

    Returns
    -------
    torch.Tensor
        float32, ``(N, C, *spatial)``, nominal range [0, 1]; N = 1 for a block.

    Raises
    ------
    NonFiniteError
        If the intensities are not finite, or not any more in float32.
    """
    if isinstance(source, Block):
        blocks = [source]
    else:
        image = source if isinstance(source, Image) else Image.from_array(source)
        blocks = planes(image, spatial, channels)
    scaled = np.stack([_scaled(block, scaling) for block in blocks])
    return torch.from_numpy(scaled).to(device)


def to_channel_last(tensor: torch.Tensor) -> NDArray[Any]:
    """Return the one image in a tensor as the metrics take it.

    Parameters
    ----------
    tensor
        ``(1, C, *spatial)`` on any device.

    Returns
    -------
    numpy.ndarray
        ``spatial`` for C = 1, else ``(*spatial, C)``; the tensor's dtype (bfloat16 becomes float32).

    Raises
    ------
    ShapeError
        If there is more than one image in the tensor.
    """
    if tensor.ndim < 3 or len(tensor) != 1:
        raise ShapeError("One image (1, C, *spatial) is needed", found=str(tuple(tensor.shape)))
    tensor = tensor.detach().cpu()
    array: NDArray[Any] = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()[0]
    return array[0] if len(array) == 1 else np.moveaxis(array, 0, -1)


def _scaled(block: Block, scaling: Scaling) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):
        scaled = scaling.at(block.index).apply(block.data, block.axes).astype(np.float32)
    if not np.isfinite(scaled).all():
        raise NonFiniteError(
            "The block holds values that are not numbers, or not any more in float32",
            found=f"{int((~np.isfinite(scaled)).sum())} of {scaled.size}",
            do="Mask them out as unobserved, or use another scaling, such as minmax",
        )
    return scaled


def channel_axis(axes: str, channels: Channels) -> str:
    """Return the letter of the axis that becomes the blocks' channel axis; none if there is no such axis."""
    if channels == "each":
        return ""
    return "S" if "S" in axes else "C" if "C" in axes else ""


def view_of(
    data: NDArray[Any], axes: str, index: Mapping[str, int], channel: str, spatial: Spatial
) -> NDArray[Any]:
    """Return the part ``(C, *spatial)`` of an array that lies at a position along its other axes; no copy.

    Parameters
    ----------
    data, axes
        The array, and the letters of its axes.
    index
        Position along those axes that are neither ``channel`` nor ``spatial``.
    channel
        Letter of the axis that becomes the first one; none for an axis of length 1.
    spatial
        The axes that follow.
    """
    part = data[tuple(index.get(axis, slice(None)) for axis in axes)]
    left = [axis for axis in axes if axis not in index]
    part = part.transpose([left.index(axis) for axis in channel + spatial])
    return part if channel else part[None]
