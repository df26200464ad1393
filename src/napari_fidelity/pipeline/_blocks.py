"""A recipe over the blocks of an image, one after the other."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fidelity.core.blocks import check_depth, planes
from napari_fidelity.core.device import free_memory, is_out_of_memory
from napari_fidelity.core.errors import MemoryNeededError, OptionError
from napari_fidelity.core.lazy import torch
from napari_fidelity.core.step import Result, Step
from napari_fidelity.core.units import units
from napari_fidelity.operators.base import Operator
from napari_fidelity.operators.compose import Compose
from napari_fidelity.pipeline._frames import Frames
from napari_fidelity.pipeline._outputs import Assembly, Images
from napari_fidelity.pipeline._scaling import scaling_of
from napari_fidelity.pipeline.provenance import provenance
from napari_fidelity.pipeline.series import adapts, as_run, cost_of, plan_for, without_snapshots
from napari_fidelity.uncertainty.base import UncertaintyMap, judged_method

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from numpy.typing import DTypeLike, NDArray

    from napari_fidelity.core.arrays import Image
    from napari_fidelity.core.blocks import Spatial
    from napari_fidelity.core.units import Unit
    from napari_fidelity.methods import AnyMethod
    from napari_fidelity.methods.base import LinearOperator, Method, Network
    from napari_fidelity.operators.noise import Noise
    from napari_fidelity.pipeline.recipe import Recipe
    from napari_fidelity.uncertainty import AnyMap

    Steps = Generator[Step[Image], str | None, Result[Image]]

log = logging.getLogger(__name__)


class BlockRun:
    """One restoration of one image: slice by slice or volume by volume, each time point alone or several together.

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
        recipe = as_run(recipe, image, network)
        self.image, self.operator, self.device = image, operator, device
        self.measured = measured
        self.threads = recipe.threads if device.type == "cpu" else None
        channels = recipe.channels_of(image)
        self.blocks = planes(image, recipe.spatial, channels)
        self.plan = plan_for(recipe, image, network)
        self.units = units(self.blocks, self.plan.core, self.plan.context)
        self.scaling = scaling_of(recipe, image, self.blocks, operator, device)
        self.assembly = Assembly(recipe, operator, len(self.blocks[0].data), channels)
        self.ends = recipe.last_iterations
        self.network, fold = adapted(network, len(self.blocks[0].data), recipe.method, operator)
        shape = self._shape_at_once(fold)
        self.recipe = recipe = recipe.replace(method=settled(recipe.method, shape, self.network, device))
        seen = None
        if observed is not None and not observed.all():
            seen = planes(image.replace(data=observed.astype(np.uint8)), recipe.spatial, channels)
        self.frames = Frames(
            recipe, image, operator, device, self.blocks, self.scaling, self.assembly, fold, seen, judged
        )
        for unit in self.units:
            self.frames.noise(unit)  # what cannot be said of frames together is told before the first has run

    def _shape_at_once(self, fold: bool) -> tuple[int, ...]:
        """Return the shape ``(N, C, *m)`` of the largest unit as the network takes it."""
        channels, *measured = self.blocks[0].data.shape
        frames = max(len(unit.numbers) for unit in self.units)
        return (frames * channels, 1, *measured) if fold else (frames, channels, *measured)

    def told(self, noise: Noise | None) -> Network | None:
        """Return the network; one that takes the operator is told the noise of a block, too."""
        from napari_fidelity.networks.adapters import WithOperator  # not before it runs: it loads torch

        return self.network.with_noise(noise) if isinstance(self.network, WithOperator) else self.network

    def steps(self, dtype: DTypeLike, started: float, told: Recipe | None = None) -> Steps:
        """Yield the steps of every unit; return the assembled image.

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
        self._say_cost()
        images = Images(self.assembly, self.image, self.scaling, dtype)
        results: list[Result[torch.Tensor]] = []
        asked = ""
        for number, unit in enumerate(self.units[: len(self.ends or self.units)]):
            try:
                result, asked = yield from self._unit(number, unit)
            except (RuntimeError, MemoryError) as error:
                raise self._named(error, unit) from error
            self.frames.add(images, unit, result)
            kept = result.snapshots if self._keeps_snapshots else {}
            results.append(replace(result, image=torch.empty(0), snapshots=kept, maps={}, network=None))
            if asked:
                break
        seconds = time.perf_counter() - started
        record = provenance(told or self.recipe, results, self.device, seconds, len(self.units), asked=bool(asked))
        record["measurement"] = {"sha256": self.measured}
        if len(self.units) < len(self.blocks) or self.plan.context:
            record["series"] = {"core": self.plan.core, "context": self.plan.context}
        history = tuple(replace(entry, block=n) for n, result in enumerate(results) for entry in result.history)
        snapshots = self.frames.snapshots(results[0], self.units[0], dtype) if self._keeps_snapshots else {}
        reason = _reason(results, len(self.units), self._what_units_are())
        image, maps = images.finished(record)
        return Result(image, history, reason, seconds, record, snapshots, maps)

    @property
    def _keeps_snapshots(self) -> bool:
        return len(self.blocks) == 1

    def _what_units_are(self) -> str:
        if len(self.units) < len(self.blocks):
            return "runs of frames"
        return "volumes" if "Z" in self.recipe.spatial else "slices"

    def _say_cost(self) -> None:
        length = self.image.sizes.get("T", 1)
        if length > 1 and self.recipe.method.reads_measurement and adapts(self.recipe.method):
            cost = cost_of(self.plan, length, len(self.blocks) // length)
            log.info("A time series of %d: %s", length, cost.in_words(judged_method(self.recipe.method)))

    def task(self, number: int) -> tuple[torch.Tensor, dict[str, Any]]:
        """Return the measurement of a unit, and what else :meth:`Method.steps` is told of it."""
        return self.frames.task(self.units[number], seed=self.recipe.seed + number)

    def _unit(
        self, number: int, unit: Unit
    ) -> Generator[Step[Image], str | None, tuple[Result[torch.Tensor], str]]:
        y, known = self.task(number)
        method = self.frames.method(unit, y)
        method = method if self._keeps_snapshots else without_snapshots(method)
        inner = method.steps(y, self.operator, self.told(known["noise"]), **known)
        asked = reply = None
        try:
            while True:
                step = inner.send(reply) if reply is not None else next(inner)
                reply = yield self._step(step, number, unit)
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

    def _ended(self, number: int, step: Step[torch.Tensor]) -> str | None:
        """Return a reason to stop where the run that the recipe replays was ended."""
        at_the_end = step.total is not None and step.index + 1 >= step.total
        if self.ends is None or at_the_end or step.index < self.ends[number]:
            return None
        return f"ended at iteration {step.index}, as in the recipe"

    def _named(self, error: Exception, unit: Unit) -> Exception:
        """Return an error as the user is told of it: memory that ran out has remedies."""
        if not is_out_of_memory(error):
            return error
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        remedies = ["Crop the image"]
        if "Z" in self.recipe.spatial:
            remedies.append("work slice by slice (spatial: YX)")
        if len(unit.numbers) > 1:
            remedies.append("take fewer frames at once (series: frame)")
        if judged_method(self.recipe.method).kind == "finetune":
            remedies.append("let only the last layer move (parameters: last)")
        size = " × ".join(str(n) for n in self.blocks[0].data.shape[1:])
        frames = f"{len(unit.numbers)} frames" if len(unit.numbers) > 1 else "an image"
        return MemoryNeededError(
            f"Memory ran out on {self.device} for {frames} of {size} pixels",
            do=", ".join([*remedies, "choose a smaller network, or another device"]),
        )

    def _step(self, step: Step[torch.Tensor], number: int, unit: Unit) -> Step[Image]:
        """Return a method's step as one of the whole image's, whose estimate is an image of the unit's frames."""
        kept = unit.kept()
        estimate = partial(self.frames.shown, step.estimate, unit)
        where, of = self.blocks[kept[0]].index, len(self.units)
        return Step(
            step.index, step.total, step.loss, step.scores, estimate, step.seconds, number, of, where, len(kept)
        )


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


def adapted(
    network: Network | None, channels: int, method: Method, operator: LinearOperator | None = None
) -> tuple[Network | None, bool]:
    """Return a network as a method runs it on so many channels, and whether these run through it as a batch.

    A denoiser's network is adapted by the denoiser; one that takes the ``operator`` is bound to it.
    """
    if not method.reads_measurement or not isinstance(network, torch.nn.Module):
        return network, False
    from napari_fidelity.networks.adapters import for_gray, for_operator, for_unit_range

    network = network if operator is None else for_operator(network, operator)
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


def _reason(results: list[Result[torch.Tensor]], blocks: int, what: str) -> str:
    last = results[-1].stop_reason
    if len(results) < blocks:
        return f"{last}; {len(results)} of {blocks} {what} are done, the others are empty"
    reasons = {result.stop_reason for result in results}
    return last if len(reasons) == 1 else f"each of {blocks} {what} ended for its own reason; the last: {last}"
