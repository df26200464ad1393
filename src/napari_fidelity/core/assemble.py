"""From tensors back to images: the results of blocks put together, on the grid that they lie on."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_fidelity.core.blocks import channel_axis, planes, view_of
from napari_fidelity.core.errors import ImageError, ShapeError
from napari_fidelity.core.scaling import cast

if TYPE_CHECKING:
    import torch
    from numpy.typing import DTypeLike, NDArray

    from napari_fidelity.core.arrays import Image
    from napari_fidelity.core.blocks import Block, Channels, Spatial
    from napari_fidelity.core.scaling import Scaling

log = logging.getLogger(__name__)


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
    pixel_size
        For a result that does not share the template's grid: its pixel size along all spatial axes, which begin at
        the origin; ``scale`` and ``shift`` then say nothing.
    n_channels
        Channels of the result of a block, if not the block's; :func:`result_axes` tells what becomes of the axes.
    gaps
        Whether values that are not finite become NaN (0 in integers); if not, they are refused.

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
        pixel_size: float | None = None,
        n_channels: int | None = None,
        gaps: bool = False,
    ) -> None:
        self.saturated = 0
        self._gaps = gaps
        self._template, self._scaling = template, scaling
        self._dtype = (template.dtype if dtype == "input" else np.dtype(dtype)).newbyteorder("=")
        self._spatial = spatial
        before = template.sizes.get(channel_axis(template.axes, channels), 1)
        self._n_channels = before if n_channels is None else n_channels
        self._axes, self._channel = result_axes(template.axes, channels, before, self._n_channels)
        self._scale = None if scale is None else _per_axis(scale, spatial)
        self._shift = _per_axis(shift, spatial)
        self._pixel_size = pixel_size
        self._data: NDArray[Any] | None = None

    def add(self, block: Block, result: torch.Tensor) -> None:
        """Take the result of one block, ``(1, C, *spatial)``, scaled.

        Raises
        ------
        ShapeError
            If it does not fit the block or the results before it.
        NonFiniteError
            If it holds NaN or infinity and there are to be no gaps.
        """
        scaled = result.detach().cpu().double().numpy()
        if scaled.ndim != len(block.axes) + 1 or scaled.shape[:2] != (1, self._n_channels):
            expected = f"(1, {self._n_channels}, {', '.join(self._spatial)})"
            raise ShapeError(f"The result of a block must have the shape {expected}", found=str(scaled.shape))
        values = self._scaling.at(block.index).invert(scaled[0], block.axes)
        missing = ~np.isfinite(values) if self._gaps else np.zeros((), bool)
        values, saturated = cast(np.where(missing, 0, values), self._dtype)
        if missing.any() and self._dtype.kind == "f":
            values[missing] = np.nan
        if self._data is None:
            sizes = self._template.sizes | dict(zip(self._spatial, scaled.shape[2:], strict=True))
            sizes[self._channel] = self._n_channels
            # A block that never comes must not pass for data, where the dtype has a word for that.
            shape = [sizes[axis] for axis in self._axes]
            self._data = np.full(shape, np.nan if self._dtype.kind == "f" else 0, self._dtype)
        view = view_of(self._data, self._axes, block.index, self._channel, self._spatial)
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
        sizes, origin = self._place(dict(zip(self._axes, self._data.shape, strict=True)))
        return self._template.replace(data=self._data, axes=self._axes, pixel_size=sizes, origin=origin)

    def _place(self, after: dict[str, int]) -> tuple[dict[str, float], dict[str, float]]:
        """Return pixel size and origin of a result with axes of these lengths."""
        old, before = self._template, self._template.sizes
        pixel_size, origin = dict(old.pixel_size), dict(old.origin)
        for axis in self._spatial:
            if self._pixel_size is not None:
                pixel_size[axis], origin[axis] = self._pixel_size, 0.0
                continue
            scale = after[axis] / before[axis] if self._scale is None else self._scale[axis]
            pixel_size[axis] = old.pixel_size[axis] / scale
            origin[axis] = old.origin[axis] + old.pixel_size[axis] * ((1 / scale - 1) / 2 + self._shift[axis])
        return pixel_size, origin


def result_axes(axes: str, channels: Channels, before: int, after: int) -> tuple[str, str]:
    """Return the axes of an image whose blocks' results have another number of channels, and their channel axis.

    Parameters
    ----------
    axes
        Of the image that the blocks were cut from.
    channels
        As given to :func:`~napari_fidelity.core.blocks.planes`.
    before, after
        Channels of a block, and of its result. A single one needs no axis; where there was none, ``C`` comes
        before the first of ``Y`` and ``X``; samples (``S``) that are not three any more become channels (``C``).

    Raises
    ------
    ImageError
        If the image has a channel axis already that is none of the blocks'.
    """
    channel = channel_axis(axes, channels)
    if before == after:
        return axes, channel
    if channel == "C" and after > 1:
        return axes, channel
    left = axes.replace(channel, "") if channel else axes
    if after == 1:
        return left, ""
    if "C" in left or "S" in left:
        raise ImageError(
            f"The result has {after} channels for each of the image's own",
            found=f"axes {axes}",
            do="Work on one of these channels",
        )
    if channel:
        return axes.replace(channel, "C"), "C"
    first = min(axes.index("Y"), axes.index("X"))
    return axes[:first] + "C" + axes[first:], "C"


def _per_axis(value: float | Sequence[float], spatial: Spatial) -> dict[str, float]:
    values = list(value) if isinstance(value, Sequence) else [value] * len(spatial)
    if len(values) != len(spatial):
        raise ShapeError(f"One number for each of {spatial} is needed", found=f"{len(values)} numbers")
    return dict(zip(spatial, (float(v) for v in values), strict=True))
