"""How far a restored image can be trusted: from the image, or from nothing but its measurement, to a map."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_fidelity.core.errors import OptionError, RecipeError
from napari_fidelity.core.step import Result, drain
from napari_fidelity.methods import Apply, FineTune
from napari_fidelity.pipeline._judged import record_of
from napari_fidelity.pipeline.models import with_operator
from napari_fidelity.pipeline.recipe import Recipe
from napari_fidelity.pipeline.restoration import network_and_reference, run_recipe
from napari_fidelity.uncertainty import Bootstrap
from napari_fidelity.uncertainty.base import judged_method

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from numpy.typing import ArrayLike

    from napari_fidelity.core.arrays import Image
    from napari_fidelity.core.step import Step
    from napari_fidelity.core.trust import Trust
    from napari_fidelity.methods.base import LinearOperator, Method, Network
    from napari_fidelity.pipeline.recipe import ModelReference
    from napari_fidelity.pipeline.restoration import Steps
    from napari_fidelity.uncertainty import UncertaintyMap


def assess(
    restored: Result[Image] | Image | ArrayLike | None = None,
    map: UncertaintyMap | None = None,
    *,
    on_step: Callable[[Step[Image]], str | None] | None = None,
    **settings: Any,
) -> Result[Image]:
    """Show how far a restored image can be trusted.

    Parameters
    ----------
    restored
        The image: a result of :func:`restore` or :func:`reconstruct`, an image read from the file of one (both
        know how they were made), or any image on the grid of the restored one, in the measurement's intensity
        units. Left out, the recipe's method makes it first.
    map
        What to look at: :class:`Bootstrap` (if left out), :class:`Dropout`, :class:`Ensemble`,
        :class:`NullSpace`, :class:`Residual` or :class:`ErrorMap`.
    on_step
        Called with each step, whose estimate is the map so far; a string it returns ends the run with that.
    settings
        As for :func:`assess_steps`, above all ``measurement``.

    Returns
    -------
    Result
        ``image`` is the map and ``maps`` holds all images of it by name, each with its pixel size; differences
        and standard deviations in the measurement's intensity units. The last record of ``history`` (of each
        slice) has the numbers about the whole image, ``stop_reason`` says them in words.

    Raises
    ------
    FidelityError
        A named error for everything that can be wrong with the input.
    """
    return drain(assess_steps(restored, map, **settings), on_step)


def assess_steps(
    restored: Result[Image] | Image | ArrayLike | None = None,
    map: UncertaintyMap | None = None,
    *,
    measurement: Image | ArrayLike | None = None,
    recipe: Recipe | None = None,
    operator: LinearOperator | None = None,
    method: Method | None = None,
    model: Network | ModelReference | str | os.PathLike[str] | None = None,
    device: str = "auto",
    trust: Trust = False,
    **settings: Any,
) -> Steps:
    """Assess a restored image step by step.

    Parameters
    ----------
    restored, map
        As for :func:`assess`.
    measurement
        What it was restored from; always needed.
    recipe
        How it was restored, where the image does not know. What follows goes before it.
    operator, method, model
        As for :func:`restore`. The method is the one that maps run again: with none, that of the recipe, or
        :class:`FineTune` where there is a model. ``map.of`` goes before all, where it was given.
    device, trust
        As for :func:`restore`.
    settings
        Further fields of :class:`Recipe`: ``noise``, ``stop``, ``seed``, ``scaling`` …

    Yields
    ------
    Step
        As :func:`restore_steps`: of each slice, with the map so far as its estimate.

    Returns
    -------
    Result
        As :func:`assess`.
    """
    if measurement is None:
        raise OptionError(
            "A result can only be judged by its measurement", do="Give the image that it was restored from"
        )
    image = restored.image if isinstance(restored, Result) else restored
    made = recipe or recipe_behind(restored)
    network, reference = network_and_reference(model)
    if made is None and method is None and model is not None:
        method = FineTune()
    given = {"operator": operator, "method": method, "model": reference, **settings}
    changes = {name: value for name, value in given.items() if value is not None}
    full = map_recipe(Bootstrap() if map is None else map, made, **changes)
    return (
        yield from run_recipe(
            full, measurement, network, device=device, operator=operator, judged=image, trust=trust
        )
    )


def map_recipe(map: UncertaintyMap, made: Recipe | None = None, **changes: Any) -> Recipe:
    """Return the recipe of a map over the method of another recipe.

    Parameters
    ----------
    map
        The map; where its ``of`` was not given, the method is that of ``changes`` or ``made``, or, without
        either, :class:`Apply`.
    made
        How the image to judge was made, if that is known: a restoration's recipe or another map's.
    changes
        Fields of the recipe that are to be others. An operator is set as by :func:`with_operator`.
    """
    base = made or Recipe()
    own = judged_method(base.method) if made is not None else Apply()
    of: Any = map.of if "of" in map.model_fields_set else changes.get("method", own)
    if of.iterative:
        of = of.replace(snapshots=0)
    fields = {name: value for name, value in changes.items() if name != "method"}
    if "operator" in fields:
        base = with_operator(base, fields.pop("operator"))
    # where a restoration of many slices was ended says nothing about the map's passes
    return base.replace(**{"last_iterations": None, "software": {}, **fields, "method": map.replace(of=of)})


def recipe_behind(restored: object) -> Recipe | None:
    """Return the recipe that a result or an image was made by; ``None`` where nothing tells.

    Raises
    ------
    RecipeError
        If the record is damaged.
    """
    record = dict(restored.provenance) if isinstance(restored, Result) else record_of(restored)
    if "recipe" not in record:
        return None
    try:
        return Recipe.from_plain(record)
    except RecipeError as error:
        raise RecipeError(
            "The record of how this image was made cannot be used", found=str(error), do="Give the recipe"
        ) from error
