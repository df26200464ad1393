"""The images among a method's options, block by block."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fidelity.core.assemble import result_axes
from napari_fidelity.core.blocks import view_of
from napari_fidelity.core.errors import NonFiniteError, ShapeError
from napari_fidelity.uncertainty.base import UncertaintyMap

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from napari_fidelity.core.arrays import Image
    from napari_fidelity.core.blocks import Block
    from napari_fidelity.core.scaling import Scaling
    from napari_fidelity.methods import Method
    from napari_fidelity.pipeline.recipe import Recipe

_WHAT = {"start": "image to start from", "image": "image to judge", "mask": "mask"}


@dataclass(frozen=True)
class Cut:
    """One block of a run, and how images on the result's grid are cut for it.

    Attributes
    ----------
    recipe, image
        Of the run: what to do, and the measurement.
    block, scaling
        The block, and its own scaling.
    shape
        Returns that of the block's result, ``(C, *n)``.
    fold
        Whether the channels run through the network as a batch.
    alone
        Whether the block is all that the method is handed. If not, images and masks have the batch first.
    """

    recipe: Recipe
    image: Image
    block: Block
    scaling: Scaling
    shape: Callable[[], Sequence[int]]
    fold: bool = False
    alone: bool = True

    def method(self, judged: NDArray[Any] | None = None) -> Any:
        """Return the recipe's method as it is run on the block.

        The images among its options (to start from, to judge, a mask) are those of the whole result, with its
        axes in the result's order, or of the result of one block, which then every block takes. All but masks are
        in the measurement's intensity units.

        Parameters
        ----------
        judged
            The image that a map is to judge, in place of the recipe's.

        Raises
        ------
        ShapeError
            If one of them has another shape.
        NonFiniteError
            If one has pixels in this block that are not finite.
        """
        return self._cut(self.recipe.method, {} if judged is None else {"image": judged})

    def _cut(self, method: Method, arrays: dict[str, NDArray[Any]]) -> Any:
        changes: dict[str, Any] = {}
        for name in _WHAT:
            array = arrays.get(name, getattr(method, name, None))
            if isinstance(array, np.ndarray):
                changes[name] = self._mask(array) if name == "mask" else self._scaled(name, array)
        if isinstance(method, UncertaintyMap):
            inner = self._cut(method.of, {})
            changes |= {} if inner is method.of else {"of": inner}
        return method.replace(**changes) if changes else method

    def _scaled(self, name: str, array: NDArray[Any]) -> NDArray[Any]:
        part = self._part(name, array)
        finite = np.isfinite(part)
        if not finite.all():
            where = ", ".join(f"{axis}={i}" for axis, i in self.block.index.items())
            raise NonFiniteError(
                f"The {_WHAT[name]} holds values that are not numbers{f' at {where}' if where else ''}",
                found=f"{int((~finite).sum())} of {finite.size}",
                do="Leave out what was not restored (a run that was stopped ends in empty slices), or mend it",
            )
        part = self.scaling.apply(part)
        if name != "image" or (self.alone and not self.fold):
            return part
        whole = np.broadcast_to(part, tuple(self.shape()))
        return whole[:, None] if self.fold else whole[None]  # one image for each of the batch

    def _mask(self, mask: NDArray[Any]) -> NDArray[Any]:
        """Return the part of a mask, which all channels share."""
        part = self._part("mask", mask)
        part = part.mean(axis=0) if part.ndim > len(self.recipe.spatial) else part
        batch = len(self.block.data) if self.fold else 1
        return part if self.alone else np.broadcast_to(part, (batch, *part.shape))

    def _part(self, name: str, array: NDArray[Any]) -> NDArray[Any]:
        shape, spatial = tuple(self.shape()), self.recipe.spatial
        axes, channel = result_axes(
            self.image.axes, self.recipe.channels_of(self.image), len(self.block.data), shape[0]
        )
        sizes = self.image.sizes | dict(zip(spatial, shape[1:], strict=True)) | {channel: shape[0]}
        whole = tuple(sizes[axis] for axis in axes)
        if array.shape == whole:
            return view_of(array, axes, self.block.index, channel, spatial)
        # gray will do for all channels of a start or a mask; as the image to judge it would be none of these
        gray = () if name == "image" and shape[0] > 1 else ((1, *shape[1:]), shape[1:])
        if array.shape in (shape, *gray):
            return array
        without = axes.replace(channel, "") if channel else axes
        if name == "mask" and array.shape == tuple(sizes[axis] for axis in without):
            return view_of(array, without, self.block.index, "", spatial)
        raise ShapeError(
            f"The {_WHAT[name]} must have the shape of the result, {whole} ({axes}), or of one block's, {shape}",
            found=str(array.shape),
            do="Give an image on the result's grid",
        )


def together(methods: Sequence[Any]) -> Any:
    """Return one method for several blocks from that of each (:meth:`Cut.method`), images and masks in a batch."""
    first = methods[0]
    if len(methods) == 1:
        return first
    parts: dict[str, list[Any]] = {name: [getattr(method, name, None) for method in methods] for name in _WHAT}
    changes: dict[str, Any] = {
        name: np.concatenate(arrays) for name, arrays in parts.items() if isinstance(arrays[0], np.ndarray)
    }
    if isinstance(first, UncertaintyMap):
        inner = together([method.of for method in methods])
        changes |= {} if inner is first.of else {"of": inner}
    return first.replace(**changes) if changes else first
