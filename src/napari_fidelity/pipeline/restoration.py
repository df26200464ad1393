"""From an image and a recipe to a restored image: block by block, as a generator or in one go."""

from __future__ import annotations

import logging
import os
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fidelity.core.arrays import Image, check_finite, mask_nonfinite
from napari_fidelity.core.blocks import Assembler, Block, planes, to_tensor
from napari_fidelity.core.device import choose_device, is_out_of_memory
from napari_fidelity.core.errors import ImageError, MemoryNeededError, ModelFileError, OptionError
from napari_fidelity.core.lazy import torch
from napari_fidelity.core.scaling import fit_scaling
from napari_fidelity.core.step import Result, Step, drain
from napari_fidelity.io.models import load_model
from napari_fidelity.pipeline.provenance import provenance
from napari_fidelity.pipeline.recipe import ModelReference, Recipe

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from numpy.typing import ArrayLike, DTypeLike

    from napari_fidelity.methods.base import LinearOperator, Method, Network
    from napari_fidelity.networks import RestorationNetwork
    from napari_fidelity.operators.noise import Noise
    from napari_fidelity.stopping.rules import StoppingRule

    Steps = Generator[Step, str | None, Result[Image]]

log = logging.getLogger(__name__)


def restore(
    image: Image | ArrayLike,
    *,
    operator: LinearOperator,
    method: Method | None = None,
    model: Network | str | os.PathLike[str] | None = None,
    noise: Noise | None = None,
    stop: StoppingRule | None = None,
    seed: int = 0,
    device: str = "auto",
    dtype: DTypeLike = "float32",
    on_step: Callable[[Step], str | None] | None = None,
    **settings: Any,
) -> Result[Image]:
    """Restore an image so that it answers to its data.

    Parameters
    ----------
    image
        The measurement: an :class:`Image`, or an array (axes as :func:`guess_axes` finds them).
    operator
        Image formation model; a ``deepinv.physics.LinearPhysics`` will do.
    method
        What to do; :class:`FineTune` with its defaults if left out.
    model
        A network, the id of a bundled one, or a model file.
    noise
        Noise model in the intensity units of the measurement.
    stop
        Stopping rule; the method's own if left out.
    seed
        Seed of everything random.
    device
        ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.
    dtype
        Of the restored image: ``"float32"``, ``"input"`` (as the measurement), ``"uint16"`` …
    on_step
        Called with each step; a string it returns ends the run with the best image so far.
    settings
        Further fields of :class:`Recipe`: ``scaling``, ``scope``, ``channels``, ``nonfinite``.

    Returns
    -------
    Result
        ``image`` is an :class:`Image` in the measurement's intensity units, with the pixel size of its grid.

    Raises
    ------
    FidelityError
        A named error for everything that can be wrong with the input.
    """
    return drain(
        restore_steps(
            image, operator=operator, method=method, model=model, noise=noise, stop=stop,
            seed=seed, device=device, dtype=dtype, **settings,
        ),
        on_step,
    )  # fmt: skip


def restore_steps(
    image: Image | ArrayLike,
    *,
    operator: LinearOperator | None = None,
    method: Method | None = None,
    model: Network | str | os.PathLike[str] | None = None,
    noise: Noise | None = None,
    stop: StoppingRule | None = None,
    seed: int = 0,
    device: str = "auto",
    dtype: DTypeLike = "float32",
    **settings: Any,
) -> Steps:
    """Restore an image step by step; parameters as for :func:`restore`.

    Yields
    ------
    Step
        With ``block`` and ``blocks`` telling which slice or time point it belongs to.

    Returns
    -------
    Result
        As :func:`restore`. If a reason was sent, slices not reached by then are NaN (0 in integers), and the
        reason says so.
    """
    network, reference = _network(model)
    own = {"operator": operator} if _is_plain(operator) else {}
    given = {"method": method, "noise": noise, "stop": stop, "model": reference, "seed": seed}
    recipe = Recipe(**own, **{k: v for k, v in given.items() if v is not None}, **settings)
    return (yield from run_recipe(recipe, image, network, device=device, dtype=dtype, operator=operator))


def run_recipe(
    recipe: Recipe,
    image: Image | ArrayLike,
    network: Network | None = None,
    *,
    device: str = "auto",
    dtype: DTypeLike = "float32",
    operator: LinearOperator | None = None,
) -> Steps:
    """Run a recipe on an image, step by step.

    Parameters
    ----------
    recipe
        What to do.
    image
        The measurement.
    network
        The network, if it is not to be loaded as the recipe says.
    device, dtype
        As for :func:`restore`.
    operator
        A foreign operator that stands in for the recipe's.
    """
    started = time.perf_counter()
    operator = operator or recipe.operator
    if operator is None:
        raise OptionError(
            "The recipe names no image formation model",
            do="Add an operator to it, such as downsample",
        )
    check_dtype(dtype)
    where = choose_device(device)
    image = image if isinstance(image, Image) else Image.from_array(image)
    image, observed = mask_nonfinite(image) if recipe.nonfinite == "mask" else (image, None)
    check_finite(image)
    if network is None and recipe.model is not None:
        loaded = load_reference(recipe.model, where)
        recipe = recipe.replace(model=recipe.model.replace(sha256=loaded.info.sha256 or None))
        network = loaded
    run = _Run(recipe, image, observed, network, operator, where)
    return (yield from run.steps(dtype, started))


def load_reference(reference: ModelReference, device: torch.device | str = "cpu") -> RestorationNetwork:
    """Load the model a recipe names.

    Raises
    ------
    ModelFileError
        If the file's hash is not the one the recipe was made with.
    """
    network = load_model(reference.name, scale=reference.scale, device=device)
    found = network.info.sha256
    if reference.sha256 and found and reference.sha256 != found:
        raise ModelFileError(
            f"The model '{reference.name}' is not the one the recipe was made with",
            found=f"SHA-256 {found[:12]}… instead of {reference.sha256[:12]}…",
            do="Find the original file, or remove 'sha256' from the recipe",
        )
    return network


class _Run:
    """One restoration of one image."""

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
        self.fold = False
        self.network = self._adapted(network)
        self.seen = None
        if observed is not None and not observed.all():
            self.seen = planes(image.replace(data=observed.astype(np.uint8)), "YX", recipe.channels)

    def _adapted(self, network: Network | None) -> Network | None:
        if network is None or not isinstance(network, torch.nn.Module):
            return network
        from napari_fidelity.networks.adapters import for_gray, for_unit_range

        # Channels that the network does not know run through it one by one, as a batch.
        self.fold = getattr(network, "n_channels", None) not in (None, len(self.blocks[0].data))
        network = for_unit_range(network)
        return for_gray(network) if self.fold else network

    def _folded(self, y: torch.Tensor) -> torch.Tensor:
        return y.movedim(1, 0).contiguous() if self.fold else y

    def _shown(self, estimate: Callable[[], torch.Tensor]) -> torch.Tensor:
        return self._unfolded(estimate())

    def _unfolded(self, x: torch.Tensor) -> torch.Tensor:
        return x.movedim(0, 1) if self.fold else x

    def steps(self, dtype: DTypeLike, started: float) -> Steps:
        """Yield the steps of every block; return the assembled image."""
        assembler = Assembler(self.image, self.scaling, dtype, channels=self.recipe.channels)
        results: list[Result[torch.Tensor]] = []
        asked = ""
        for number, block in enumerate(self.blocks):
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
        record = provenance(self.recipe, results, self.device, seconds, len(self.blocks))
        record["saturated"] = assembler.saturated
        history = tuple(replace(entry, block=n) for n, result in enumerate(results) for entry in result.history)
        snapshots = self._snapshots(results[0], dtype) if len(self.blocks) == 1 else {}
        reason = _reason(results, len(self.blocks))
        return Result(_with_record(assembler.image(), record), history, reason, seconds, record, snapshots)

    def _block(self, number: int, block: Block) -> Generator[Step, str | None, tuple[Result[torch.Tensor], str]]:
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
                estimate = partial(self._shown, step.estimate)
                reply = yield replace(step, estimate=estimate, block=number, blocks=len(self.blocks))
                asked = asked or reply
        except StopIteration as end:
            return end.value, asked or ""
        finally:
            inner.close()

    def _snapshots(self, result: Result[torch.Tensor], dtype: DTypeLike) -> dict[int, Image]:
        images = {}
        for index, tensor in result.snapshots.items():
            assembler = Assembler(self.image, self.scaling, dtype, channels=self.recipe.channels)
            assembler.add(self.blocks[0], self._unfolded(tensor))
            images[index] = assembler.image()
        return images


def _network(model: Network | str | os.PathLike[str] | None) -> tuple[Network | None, ModelReference | None]:
    """Return the network itself if one was given, and the reference that a recipe keeps of it."""
    if model is None:
        return None, None
    if isinstance(model, str | os.PathLike):
        return None, ModelReference(name=str(model))
    info: Any = getattr(model, "info", None)
    if info is None:
        return model, None
    return model, ModelReference(name=info.id or info.architecture, scale=info.scale, sha256=info.sha256 or None)


def _is_plain(operator: object) -> bool:
    from napari_fidelity.operators.base import Operator

    if operator is None:
        raise OptionError("An image formation model is needed", do="Give an operator, such as Downsample(scale=4)")
    return isinstance(operator, Operator)


def check_dtype(dtype: DTypeLike) -> None:
    """Refuse a data type that no image can have before any work is done.

    Raises
    ------
    ImageError
        If it is unknown or neither integer nor float.
    """
    try:
        usable = (isinstance(dtype, str) and dtype == "input") or np.dtype(dtype).kind in "uif"
    except TypeError:
        usable = False
    if not usable:
        raise ImageError(f"Images cannot be written as {dtype}", do="Use float32, uint8, uint16 or input")


def _named(error: Exception, device: torch.device, block: Block) -> Exception:
    if not is_out_of_memory(error):
        return error
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return MemoryNeededError(
        f"Memory ran out on {device} for an image of {' × '.join(str(n) for n in block.data.shape[1:])} pixels",
        do="Crop the image, set views to 1, choose a smaller network, or another device",
    )


def _reason(results: list[Result[torch.Tensor]], blocks: int) -> str:
    last = results[-1].stop_reason
    if len(results) < blocks:
        return f"{last}; {len(results)} of {blocks} slices are done, the others are empty"
    reasons = {result.stop_reason for result in results}
    return last if len(reasons) == 1 else f"each of {blocks} slices ended for its own reason; the last: {last}"


def _with_record(image: Image, record: dict[str, Any]) -> Image:
    return image.replace(metadata={**image.metadata, "napari-fidelity": record})
