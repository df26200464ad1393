"""Entries of combo boxes for what users register from their own code, while the docks are open."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, Signal

from napari_fidelity.widgets._links import Links

if TYPE_CHECKING:
    from collections.abc import Callable

    from qtpy.QtWidgets import QComboBox

    from napari_fidelity.core.registry import Registry


class OwnNews(QObject):
    """Tells in the GUI thread what is registered, from whichever thread.

    Parameters
    ----------
    parent
        What wants to hear; it keeps this object.
    registry
        Where things are registered.

    Attributes
    ----------
    heard
        A thing was registered under this name.
    """

    heard = Signal(str)

    def __init__(self, parent: QObject, registry: Registry[Any]) -> None:
        super().__init__(parent)
        self._links = Links(self)
        self._links.connect(self._hear, registry)

    def _hear(self, name: Any) -> None:
        self.heard.emit(name)


class OwnEntries(OwnNews):
    """Keeps one entry in a combo box for each registered thing that belongs there.

    Parameters
    ----------
    combo
        The combo box; it keeps this object.
    registry
        Where things are registered.
    entry
        Returns words and data of the entry of a name; ``None`` for what does not belong there.
    at
        Where the first of them stands.
    again
        Called with the data of the chosen entry when another thing is registered under its name.
    """

    def __init__(
        self,
        combo: QComboBox,
        registry: Registry[Any],
        entry: Callable[[str], tuple[str, str] | None],
        at: int,
        again: Callable[[str], object],
    ) -> None:
        super().__init__(combo, registry)
        self._combo, self._entry, self._at, self._again = combo, entry, at, again
        for name in registry.all():
            self._offer(name)
        self.heard.connect(self._offer)

    def _offer(self, name: str) -> None:
        entry = self._entry(name)
        if entry is None:
            return
        words, data = entry
        row = self._combo.findData(data)
        if row < 0:
            self._combo.insertItem(self._at, words, data)
            self._at += 1
            return
        self._combo.setItemText(row, words)
        if row == self._combo.currentIndex():
            self._again(data)
