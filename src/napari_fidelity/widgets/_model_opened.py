"""Opening model files that may hold code. Plain Python without Qt, for workers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_fidelity.core.errors import UntrustedModelError

if TYPE_CHECKING:
    from collections.abc import Callable, Container


def opened(load: Callable[..., Any], trusted: Container[str]) -> Any:
    """Load a model file, and let it run code only if the user trusts its content.

    Parameters
    ----------
    load
        Loads it; called with ``trust=True`` where it may run code.
    trusted
        SHA-256 of what the user trusts.

    Raises
    ------
    UntrustedModelError
        If it would run code and is not trusted.
    """
    try:
        return load()
    except UntrustedModelError as error:
        if error.sha256 not in trusted:
            raise
    return load(trust=True)
