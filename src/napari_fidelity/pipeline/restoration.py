"""From an image and a recipe to a restored image: block by block, as a generator or in one go."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fidelity.core.arrays import Image
from napari_fidelity.core.device import choose_device, processor_threads
from napari_fidelity.core.errors import ImageError, OptionError
from napari_fidelity.core.step import Result, Step, drain
from napari_fidelity.operators.compose import OPERATORS, resolved
from napari_fidelity.pipeline._blocks import BlockRun
from napari_fidelity.pipeline._judged import check_judged, with_judged
from napari_fidelity.pipeline._observed import observed_part
from napari_fidelity.pipeline.models import loaded, with_members, with_operator
from napari_fidelity.pipeline.provenance import digest
from napari_fidelity.pipeline.recipe import ModelReference, Recipe
from napari_fidelity.uncertainty import Ensemble
from napari_fidelity.uncertainty.base import judged_method

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from numpy.typing import ArrayLike, DTypeLike

    from napari_fidelity.core.trust import Trust
    from napari_fidelity.methods.base import LinearOperator, Method, Network
    from napari_fidelity.operators.noise import Noise
    from napari_fidelity.stopping.rules import StoppingRule

    Steps = Generator[Step[Image], str | None, Result[Image]]


def restore(
    image: Image | ArrayLike,
    *,
    operator: LinearOperator,
    method: Method | None = None,
    model: Network | ModelReference | str | os.PathLike[str] | None = None,
    noise: Noise | None = None,
    stop: StoppingRule | None = None,
    seed: int = 0,
    device: str = "auto",
    dtype: DTypeLike = "float32",
    trust: Trust = False,
    on_step: Callable[[Step[Image]], str | None] | None = None,
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
        A network, the id of a bundled one, a model file, or a :class:`ModelReference` to one of these. One that
        is loaded, and told no scale, is adapted to that of the operator; a network is taken as it is.
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
    trust
        Whether code in the model's file may run; see :func:`napari_fidelity.load_model`. No recipe carries it.
    on_step
        Called with each step; a string it returns ends the run with the best image so far.
    settings
        Further fields of :class:`Recipe`: ``scaling``, ``scope``, ``channels``, ``spatial``, ``series``,
        ``nonfinite``.

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
            seed=seed, device=device, dtype=dtype, trust=trust, **settings,
        ),
        on_step,
    )  # fmt: skip


def restore_steps(
    image: Image | ArrayLike,
    *,
    operator: LinearOperator | None = None,
    method: Method | None = None,
    model: Network | ModelReference | str | os.PathLike[str] | None = None,
    noise: Noise | None = None,
    stop: StoppingRule | None = None,
    seed: int = 0,
    device: str = "auto",
    dtype: DTypeLike = "float32",
    trust: Trust = False,
    **settings: Any,
) -> Steps:
    """Restore an image step by step; parameters as for :func:`restore`.

    Yields
    ------
    Step
        ``block``, ``blocks``, ``position`` and ``frames`` tell which slice, or which time points, it belongs to;
        ``estimate()`` is the :class:`Image` of that slice or volume (axes such as ``YX``, ``YXS`` or ``CZYX``), of
        several frames with ``T`` first, float32, on its own grid.

    Returns
    -------
    Result
        As :func:`restore`. If a reason was sent, slices not reached by then are NaN (0 in integers), and the
        reason says so.
    """
    network, reference = network_and_reference(model)
    own = {"operator": operator} if is_plain(operator) else {}
    given = {"method": method, "noise": noise, "stop": stop, "model": reference, "seed": seed}
    recipe = Recipe(**own, **{k: v for k, v in given.items() if v is not None}, **settings)
    return (
        yield from run_recipe(recipe, image, network, device=device, dtype=dtype, operator=operator, trust=trust)
    )


def run_recipe(
    recipe: Recipe,
    image: Image | ArrayLike,
    network: Network | None = None,
    *,
    device: str = "auto",
    dtype: DTypeLike = "float32",
    operator: LinearOperator | None = None,
    judged: Image | ArrayLike | None = None,
    trust: Trust = False,
) -> Steps:
    """Run a recipe on an image, step by step.

    Parameters
    ----------
    recipe
        What to do.
    image
        The measurement.
    network
        The network, if it is not to be loaded as the recipe says, or as the method wants it without a word.
    device, dtype
        As for :func:`restore`.
    operator
        One that stands in for the recipe's, foreign or not; the record names it if a recipe can hold it.
    judged
        For a map: the result to judge, in the measurement's intensity units, of the result's shape or one block's.
        The record's recipe holds it only if it is not the float32 image that the recipe itself makes.
    trust
        As for :func:`restore`; for every model that the recipe names.
    """
    started = time.perf_counter()
    check_dtype(dtype)
    run = prepared(recipe, image, network, device=device, operator=operator, judged=judged, trust=trust)
    try:
        with processor_threads(run.threads):
            return (yield from run.steps(dtype, started, with_judged(run.recipe, judged, run.measured)))
    finally:
        if isinstance(run.recipe.method, Ensemble):
            run.recipe.method.let_go()


def prepared(
    recipe: Recipe,
    image: Image | ArrayLike,
    network: Network | None = None,
    *,
    device: str = "auto",
    operator: LinearOperator | None = None,
    judged: Image | ArrayLike | None = None,
    trust: Trust = False,
) -> BlockRun:
    """Return the run of a recipe on an image, with its network loaded; parameters as for :func:`run_recipe`."""
    if operator is not None:
        recipe = with_operator(recipe, operator)
    recipe = recipe.recognised()
    named = operator or recipe.operator
    operator = resolved(named)
    if operator is None:
        raise OptionError(
            "The recipe names no image formation model",
            do="Add an operator to it, such as downsample",
        )
    check_judged(recipe, judged)
    where = choose_device(device)
    image = image if isinstance(image, Image) else Image.from_array(image)
    measured = digest(image)
    image, observed = observed_part(image, operator, recipe)
    _check_network(recipe, given=network is not None)
    _check_stop(recipe)
    if network is None:
        network, recipe = loaded(recipe, named, where, trust)
    recipe = with_members(recipe, named, trust)
    array = judged.data if isinstance(judged, Image) else None if judged is None else np.asarray(judged)
    return BlockRun(recipe, image, observed, network, operator, where, array, measured)


def _check_network(recipe: Recipe, *, given: bool) -> None:
    """Refuse a network that the method would never look at."""
    method = judged_method(recipe.method)
    if method.reads_measurement or method.default_model() is not None or not (given or recipe.model):
        return
    denoises = "denoiser" in type(method).model_fields
    raise OptionError(
        f"{type(method).__name__} takes no network" + " with this denoiser" * denoises,
        found="" if recipe.model is None else f"the model '{recipe.model.name}'",
        do="Leave the model out" + ", or choose the denoiser 'network'" * denoises,
    )


def _check_stop(recipe: Recipe) -> None:
    """Refuse stopping rules that look at what the method never tells, except where there is nothing to stop."""
    method = judged_method(recipe.method)
    if recipe.stop is None or not method.iterative:
        return
    for rule in recipe.stop.parts():
        if not rule.needs <= method.offers:
            raise OptionError(
                f"The stopping rule {rule.kind} does not go with {type(method).__name__}",
                found=f"no score {' and no '.join(sorted(rule.needs - method.offers))}",
                do="Choose another stopping rule, such as discrepancy or budget",
            )


def network_and_reference(
    model: Network | ModelReference | str | os.PathLike[str] | None,
) -> tuple[Network | None, ModelReference | None]:
    """Return the network itself if one was given, and the reference that a recipe keeps of it."""
    if model is None or isinstance(model, ModelReference):
        return None, model
    if isinstance(model, str | os.PathLike):
        return None, ModelReference(name=str(model))
    info: Any = getattr(model, "info", None)
    if info is None:
        return model, None
    return model, ModelReference(name=info.id or info.architecture, scale=info.scale, sha256=info.sha256 or None)


def is_plain(operator: object) -> bool:
    """Return whether an operator is one that a recipe can hold: one of the list, not a subclass of the user's own.

    Raises
    ------
    OptionError
        If there is none.
    """
    if operator is None:
        raise OptionError("An image formation model is needed", do="Give an operator, such as Downsample(scale=4)")
    return type(operator) in OPERATORS


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
