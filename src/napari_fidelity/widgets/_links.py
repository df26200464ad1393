"""Connections to napari's events that end with a widget."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from qtpy.QtCore import QObject


class Links:
    """Connects a Qt object to napari's events; layers and viewers may outlive it.

    Parameters
    ----------
    owner
        The connections end when it is destroyed.
    """

    def __init__(self, owner: QObject) -> None:
        made: list[tuple[Any, Callable[..., object]]] = []
        self._made = made
        owner.destroyed.connect(lambda: _cut(made))

    def connect(self, callback: Callable[..., object], *emitters: Any) -> None:
        """Call a method at events."""
        for emitter in emitters:
            emitter.connect(callback)
            self._made.append((emitter, callback))

    def clear(self) -> None:
        """End all connections."""
        _cut(self._made)


def _cut(made: list[tuple[Any, Callable[..., object]]]) -> None:
    while made:
        emitter, callback = made.pop()
        with suppress(RuntimeError, ValueError, TypeError):  # it may be gone already
            emitter.disconnect(callback)
