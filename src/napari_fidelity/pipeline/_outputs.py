"""The images that a run makes, each put together from blocks in its own units and on its own grid."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fidelity.core.assemble import Assembler
from napari_fidelity.core.scaling import Scaling
from napari_fidelity.operators.base import Operator
from napari_fidelity.pipeline.provenance import digest
from napari_fidelity.pipeline.recipe import outputs_of
from napari_fidelity.uncertainty.base import Output

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import torch
    from numpy.typing import DTypeLike

    from napari_fidelity.core.arrays import Image
    from napari_fidelity.core.blocks import Block, Channels
    from napari_fidelity.methods.base import LinearOperator
    from napari_fidelity.pipeline.recipe import Recipe

RESTORED = Output("Restored image", "intensity")


class Assembly:
    """Put the images of a run together.

    Parameters
    ----------
    recipe, operator
        Of the run.
    n_channels
        Of a block of the measurement.
    channels
        Whether the measurement's channels are blocks of their own.
    """

    def __init__(self, recipe: Recipe, operator: LinearOperator, n_channels: int, channels: Channels) -> None:
        self.spatial, self.operator = recipe.spatial, operator
        self.n_channels, self.channels = n_channels, channels
        self.outputs = outputs_of(recipe)
        self.main = next(iter(self.outputs), "")

    def assembler(self, template: Image, scaling: Scaling, dtype: DTypeLike, name: str = "") -> Assembler:
        """Return what puts one of the images together; without a name, the result.

        The data type asked for is that of intensities: differences have signs, and ratios are small.
        """
        output = self.outputs.get(name or self.main, RESTORED)
        return Assembler(
            template,
            in_units(scaling, output),
            dtype if output.quantity == "intensity" else np.float32,
            spatial=self.spatial,
            channels=self.channels,
            gaps=bool(self.outputs),  # of too few passes there is no spread; a restored image is always whole
            **self._place(template, output),
        )

    def one(
        self,
        template: Image,
        scaling: Scaling,
        dtype: DTypeLike,
        block: Block,
        tensor: torch.Tensor,
        name: str = "",
    ) -> Image:
        """Return the image of a single block."""
        assembler = self.assembler(template, scaling, dtype, name)
        assembler.add(block, tensor)
        return assembler.image()

    def _place(self, template: Image, output: Output) -> dict[str, Any]:
        """Return where the pixels lie."""
        if output.grid == "measurement":
            return {"scale": 1.0}
        # A foreign operator does not say where its pixels lie; the ratio of lengths is what there is to go by.
        if not isinstance(self.operator, Operator):
            return {}
        place: dict[str, Any] = {"n_channels": self.operator.image_channels(self.n_channels)}
        if not self.operator.shares_grid:
            return place | {"pixel_size": template.pixel_size["X"]}
        grid = self.operator.grid(len(self.spatial))
        return place | {"scale": grid.scale, "shift": grid.shift}


class Images:
    """All the images of a run over several blocks."""

    def __init__(self, assembly: Assembly, template: Image, scaling: Scaling, dtype: DTypeLike) -> None:
        self.assembly = assembly
        self._like = (template, scaling, dtype)
        self._result = assembly.assembler(*self._like)
        self._others: dict[str, Assembler] = {}

    def add(self, block: Block, result: torch.Tensor, maps: Mapping[str, torch.Tensor]) -> None:
        """Take what a block gave."""
        self._result.add(block, result)
        for name, tensor in maps.items():
            if name != self.assembly.main:
                if name not in self._others:
                    self._others[name] = self.assembly.assembler(*self._like, name)
                self._others[name].add(block, tensor)

    @property
    def saturated(self) -> int:
        """How many values were cut off at the ends of their data type."""
        return sum(one.saturated for one in (self._result, *self._others.values()))

    def finished(self, record: dict[str, Any]) -> tuple[Image, dict[str, Image]]:
        """Return the result and all maps by name; each holds the record, and which of the maps it is.

        The record is completed by what is known of the result only now.
        """
        outputs, main = self.assembly.outputs, self.assembly.main
        result = self._result.image()
        record |= {"saturated": self.saturated, "sha256": digest(result)}
        if not main:
            return with_record(result, record), {}
        images = {main: result} | {name: one.image() for name, one in self._others.items()}
        maps = {
            name: with_record(images[name], {**record, "output": described(name, outputs[name])})
            for name in outputs
            if name in images
        }
        return maps[main], maps


def clip(frames: Sequence[Image], template: Image) -> Image:
    """Return consecutive frames as one image, whose first axis is ``T``; a single one as it is.

    The template is the image that they are a part of.
    """
    first = frames[0]
    if len(frames) == 1:
        return first
    times = {axis: size for axis, size in template.pixel_size.items() if axis == "T"}
    data = np.stack([frame.data for frame in frames])
    return first.replace(data=data, axes="T" + first.axes, pixel_size={**first.pixel_size, **times})


def described(name: str, output: Output) -> dict[str, str]:
    """Return what one of a map's images is, as plain values."""
    return {"name": name, "title": output.title, "quantity": output.quantity}


def in_units(scaling: Scaling, output: Output) -> Scaling:
    """Return the scaling that brings an image of this kind to its units: differences have no offset."""
    if output.quantity == "intensity":
        return scaling
    if output.quantity == "plain":
        return Scaling()
    return scaling.replace(offset=np.zeros_like(scaling.offset))


def with_record(image: Image, record: Mapping[str, Any]) -> Image:
    """Return an image whose metadata hold what it was made from."""
    return image.replace(metadata={**image.metadata, "napari-fidelity": dict(record)})
