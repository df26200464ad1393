"""What a method is handed of the frames of an image, and what becomes of its answer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fidelity.core.blocks import to_tensor
from napari_fidelity.core.lazy import torch
from napari_fidelity.pipeline._arrays import Cut, together
from napari_fidelity.pipeline._outputs import clip
from napari_fidelity.pipeline._scaling import common_scaling

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import DTypeLike, NDArray

    from napari_fidelity.core.arrays import Image
    from napari_fidelity.core.blocks import Block
    from napari_fidelity.core.scaling import Scaling
    from napari_fidelity.core.step import Result
    from napari_fidelity.core.units import Unit
    from napari_fidelity.methods.base import LinearOperator
    from napari_fidelity.operators.noise import Noise
    from napari_fidelity.pipeline._outputs import Assembly, Images
    from napari_fidelity.pipeline.recipe import Recipe


@dataclass(frozen=True, eq=False)
class Frames:
    """The blocks of a run, and how those of a unit become tensors and images again.

    Attributes
    ----------
    recipe, image, operator, device
        Of the run.
    blocks
        All blocks of the image.
    scaling
        Of the whole image; every block takes its own part of it.
    assembly
        Puts images together.
    fold
        Whether the channels run through the network as a batch.
    seen
        For each block which pixels count; ``None`` for all.
    judged
        The result that a map is to judge, if not the recipe's own.
    """

    recipe: Recipe
    image: Image
    operator: LinearOperator
    device: torch.device
    blocks: Sequence[Block]
    scaling: Scaling
    assembly: Assembly
    fold: bool = False
    seen: Sequence[Block] | None = None
    judged: NDArray[Any] | None = None

    # -- what a method is handed ------------------------------------------------------------------------------

    def task(self, unit: Unit, seed: int) -> tuple[torch.Tensor, dict[str, Any]]:
        """Return the measurement of a unit, ``(N, C, *m)``, and what else :meth:`Method.steps` is told of it."""
        weights = None
        if self.seen is not None:
            seen = np.stack([self.seen[n].data.astype(np.float32) for n in unit.numbers])
            weights = self._folded(torch.from_numpy(seen).to(self.device))
        known = {"noise": self.noise(unit), "stop": self.recipe.stop, "weights": weights, "rng": seed}
        frames = [to_tensor(self.blocks[n], self.scaling, self.device) for n in unit.numbers]
        return self._folded(torch.cat(frames)), known

    def noise(self, unit: Unit) -> Noise | None:
        """Return the noise model as it is on the scale of the unit's frames.

        Raises
        ------
        OptionError
            If the frames have no scale in common.
        """
        if self.recipe.noise is None:
            return None
        own = common_scaling(self.scaling, [self.blocks[n].index for n in unit.numbers])
        return self.recipe.noise.rescale(float(own.offset.mean()), float(own.gain.mean()))

    def method(self, unit: Unit, y: torch.Tensor) -> Any:
        """Return the recipe's method with the images among its options cut for a unit, measured as ``y``."""
        shape, alone = partial(self._result_shape, y, unit), len(unit.numbers) == 1
        cuts = [
            Cut(self.recipe, self.image, block, self.scaling.at(block.index), shape, self.fold, alone)
            for block in (self.blocks[n] for n in unit.numbers)
        ]
        return together([cut.method(self.judged) for cut in cuts])

    def _folded(self, y: torch.Tensor) -> torch.Tensor:
        """Return frames ``(N, C, *n)`` as the network takes them: ``(N·C, 1, *n)`` if channels go one by one."""
        return y.reshape(-1, 1, *y.shape[2:]) if self.fold else y

    def _unfolded(self, x: torch.Tensor, unit: Unit) -> torch.Tensor:
        return x.reshape(len(unit.numbers), -1, *x.shape[2:]) if self.fold else x

    def _result_shape(self, y: torch.Tensor, unit: Unit) -> tuple[int, ...]:
        """Return the shape ``(C, *n)`` of the result that belongs to a frame."""
        from napari_fidelity.methods._start import image_shape  # not before it runs: it loads torch

        return image_shape(self._unfolded(y, unit), self.operator)[1:]

    # -- what becomes of its answer ---------------------------------------------------------------------------

    def add(self, images: Images, unit: Unit, result: Result[torch.Tensor]) -> None:
        """Put the unit's own frames where they belong."""
        image = self._unfolded(result.image, unit)[unit.own]
        maps = {name: self._unfolded(tensor, unit)[unit.own] for name, tensor in result.maps.items()}
        for at, number in enumerate(unit.kept()):
            parts = {name: tensor[at : at + 1] for name, tensor in maps.items()}
            images.add(self.blocks[number], image[at : at + 1], parts)

    def shown(self, estimate: Callable[[], torch.Tensor], unit: Unit) -> Image:
        """Return the image of the unit's own frames as a step has it."""
        tensor = self._unfolded(estimate(), unit)[unit.own]
        frames = [self._frame(self.blocks[n], tensor[at : at + 1]) for at, n in enumerate(unit.kept())]
        return clip(frames, self.image)

    def _frame(self, block: Block, tensor: torch.Tensor) -> Image:
        # A block that is an image of its own, which lies nowhere along other axes, is put together like any other.
        template = _part(self.image, block.index)
        scaling = self.scaling.at(block.index)
        return self.assembly.one(template, scaling, np.float32, replace(block, index={}), tensor)

    def snapshots(self, result: Result[torch.Tensor], unit: Unit, dtype: DTypeLike) -> dict[int, Image]:
        """Return the images that were kept of an image's only block."""
        return {
            index: self.assembly.one(self.image, self.scaling, dtype, self.blocks[0], self._unfolded(tensor, unit))
            for index, tensor in result.snapshots.items()
        }


def _part(image: Image, index: Mapping[str, int]) -> Image:
    """Return the part of an image at a position along some of its axes, without these axes; a view."""
    axes = "".join(axis for axis in image.axes if axis not in index)
    return image.replace(data=image.data[tuple(index.get(axis, slice(None)) for axis in image.axes)], axes=axes)
