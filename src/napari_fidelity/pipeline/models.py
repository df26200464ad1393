"""The networks that a recipe is run with: which ones, loaded, and of the scale that the operator asks for."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, TypeVar, cast

from napari_fidelity.core.errors import FidelityError, ModelFileError
from napari_fidelity.io.models import load_model
from napari_fidelity.operators.base import Operator
from napari_fidelity.operators.compose import OPERATORS
from napari_fidelity.pipeline.recipe import ModelReference
from napari_fidelity.uncertainty import Ensemble

if TYPE_CHECKING:
    import torch

    from napari_fidelity.core.trust import Trust
    from napari_fidelity.networks.foreign import LoadedNetwork
    from napari_fidelity.pipeline.recipe import Recipe

    Loaded = TypeVar("Loaded", bound=LoadedNetwork)

log = logging.getLogger(__name__)


def model_of(recipe: Recipe) -> ModelReference | None:
    """Return the model that a recipe is run with: the one it names, or the method's own; ``None`` for none."""
    own = recipe.method.default_model()
    return ModelReference(name=own) if recipe.model is None and own is not None else recipe.model


def loaded(
    recipe: Recipe, operator: object, device: torch.device | str = "cpu", trust: Trust = False
) -> tuple[LoadedNetwork | None, Recipe]:
    """Load the network of a recipe; return it with the recipe that names its hash and what it was adapted to.

    A network that makes the image, and whose scale the recipe does not say, is adapted to the operator.

    Parameters
    ----------
    recipe
        What is to be run.
    operator
        The image formation model: the recipe's, by its name if it has one, or one that stands in for it.
    device, trust
        As for :func:`napari_fidelity.pipeline.run_recipe`.

    Raises
    ------
    FidelityError
        As :func:`load_reference`; or if the network cannot be adapted to the scale.
    """
    reference = model_of(recipe)
    if reference is None:
        return None, recipe
    network = load_reference(reference, device, trust)
    if reference.scale is None and recipe.method.reads_measurement:
        fitting = adapted_to(operator, network)
        if fitting is not network:
            network, reference = fitting, reference.replace(scale=fitting.scale)
    return network, recipe.replace(model=reference.replace(sha256=network.info.sha256 or None))


def with_members(recipe: Recipe, operator: object, trust: Trust = False) -> Recipe:
    """Return a recipe whose ensemble holds its models, for the scale of the operator if it has no network beside.

    Parameters
    ----------
    recipe, operator, trust
        As for :func:`loaded`; a recipe of another method is returned as it is.
    """
    method = recipe.method
    if not isinstance(method, Ensemble):
        return recipe
    scale = whole_scale(operator) if method.reads_measurement else 0  # a denoiser is for the image
    return recipe.replace(method=method.holding(trust).for_scale(scale))


def with_operator(recipe: Recipe, operator: object) -> Recipe:
    """Return a recipe with another image formation model, without what was found from the one before.

    That is the hashes of registered operators, and the scale that a network was adapted to: one that is the scale
    of the operator before, where this one asks for another.

    Parameters
    ----------
    recipe
        What is to be run.
    operator
        The image formation model; of one that only code can give, the recipe says nothing.
    """
    model, before, scale = recipe.model, whole_scale(recipe.operator), whole_scale(operator)
    if model is not None and recipe.method.reads_measurement and scale and scale != before == model.scale:
        model = model.replace(scale=None)
    known = operator if type(operator) in OPERATORS else None
    return recipe.replace(operator=known, registered=None, model=model)


def adapted_to(operator: object, network: Loaded) -> Loaded:
    """Return the network itself, or one made of it for the scale of an operator; the log tells.

    Raises
    ------
    ArchitectureError
        If it cannot be adapted to that scale.
    """
    scale = whole_scale(operator)
    if not scale or network.takes_operator or network.scale == scale:
        return network
    adapted = cast("Loaded", network.to_scale(scale))
    log.info("'%s' is adapted to the operator: ×%d → ×%d", network.info.id, network.scale, scale)
    return adapted


def whole_scale(operator: object) -> int:
    """Return by how much a network has to enlarge for an operator; 0 if by no whole number, or nothing tells."""
    if not isinstance(operator, Operator) or not operator.shares_grid:
        return 0
    try:
        scale = operator.grid(2).scale
    except FidelityError:  # it is for volumes, or tells nothing of its grid
        return 0
    same = len(set(scale)) == 1 and float(scale[0]).is_integer()
    return int(scale[0]) if same else 0


def load_reference(
    reference: ModelReference, device: torch.device | str = "cpu", trust: Trust = False
) -> LoadedNetwork:
    """Load the model a recipe names.

    Raises
    ------
    UntrustedModelError
        If the file holds code, and ``trust`` was not given.
    ModelFileError
        If the file's hash is not the one the recipe was made with.
    """
    network = load_model(reference.name, device=device, trust=trust)
    found = network.info.sha256
    if reference.sha256 and found and reference.sha256 != found:
        raise ModelFileError(
            f"The model '{reference.name}' is not the one the recipe was made with",
            found=f"SHA-256 {found[:12]}… instead of {reference.sha256[:12]}…",
            do="Find the original one, or remove 'sha256' from the recipe",
        )
    return network if reference.scale in (None, network.scale) else network.to_scale(reference.scale)
