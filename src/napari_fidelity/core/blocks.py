"""From images to tensors and back: block by block over time, depth and channels."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_fidelity.core.arrays import Image
from napari_fidelity.core.errors import ImageError, NonFiniteError, ShapeError
from napari_fidelity.core.lazy import torch
from napari_fidelity.core.scaling import cast

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

    from napari_fidelity.core.scaling import Scaling

log = logging.getLogger(__name__)

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
    if "Z" in spatial and "Z" not in image.axes:
        raise ImageError("The image has no depth (Z) to work on in 3-D", found=f"axes {image.axes}", do="Use YX")
    channel = _channel_axis(image.axes, channels)
    others = [axis for axis in image.axes if axis not in spatial + channel]
    blocks = []
    for position in np.ndindex(*(image.sizes[axis] for axis in others)):
        index = dict(zip(others, position, strict=True))
        view = _view(image.data, image.axes, index, channel, spatial)
        blocks.append(Block(index, view, (channel or "C") + spatial))
    return blocks


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


def from_tensor(
    tensor: torch.Tensor,
    template: Image,
    scaling: Scaling,
    dtype: DTypeLike | Literal["input"] = "input",
    *,
    spatial: Spatial = "YX",
    channels: Channels = "joint",
    scale: float | Sequence[float] | None = None,
    shift: float | Sequence[float] = 0.0,
) -> tuple[Image, int]:
    """Undo :func:`to_tensor` for a result that may lie on another grid.

    Parameters
    ----------
    tensor
        ``(N, C, *spatial)``, one entry for each of the template's :func:`planes`.
    template
        The image the tensor came from.
    scaling, dtype, spatial, channels, scale, shift
        As for :class:`Assembler`.

    Returns
    -------
    image, saturated
        The image, and how many values had to be cut off at the ends of the dtype.

    Raises
    ------
    ShapeError
        If the tensor does not fit the template.
    NonFiniteError
        If the tensor holds NaN or infinity.
    """
    blocks = planes(template, spatial, channels)
    if len(tensor) != len(blocks):
        raise ShapeError(f"The image has {len(blocks)} blocks", found=f"a tensor of {len(tensor)}")
    assembler = Assembler(template, scaling, dtype, spatial=spatial, channels=channels, scale=scale, shift=shift)
    for block, part in zip(blocks, tensor, strict=True):
        assembler.add(block, part[None])
    return assembler.image(), assembler.saturated


class Assembler:
    """Put the results of blocks together to an image, one by one.

    Parameters
    ----------
    template
        The image the blocks were cut from; axes, unit and metadata are kept.
    scaling
        The scaling the blocks were scaled with; the result has the template's intensity units.
    dtype
        ``"input"``: the template's; or any other, ``"float32"``, ``"uint8"``, ``"uint16"`` say. Integers are
        rounded, and cut off only at the ends of the dtype.
    spatial, channels
        As given to :func:`planes`.
    scale
        How many times finer the result's grid is, for all spatial axes or each; by default the ratio of lengths.
    shift
        Where the result's first pixel area begins, in the template's pixels, for all spatial axes or each; both as
        :meth:`napari_fidelity.operators.Operator.grid` gives them.

    Attributes
    ----------
    saturated
        How many values were cut off so far.
    """

    def __init__(
        self,
        template: Image,
        scaling: Scaling,
        dtype: DTypeLike | Literal["input"] = "input",
        *,
        spatial: Spatial = "YX",
        channels: Channels = "joint",
        scale: float | Sequence[float] | None = None,
        shift: float | Sequence[float] = 0.0,
    ) -> None:
        self.saturated = 0
        self._template, self._scaling = template, scaling
        self._dtype = (template.dtype if dtype == "input" else np.dtype(dtype)).newbyteorder("=")
        self._spatial, self._channel = spatial, _channel_axis(template.axes, channels)
        self._scale = None if scale is None else _per_axis(scale, spatial)
        self._shift = _per_axis(shift, spatial)
        self._data: NDArray[Any] | None = None

    def add(self, block: Block, result: torch.Tensor) -> None:
        """Take the result of one block, ``(1, C, *spatial)``, scaled.

        Raises
        ------
        ShapeError
            If it does not fit the block or the results before it.
        NonFiniteError
            If it holds NaN or infinity.
        """
        scaled = result.detach().cpu().double().numpy()
        if scaled.ndim != len(block.axes) + 1 or scaled.shape[:2] != (1, len(block.data)):
            expected = f"(1, {len(block.data)}, {', '.join(self._spatial)})"
            raise ShapeError(f"The result of a block must have the shape {expected}", found=str(scaled.shape))
        values, saturated = cast(self._scaling.at(block.index).invert(scaled[0], block.axes), self._dtype)
        if self._data is None:
            sizes = self._template.sizes | dict(zip(self._spatial, scaled.shape[2:], strict=True))
            # A block that never comes must not pass for data, where the dtype has a word for that.
            self._data = np.full(list(sizes.values()), np.nan if self._dtype.kind == "f" else 0, self._dtype)
        view = _view(self._data, self._template.axes, block.index, self._channel, self._spatial)
        if view.shape != values.shape:
            raise ShapeError("The results of the blocks differ in shape", found=f"{values.shape} and {view.shape}")
        view[...] = values
        self.saturated += saturated

    def image(self) -> Image:
        """Return the image, with pixel size and origin of its own grid.

        A grid ``s`` times finer has pixels ``1/s`` the size, and its first pixel's centre lies ``(1/s − 1)/2`` of
        the old pixel size before the old one's.

        Raises
        ------
        ShapeError
            If no result was added.
        """
        if self._data is None:
            raise ShapeError("There is no result to make an image of")
        if self.saturated:
            share = 100 * self.saturated / self._data.size
            log.warning("%d values (%.3g %%) were cut off at the ends of %s", self.saturated, share, self._dtype)
        old, new = self._template, self._template.sizes
        after = dict(zip(old.axes, self._data.shape, strict=True))
        pixel_size, origin = dict(old.pixel_size), dict(old.origin)
        for axis in self._spatial:
            scale = after[axis] / new[axis] if self._scale is None else self._scale[axis]
            pixel_size[axis] = old.pixel_size[axis] / scale
            origin[axis] = old.origin[axis] + old.pixel_size[axis] * ((1 / scale - 1) / 2 + self._shift[axis])
        return old.replace(data=self._data, pixel_size=pixel_size, origin=origin)


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


def _channel_axis(axes: str, channels: Channels) -> str:
    if channels == "each":
        return ""
    return "S" if "S" in axes else "C" if "C" in axes else ""


def _view(data: NDArray[Any], axes: str, index: Mapping[str, int], channel: str, spatial: Spatial) -> NDArray[Any]:
    part = data[tuple(index.get(axis, slice(None)) for axis in axes)]
    left = [axis for axis in axes if axis not in index]
    part = part.transpose([left.index(axis) for axis in channel + spatial])
    return part if channel else part[None]


def _per_axis(value: float | Sequence[float], spatial: Spatial) -> dict[str, float]:
    values = list(value) if isinstance(value, Sequence) else [value] * len(spatial)
    if len(values) != len(spatial):
        raise ShapeError(f"One number for each of {spatial} is needed", found=f"{len(values)} numbers")
    return dict(zip(spatial, (float(v) for v in values), strict=True))
