"""Opening model files that may hold code. Plain Python without Qt, for workers."""

from __future__ import annotations

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
    """Return a recipe whose ensemble has loaded its models, of which code may run that the user trusts.

    Whoever asks for it lets go of them in the end (:func:`let_go`).

    Raises
    ------
    FidelityError
        If a file cannot be loaded, or would run code and is not trusted.
    """
    method: Any = recipe.method
    if not getattr(method, "models", ()):
        return recipe

    def load(trust: Collection[str]) -> Any:
        holding = method.holding(trust)
        holding.files().open(method.models)
        return holding

    return recipe.replace(method=opened(load, trusted))


def let_go(recipe: Recipe) -> None:
    """Let go of the models that the ensemble of a recipe holds."""
    method: Any = recipe.method
    if hasattr(method, "let_go"):
        method.let_go()


def _said_in_a_dock(error: UntrustedModelError) -> UntrustedModelError:
    """Return an error that says what to do in a dock, not on the command line."""
    return UntrustedModelError(
        f"This file runs code when it is opened: {error.what}",
        do="To allow it, choose it as the network and press 'Trust and load…'. Nothing of it has been run",
        path=error.path,
        sha256=error.sha256,
    )
