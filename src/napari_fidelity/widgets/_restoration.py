"""What a run does in its worker thread: read the layer, load the network, show its output, restore the image.

Plain generators without Qt; the dock shows what they yield.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from napari_fidelity.widgets._guess import KEY
from napari_fidelity.widgets._live import Frame
from napari_fidelity.widgets._model_opened import let_go, opened, with_members
from napari_fidelity.widgets._news import News
from napari_fidelity.widgets._slices import Stopped, read

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from napari_fidelity.core.arrays import Image
    from napari_fidelity.core.step import Record, Result, Step
    from napari_fidelity.networks.foreign import LoadedNetwork
    from napari_fidelity.pipeline import Recipe
    from napari_fidelity.widgets._layers import Source

    Work = Generator[News, str | None, "Result[Image] | None"]


_LESS = {
    True: "Crop the layer, choose Projection or let only the last layer move (Advanced ▸ Method options ▸ "
    "parameters: last)",
    False: "Crop the layer, work slice by slice, choose a denoiser as prior (RED) or a smaller network "
    "(Advanced ▸ Method options ▸ network)",
}  # how a run needs less memory, by whether its network reads the measurement


@dataclass(frozen=True)
class Request:
    """Everything one run needs, taken from the dock in the GUI thread.

    Attributes
    ----------
    source
        The layer to restore.
    recipe
        What to do with it.
    device
        Where to compute.
    dtype
        Data type of the result: ``"float32"`` or ``"input"``.
    output
        Whether to show the network's own output too.
    arrays
        Layers that are options of the method, by name: ``{"start": …}``, ``{"of.start": …}`` of the method that a
        map judges.
    judged
        The layer whose image a map judges, if it is there already.
    memory_limit
        Bytes the plugin may hold; ``None`` for all there are.
    trusted
        SHA-256 of the files that may run code when they are opened.
    """

    source: Source
    recipe: Recipe
    device: str = "auto"
    dtype: str = "float32"
    output: bool = False
    arrays: Mapping[str, Source] = field(default_factory=dict)
    judged: Source | None = None
    memory_limit: int | None = None
    trusted: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Shown:
    """One block of a result as it is now."""

    block: Image
    position: Mapping[str, int]
    measured: Frame


def restoration(request: Request, history: list[Record]) -> Work:
    """Run a request.

    Parameters
    ----------
    request
        What to do.
    history
        Grows by one record per iteration, shown or not.

    Yields
    ------
    News
        ``"note"`` while it prepares; ``"output"`` with the network's own output, a ``Result[Image]``; ``"step"``
        for each iteration, with a :class:`Shown` where it is displayed.

    Returns
    -------
    Result or None
        ``None`` if a stop was asked for before there was any image.
    """
    from napari_fidelity.core.device import limit_memory

    limit_memory(request.memory_limit)
    try:
        return (yield from _stages(request, history))
    except Stopped:
        return None


def _stages(request: Request, history: list[Record]) -> Work:
    image = yield from read(request.source)
    recipe = yield from _with_arrays(request)
    yield News("note", text="Loading the network" if recipe.model else "Preparing")
    recipe = with_members(recipe, request.trusted)
    try:
        return (yield from _with_network(request, recipe, image, history))
    finally:
        let_go(recipe)


def _with_network(request: Request, recipe: Recipe, image: Image, history: list[Record]) -> Work:
    network, recipe = _load(recipe, request.device, request.trusted)
    asked = yield _needs(request, recipe, image, network)
    if asked:
        return None
    if request.output and network is not None:
        output = yield from _network_output(recipe, image, network, request.device)
        if output is None:
            return None
        yield News("output", value=output, keep=True, wait=True)
        del output
    return (yield from _restored(request, recipe, image, network, history))


def _with_arrays(request: Request) -> Generator[News, str | None, Recipe]:
    """Return the recipe with the layers that are options of its method."""
    method: Any = request.recipe.method
    for name, source in request.arrays.items():
        image = yield from _on_result(request, source)
        method = _replaced(method, name.split("."), image.data)
    return request.recipe.replace(method=method)


def _on_result(request: Request, source: Source) -> Generator[News, str | None, Image]:
    """Read an image that lies on the result's grid, without axes of which only one position was wanted."""
    image = yield from read(source)
    left = "".join(axis for axis in image.axes if axis in request.source.axes or axis not in source.index)
    extra = tuple(i for i, axis in enumerate(image.axes) if axis not in left)
    return image.replace(data=image.data.squeeze(extra), axes=left) if extra else image


def _replaced(options: Any, path: list[str], value: Any) -> Any:
    """Return options of which one, or one of a part, has another value."""
    name, *further = path
    return options.replace(**{name: _replaced(getattr(options, name), further, value) if further else value})


def _load(recipe: Recipe, device: str, trusted: frozenset[str]) -> tuple[LoadedNetwork | None, Recipe]:
    """Load the network once for all stages; return it with the recipe that names it fully."""
    from napari_fidelity.core.device import choose_device, threads_beside_a_window
    from napari_fidelity.pipeline.models import loaded

    where = choose_device(device, announce=False)
    if where.type == "cpu":
        recipe = recipe.replace(threads=recipe.threads or threads_beside_a_window())
    opening: tuple[LoadedNetwork | None, Recipe] = opened(partial(loaded, recipe, recipe.operator, where), trusted)
    return opening


def _needs(request: Request, recipe: Recipe, image: Image, network: LoadedNetwork | None) -> News:
    from napari_fidelity.core.errors import MemoryNeededError
    from napari_fidelity.pipeline import memory_needed

    need = memory_needed(recipe, image, request.device, network=network, dtype=request.dtype)
    total = need.image + need.method
    words = f"about {gigabytes(total)} of memory"
    if need.free is not None and total > need.free:
        raise MemoryNeededError(
            f"This run needs {words}",
            found=f"{gigabytes(need.free)} free",
            do=f"{_fewer_frames(recipe)}{_LESS[recipe.method.reads_measurement]}, or raise the memory limit if "
            "one is set in the preferences",
        )
    if need.tile is not None:
        words += f", in tiles of {need.tile} px"
    return News("needs", value=f"Needs {words}", text=f"Needs {words}", keep=True)


def _fewer_frames(recipe: Recipe) -> str:
    return "Adapt to each frame of the series, " if recipe.series in ("window", "whole") else ""


def _network_output(
    recipe: Recipe, image: Image, network: LoadedNetwork, device: str
) -> Generator[News, str | None, Result[Image] | None]:
    """Return the network's own output; ``None`` if a stop was asked for meanwhile."""
    from napari_fidelity.methods import Apply
    from napari_fidelity.pipeline import run_recipe

    # however a series is cut, the network alone gives the same
    alone = recipe.replace(method=Apply(), stop=None, last_iterations=None, series="auto")
    if (yield News("note", text="The network as it is: one pass over the image")):
        return None
    steps = run_recipe(alone, image, network, device=device)
    try:
        while True:
            step = next(steps)
            text = "The network as it is" + _slice_words(step)
            asked = yield News("note", done=step.block, total=step.blocks, text=text)
            if asked:
                return None
    except StopIteration as end:
        result: Result[Image] = end.value
        return result
    finally:
        steps.close()


def _restored(
    request: Request,
    recipe: Recipe,
    image: Image,
    network: LoadedNetwork | None,
    history: list[Record],
) -> Generator[News, str | None, Result[Image]]:
    """Run the recipe; if it fails on the way, hand over the last image before the error goes on."""
    from napari_fidelity.core.step import Record
    from napari_fidelity.pipeline import run_recipe

    judged = yield from _judged(request)
    steps = run_recipe(recipe, image, network, device=request.device, dtype=request.dtype, judged=judged)
    passes, first = hasattr(recipe.method, "outputs"), _before_the_first(recipe.method)
    frame = Frame.of(image)
    last: Step[Image] | None = None
    reply = None
    try:
        while True:
            last = steps.send(reply) if reply is not None else next(steps)
            if last.index >= 0:
                history.append(Record.of(last))
            reply = yield _step_news(last, frame, keep=len(history) == 1, passes=passes, first=first)
    except StopIteration as end:
        result: Result[Image] = end.value
        return result
    except Exception:
        if last is not None:
            yield _step_news(last, frame, keep=True, passes=passes, first=first)
        raise
    finally:
        steps.close()


def _judged(request: Request) -> Generator[News, str | None, Image | None]:
    """Return the image that a map judges, with what is known of how it was made."""
    if request.judged is None:
        return None
    image = yield from _on_result(request, request.judged)
    return image.replace(metadata={KEY: request.judged.metadata.get(KEY, {})})


def _before_the_first(method: Any) -> str:
    """Say what a run does before its first iteration or pass, where that takes a while."""
    if hasattr(method, "outputs"):
        return "Restoring before the first pass"
    beginning = getattr(method, "beginning", None)
    return "Preparing" if beginning is None else f"Beginning with {type(beginning).__name__}"


def _step_news(
    step: Step[Image], frame: Frame, *, keep: bool = False, passes: bool = False, first: str = ""
) -> News:
    total = step.total or 0
    what = f"Pass {step.index + 1}" if passes else f"Iteration {step.index}"
    return News(
        "step",
        make=lambda: Shown(step.estimate(), step.position, frame),
        done=step.block * total + step.index + 1,
        total=step.blocks * total or None,
        text=(first if step.index < 0 else what) + _slice_words(step),
        keep=keep,
        wait=keep,
    )


def _slice_words(step: Step[Image]) -> str:
    if step.frames > 1:
        first = step.position["T"] + 1
        part = f", part {step.block + 1} of {step.blocks}" if step.blocks > 1 else ""
        return f", frames {first}–{first + step.frames - 1}{part}"
    return f", slice {step.block + 1} of {step.blocks}" if step.blocks > 1 else ""


def gigabytes(size: float) -> str:
    """Return a number of bytes in words, with two significant digits."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6)):
        if size >= factor:
            return f"{size / factor:.2g} {unit}" if size < 99.5 * factor else f"{size / factor:.0f} {unit}"
    return f"{size / 1e3:.0f} kB"
