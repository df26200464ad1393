"""A recipe over the blocks of an image, one after the other."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fidelity.core.blocks import Block, check_depth, planes, to_tensor
from napari_fidelity.core.device import free_memory, is_out_of_memory
from napari_fidelity.core.errors import MemoryNeededError, OptionError
from napari_fidelity.core.lazy import torch
from napari_fidelity.core.step import Result, Step
from napari_fidelity.operators.base import Operator
from napari_fidelity.operators.compose import Compose
from napari_fidelity.pipeline._arrays import Cut
from napari_fidelity.pipeline._outputs import Assembly, Images
from napari_fidelity.pipeline._scaling import scaling_of
from napari_fidelity.pipeline.provenance import provenance
from napari_fidelity.uncertainty.base import UncertaintyMap, judged_method

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence

    from numpy.typing import DTypeLike, NDArray

    from napari_fidelity.core.arrays import Image
    from napari_fidelity.core.blocks import Spatial
    from napari_fidelity.methods import AnyMethod
    from napari_fidelity.methods.base import LinearOperator, Method, Network
    from napari_fidelity.pipeline.recipe import Recipe
    from napari_fidelity.uncertainty import AnyMap

    Steps = Generator[Step[Image], str | None, Result[Image]]


class BlockRun:
    """One restoration of one image: slice by slice or volume by volume, time point by time point.

    Parameters
    ----------
    recipe, image, network, operator, device
        What to do with the measurement, of finite intensities, and where.
    observed
        Which pixels count; ``None`` for all.
    judged
        The result that a map is to judge, if not the recipe's own.
    measured
        Hash of the measurement, for the record.
    """

    def __init__(
        self,
        recipe: Recipe,
        image: Image,
        observed: np.ndarray[Any, Any] | None,
        network: Network | None,
        operator: LinearOperator,
        device: torch.device,
        judged: NDArray[Any] | None = None,
        measured: str = "",
    ) -> None:
        check_dimensions(recipe, image, operator)
        self.image, self.operator, self.device = image, operator, device
        self.judged, self.measured = judged, measured
        self.threads = recipe.threads if device.type == "cpu" else None
        self.channels = recipe.channels_of(image)
        self.blocks = planes(image, recipe.spatial, self.channels)
        self.scaling = scaling_of(recipe, image, self.blocks, operator, device)
        self.assembly = Assembly(recipe, operator, len(self.blocks[0].data), self.channels)
        self.ends = recipe.last_iterations
        self.network, self.fold = adapted(network, len(self.blocks[0].data), recipe.method)
        shape = self._folded_shape(self.blocks[0])
        self.recipe = recipe.replace(method=settled(recipe.method, shape, self.network, device))
        self.seen = None
        if observed is not None and not observed.all():
            seen = image.replace(data=observed.astype(np.uint8))
            self.seen = planes(seen, recipe.spatial, self.channels)

    def _folded_shape(self, block: Block) -> tuple[int, ...]:
        channels, *measured = block.data.shape
        return (channels, 1, *measured) if self.fold else (1, channels, *measured)

    def _folded(self, y: torch.Tensor) -> torch.Tensor:
        return y.movedim(1, 0).contiguous() if self.fold else y

    def _unfolded(self, x: torch.Tensor) -> torch.Tensor:
        return x.movedim(0, 1) if self.fold else x

    def steps(self, dtype: DTypeLike, started: float, told: Recipe | None = None) -> Steps:
        """Yield the steps of every block; return the assembled image.

        Parameters
        ----------
        dtype
            Of the image.
        started
            When the run began.
        told
            The recipe that goes into the record, if not the one that is run.
        """
        self._check_memory()
        images = Images(self.assembly, self.image, self.scaling, dtype)
        results: list[Result[torch.Tensor]] = []
        asked = ""
        for number, block in enumerate(self.blocks[: len(self.ends or self.blocks)]):
            try:
                result, asked = yield from self._block(number, block)
            except (RuntimeError, MemoryError) as error:
                raise self._named(error, block) from error
            images.add(
                block,
                self._unfolded(result.image),
                {name: self._unfolded(tensor) for name, tensor in result.maps.items()},
            )
            kept = result.snapshots if len(self.blocks) == 1 else {}
            results.append(replace(result, image=torch.empty(0), snapshots=kept, maps={}, network=None))
            if asked:
                break
        seconds = time.perf_counter() - started
        record = provenance(
            told or self.recipe, results, self.device, seconds, len(self.blocks), asked=bool(asked)
        )
        record["measurement"] = {"sha256": self.measured}
        history = tuple(replace(entry, block=n) for n, result in enumerate(results) for entry in result.history)
        snapshots = self._snapshots(results[0], dtype) if len(self.blocks) == 1 else {}
        reason = _reason(results, len(self.blocks), "volumes" if "Z" in self.recipe.spatial else "slices")
        image, maps = images.finished(record)
        return Result(image, history, reason, seconds, record, snapshots, maps)

    def task(self, number: int) -> tuple[torch.Tensor, dict[str, Any]]:
        """Return the measurement of a block, and what else :meth:`Method.steps` is told of it."""
        block = self.blocks[number]
        own, noise = self.scaling.at(block.index), self.recipe.noise
        weights = None
        if self.seen is not None:
            seen = torch.from_numpy(self.seen[number].data.astype(np.float32))
            weights = self._folded(seen[None].to(self.device))
        known = {
            "noise": None if noise is None else noise.rescale(float(own.offset.mean()), float(own.gain.mean())),
            "stop": self.recipe.stop,
            "weights": weights,
            "rng": self.recipe.seed + number,
        }
        return self._folded(to_tensor(block, self.scaling, self.device)), known

    def _block(
        self, number: int, block: Block
    ) -> Generator[Step[Image], str | None, tuple[Result[torch.Tensor], str]]:
        y, known = self.task(number)
        own = self.scaling.at(block.index)
        cut = Cut(self.recipe, self.image, block, own, partial(self._result_shape, y), self.fold)
        inner = cut.method(self.judged).steps(y, self.operator, self.network, **known)
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

    def _check_memory(self) -> None:
        """Refuse a reconstruction that would not fit into the free memory; fine-tuning sees to that itself."""
        method, free = self.recipe.method, free_memory(self.device)
        if method.reads_measurement or free is None:
            return
        shape = (1, *self.blocks[0].data.shape)
        made = shape
        if isinstance(self.operator, Operator):
            made = (1, self.operator.image_channels(shape[1]), *self.operator.image_shape(shape[2:]))
        needed = method.memory(shape, self.network, self.device, made)
        if needed > free:
            size = " × ".join(str(n) for n in made[2:])
            raise MemoryNeededError(
                f"This reconstruction of {size} pixels needs about {needed / 1e9:.1f} GB of memory",
                found=f"{free / 1e9:.1f} GB free on {self.device}",
                do="Crop the image, work slice by slice, choose a narrower network (skip:width=32) or another "
                "device",
            )

    def _result_shape(self, y: torch.Tensor) -> tuple[int, ...]:
        """Return the shape ``(C, *n)`` of the result that belongs to a block."""
        from napari_fidelity.methods._start import image_shape  # not before it runs: it loads torch

        return image_shape(self._unfolded(y), self.operator)[1:]

    def _ended(self, number: int, step: Step[torch.Tensor]) -> str | None:
        """Return a reason to stop where the run that the recipe replays was ended."""
        at_the_end = step.total is not None and step.index + 1 >= step.total
        if self.ends is None or at_the_end or step.index < self.ends[number]:
            return None
        return f"ended at iteration {step.index}, as in the recipe"

    def _named(self, error: Exception, block: Block) -> Exception:
        """Return an error as the user is told of it: memory that ran out has remedies."""
        if not is_out_of_memory(error):
            return error
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        remedies = ["Crop the image"]
        if "Z" in self.recipe.spatial:
            remedies.append("work slice by slice (spatial: YX)")
        if judged_method(self.recipe.method).kind == "finetune":
            remedies.append("let only the last layer move (parameters: last)")
        size = " × ".join(str(n) for n in block.data.shape[1:])
        return MemoryNeededError(
            f"Memory ran out on {self.device} for an image of {size} pixels",
            do=", ".join([*remedies, "choose a smaller network, or another device"]),
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
        scaling = self.scaling.at(block.index)
        return self.assembly.one(template, scaling, np.float32, whole, self._unfolded(estimate()))

    def _snapshots(self, result: Result[torch.Tensor], dtype: DTypeLike) -> dict[int, Image]:
        return {
            index: self.assembly.one(self.image, self.scaling, dtype, self.blocks[0], self._unfolded(tensor))
            for index, tensor in result.snapshots.items()
        }


def check_dimensions(recipe: Recipe, image: Image, operator: LinearOperator | None) -> None:
    """Refuse volumes that method, operator or image know nothing of.

    Raises
    ------
    OptionError, ImageError
        Saying which of them it is.
    """
    check_depth(image.axes, recipe.spatial)
    if len(recipe.spatial) not in recipe.method.spatial_dims:
        raise OptionError(
            f"{type(recipe.method).__name__} works slice by slice, not on volumes in 3-D", do="Set spatial to YX"
        )
    if isinstance(operator, Operator):
        check_operator(operator, recipe.spatial)


def check_operator(operator: Operator, spatial: Spatial) -> None:
    """Raise :class:`OptionError` if an operator does not work on slices, or on volumes, as asked."""
    for part in operator.operators if isinstance(operator, Compose) else (operator,):
        if len(spatial) not in part.spatial_dims:
            what, do = ("slices", "ZYX") if spatial == "YX" else ("volumes in 3-D", "YX")
            raise OptionError(f"{type(part).__name__} does not work on {what}", do=f"Set spatial to {do}")


def adapted(network: Network | None, channels: int, method: Method) -> tuple[Network | None, bool]:
    """Return a network as a method runs it on so many channels, and whether these run through it as a batch.

    A denoiser's network is adapted by the denoiser.
    """
    if not method.reads_measurement or not isinstance(network, torch.nn.Module):
        return network, False
    from napari_fidelity.networks.adapters import for_gray, for_unit_range

    fold = getattr(network, "n_channels", None) not in (None, channels)
    network = for_unit_range(network)
    return (for_gray(network) if fold else network), fold


def settled(
    method: AnyMethod | AnyMap, shape: Sequence[int], network: Network | None, device: torch.device
) -> AnyMethod | AnyMap:
    """Return a method, or a map over one, with what it would choose by the free memory as options."""
    if isinstance(method, UncertaintyMap):
        inner = method.of.settled(shape, network, device)
        return method if inner is method.of else method.replace(of=inner)
    return method.settled(shape, network, device)


def _part(image: Image, index: Mapping[str, int]) -> Image:
    """Return the part of an image at a position along some of its axes, without these axes; a view."""
    axes = "".join(axis for axis in image.axes if axis not in index)
    return image.replace(data=image.data[tuple(index.get(axis, slice(None)) for axis in image.axes)], axes=axes)


def _reason(results: list[Result[torch.Tensor]], blocks: int, what: str) -> str:
    last = results[-1].stop_reason
    if len(results) < blocks:
        return f"{last}; {len(results)} of {blocks} {what} are done, the others are empty"
    reasons = {result.stop_reason for result in results}
    return last if len(reasons) == 1 else f"each of {blocks} {what} ended for its own reason; the last: {last}"
