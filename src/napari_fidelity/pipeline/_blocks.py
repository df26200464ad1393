"""A recipe over the blocks of an image, one after the other."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fidelity.core.assemble import Assembler
from napari_fidelity.core.blocks import Block, planes, to_tensor
from napari_fidelity.core.device import is_out_of_memory
from napari_fidelity.core.errors import MemoryNeededError
from napari_fidelity.core.lazy import torch
from napari_fidelity.core.scaling import fit_scaling
from napari_fidelity.core.step import Result, Step
from napari_fidelity.operators.base import Operator
from napari_fidelity.pipeline.provenance import provenance

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

    from numpy.typing import DTypeLike

    from napari_fidelity.core.arrays import Image
    from napari_fidelity.core.scaling import Scaling
    from napari_fidelity.methods.base import LinearOperator, Network
    from napari_fidelity.pipeline.recipe import Recipe

    Steps = Generator[Step[Image], str | None, Result[Image]]


class BlockRun:
    """One restoration of one image: slice by slice, time point by time point."""

    def __init__(
        self,
        recipe: Recipe,
        image: Image,
        observed: np.ndarray[Any, Any] | None,
        network: Network | None,
        operator: LinearOperator,
        device: torch.device,
    ) -> None:
        self.recipe, self.image, self.operator, self.device = recipe, image, operator, device
        self.scaling = fit_scaling(image, recipe.scaling, recipe.scope, channels=recipe.channels)
        self.blocks = planes(image, "YX", recipe.channels)
        self.ends = recipe.last_iterations
        self.network, self.fold = adapted(network, len(self.blocks[0].data))
        self.seen = None
        if observed is not None and not observed.all():
            self.seen = planes(image.replace(data=observed.astype(np.uint8)), "YX", recipe.channels)

    def _folded(self, y: torch.Tensor) -> torch.Tensor:
        return y.movedim(1, 0).contiguous() if self.fold else y

    def _unfolded(self, x: torch.Tensor) -> torch.Tensor:
        return x.movedim(0, 1) if self.fold else x

    def steps(self, dtype: DTypeLike, started: float) -> Steps:
        """Yield the steps of every block; return the assembled image."""
        assembler = self._assembler(self.image, self.scaling, dtype)
        results: list[Result[torch.Tensor]] = []
        asked = ""
        for number, block in enumerate(self.blocks[: len(self.ends or self.blocks)]):
            try:
                result, asked = yield from self._block(number, block)
            except (RuntimeError, MemoryError) as error:
                raise _named(error, self.device, block) from error
            assembler.add(block, self._unfolded(result.image))
            kept = result.snapshots if len(self.blocks) == 1 else {}
            results.append(replace(result, image=torch.empty(0), snapshots=kept))
            if asked:
                break
        seconds = time.perf_counter() - started
        record = provenance(self.recipe, results, self.device, seconds, len(self.blocks), asked=bool(asked))
        record["saturated"] = assembler.saturated
        history = tuple(replace(entry, block=n) for n, result in enumerate(results) for entry in result.history)
        snapshots = self._snapshots(results[0], dtype) if len(self.blocks) == 1 else {}
        reason = _reason(results, len(self.blocks))
        return Result(_with_record(assembler.image(), record), history, reason, seconds, record, snapshots)

    def _block(
        self, number: int, block: Block
    ) -> Generator[Step[Image], str | None, tuple[Result[torch.Tensor], str]]:
        y = self._folded(to_tensor(block, self.scaling, self.device))
        own = self.scaling.at(block.index)
        noise = self.recipe.noise
        weights = None
        if self.seen is not None:
            weights = self._folded(
                torch.from_numpy(self.seen[number].data.astype(np.float32))[None].to(self.device)
            )
        inner = self.recipe.method.steps(
            y,
            self.operator,
            self.network,
            noise=None if noise is None else noise.rescale(float(own.offset.mean()), float(own.gain.mean())),
            stop=self.recipe.stop,
            weights=weights,
            rng=self.recipe.seed + number,
        )
        asked = reply = None
        try:
            while True:
                step = inner.send(reply) if reply is not None else next(inner)
                reply = yield self._step(step, number, block)
                asked = asked or reply
                reply = reply or self._ended(number, step)
        except StopIteration as end:
            return end.value, asked or ""
        finally:
            inner.close()

    def _ended(self, number: int, step: Step[torch.Tensor]) -> str | None:
        """Return a reason to stop where the run that the recipe replays was ended."""
        at_the_end = step.total is not None and step.index + 1 >= step.total
        if self.ends is None or at_the_end or step.index < self.ends[number]:
            return None
        return f"ended at iteration {step.index}, as in the recipe"

    def _assembler(self, template: Image, scaling: Scaling, dtype: DTypeLike) -> Assembler:
        # A foreign operator does not say where its pixels lie; the ratio of lengths is what there is to go by.
        grid = self.operator.grid(2) if isinstance(self.operator, Operator) else None
        return Assembler(
            template,
            scaling,
            dtype,
            channels=self.recipe.channels,
            scale=None if grid is None else grid.scale,
            shift=0.0 if grid is None else grid.shift,
        )

    def _step(self, step: Step[torch.Tensor], number: int, block: Block) -> Step[Image]:
        """Return a method's step as one of the whole image's, whose estimate is an image of the block."""
        estimate = partial(self._shown, step.estimate, block)
        blocks = len(self.blocks)
        return Step(
            step.index, step.total, step.loss, step.scores, estimate, step.seconds, number, blocks, block.index
        )

    def _shown(self, estimate: Callable[[], torch.Tensor], block: Block) -> Image:
        # A block that is an image of its own, which lies nowhere along other axes, is put together like any other.
        template = _part(self.image, block.index)
        whole = replace(block, index={})
        assembler = self._assembler(template, self.scaling.at(block.index), np.float32)
        assembler.add(whole, self._unfolded(estimate()))
        return assembler.image()

    def _snapshots(self, result: Result[torch.Tensor], dtype: DTypeLike) -> dict[int, Image]:
        images = {}
        for index, tensor in result.snapshots.items():
            assembler = self._assembler(self.image, self.scaling, dtype)
            assembler.add(self.blocks[0], self._unfolded(tensor))
            images[index] = assembler.image()
        return images


def adapted(network: Network | None, channels: int) -> tuple[Network | None, bool]:
    """Return a network as it is run on so many channels, and whether these run through it as a batch."""
    if network is None or not isinstance(network, torch.nn.Module):
        return network, False
    from napari_fidelity.networks.adapters import for_gray, for_unit_range

    fold = getattr(network, "n_channels", None) not in (None, channels)
    network = for_unit_range(network)
    return (for_gray(network) if fold else network), fold


def _part(image: Image, index: Mapping[str, int]) -> Image:
    """Return the part of an image at a position along some of its axes, without these axes; a view."""
    axes = "".join(axis for axis in image.axes if axis not in index)
    return image.replace(data=image.data[tuple(index.get(axis, slice(None)) for axis in image.axes)], axes=axes)


def _named(error: Exception, device: torch.device, block: Block) -> Exception:
    if not is_out_of_memory(error):
        return error
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return MemoryNeededError(
        f"Memory ran out on {device} for an image of {' × '.join(str(n) for n in block.data.shape[1:])} pixels",
        do="Crop the image, let only the last layer move (parameters: last), choose a smaller network, or another "
        "device",
    )


def _reason(results: list[Result[torch.Tensor]], blocks: int) -> str:
    last = results[-1].stop_reason
    if len(results) < blocks:
        return f"{last}; {len(results)} of {blocks} slices are done, the others are empty"
    reasons = {result.stop_reason for result in results}
    return last if len(reasons) == 1 else f"each of {blocks} slices ended for its own reason; the last: {last}"


def _with_record(image: Image, record: dict[str, Any]) -> Image:
    return image.replace(metadata={**image.metadata, "napari-fidelity": record})
