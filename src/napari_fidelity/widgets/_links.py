"""Connections to napari's events that end with a widget."""

from __future__ import annotations

import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from qtpy.compat import isalive

if TYPE_CHECKING:
    from collections.abc import Callable

    from qtpy.QtCore import QObject


class Links:
    """Connects a Qt object to napari's events, whose layers and viewers may outlive it.

    Parameters
    ----------
    owner
        The object. It keeps this one, so that the connections go with it; napari holds them weakly.
    """

    def __init__(self, owner: QObject) -> None:
        self._owner = weakref.ref(owner)
        self._made: list[tuple[Any, _Link]] = []

    def connect(self, callback: Callable[..., object], *emitters: Any) -> None:
        """Call a method of the owner at events."""
        link = _Link(self._owner, callback.__name__)
        for emitter in emitters:
            emitter.connect(link.fire)
            self._made.append((emitter, link))

    def clear(self) -> None:
        """End all connections."""
        while self._made:
            emitter, link = self._made.pop()
            with suppress(ValueError):  # it was cut elsewhere
                emitter.disconnect(link.fire)


class _Link:
    """Calls a method as long as the Qt half of its object lives: the Python half may last longer."""

    def __init__(self, owner: weakref.ref[QObject], method: str) -> None:
        self._owner, self._method = owner, method

    def fire(self, event: object = None) -> None:
        owner = self._owner()
        if owner is not None and isalive(owner):
            getattr(owner, self._method)(event)
