"""Opening model files that may hold code. Plain Python without Qt, for workers."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from napari_fidelity.core.errors import UntrustedModelError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from napari_fidelity.pipeline import Recipe


def opened(load: Callable[..., Any], trusted: Collection[str]) -> Any:
    """Load a model file, and let it run code only if the user trusts its content.

    Parameters
    ----------
    load
        Loads it; called with what is trusted, so that the content that is looked at is the one that runs.
    trusted
        SHA-256 of what the user trusts.

    Raises
    ------
    UntrustedModelError
        If it would run code and is not trusted.
    """
    try:
        return load(trust=trusted)
    except UntrustedModelError as error:
        raise _said_in_a_dock(error) from None


def with_members(recipe: Recipe, trusted: Collection[str]) -> Recipe:
    """Return a recipe whose ensemble may run the code in its files that the user trusts.

    Raises
    ------
    FidelityError
        If a file cannot be loaded, or would run code and is not trusted.
    """
    from napari_fidelity.io import load_model

    method: Any = recipe.method
    names = getattr(method, "models", ())
    for name in names:
        opened(partial(load_model, name), trusted)
    return recipe.replace(method=method.trusting(trusted)) if names and trusted else recipe


def _said_in_a_dock(error: UntrustedModelError) -> UntrustedModelError:
    """Return an error that says what to do in a dock, not on the command line."""
    return UntrustedModelError(
        f"This file runs code when it is opened: {error.what}",
        do="To allow it, choose it as the network and press 'Trust and load…'. Nothing of it has been run",
        path=error.path,
        sha256=error.sha256,
    )
