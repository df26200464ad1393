"""The list of models to choose from: bundled ones, those of the model folder, those used last, any file."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QComboBox

from napari_fidelity.widgets._dock import narrow
from napari_fidelity.widgets._fields import quiet_wheel
from napari_fidelity.widgets._model_files import Listing
from napari_fidelity.widgets._model_memory import in_words

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from napari_fidelity.networks.info import ModelInfo

CHOOSE = "choose"
"""Data of the last entry, which is no model."""
_WIDEST = 640  # pixels of the opened list


@dataclass(frozen=True)
class _Entry:
    text: str = ""  # empty for a line between two groups
    data: str | None = None  # none for a remark, which cannot be chosen
    tooltip: str = ""


class ModelCombo(QComboBox):
    """A combo box of models; the data of an entry is an id or a path.

    Parameters
    ----------
    named
        The models that come first: those that have a name instead of a file.

    Attributes
    ----------
    opened
        The list is about to be seen.
    """

    opened = Signal()

    def __init__(self, named: Iterable[ModelInfo]) -> None:
        super().__init__()
        narrow(self)
        quiet_wheel(self)
        self._named: list[_Entry] = []
        self._folder = self._recent = Listing()
        self._chosen = ""
        self._entries: list[_Entry] = []
        self.show_named(named)

    def show_named(self, named: Iterable[ModelInfo]) -> None:
        """Show the models that have a name instead of a file."""
        self._named = [_Entry(f"{info.id} – {in_words(info)}", info.id) for info in named]
        self._fill()

    def choose(self, name: str) -> None:
        """Show a model as the chosen one, whether it was on the list or not."""
        self._chosen = name
        self._fill()

    def show_folder(self, listing: Listing) -> None:
        """Show what the model folder holds."""
        self._folder = listing
        self._fill()

    def show_recent(self, listing: Listing) -> None:
        """Show the files used last."""
        self._recent = listing
        self._fill()

    def showPopup(self) -> None:
        """Open the list, wide enough for what it says."""
        self.opened.emit()
        view = self.view()
        view.setMinimumWidth(min(view.sizeHintForColumn(0) + 32, _WIDEST))
        super().showPopup()

    def _fill(self) -> None:
        entries = self._wanted()
        if entries != self._entries:  # a list that is open stays as it is if nothing has changed
            self._entries = entries
            self.clear()
            for entry in entries:
                self._add(entry)
        if self._chosen:
            self.setCurrentIndex(self.findData(self._chosen))

    def _add(self, entry: _Entry) -> None:
        if not entry.text:
            self.insertSeparator(self.count())
            return
        self.addItem(entry.text, entry.data)
        row = self.count() - 1
        if entry.tooltip:
            self.setItemData(row, f"<qt>{escape(entry.tooltip)}</qt>", Qt.ItemDataRole.ToolTipRole)
        self.model().item(row).setEnabled(entry.data is not None)

    def _wanted(self) -> list[_Entry]:
        known = {entry.data for entry in self._named}
        folder = self._folder.files
        listed = {*folder, *self._recent.files}
        chosen = Path(self._chosen)
        other = [chosen] if self._chosen and self._chosen not in known and chosen not in listed else []
        recent = [*other, *(path for path in self._recent.files if path not in folder)]
        names = Counter(path.name for path in (*folder, *recent))
        words = {**self._recent.words, **self._folder.words}
        shown = [[_file(p, words.get(p, ""), names[p.name] > 1) for p in paths] for paths in (folder, recent)]
        groups = [self._named, shown[0] + _remarks(self._folder), shown[1]]
        return _with_lines([*groups, [_Entry("Choose a file…", CHOOSE)]])


def _file(path: Path, words: str, ambiguous: bool) -> _Entry:
    name = f"{path.name} ({path.parent.name})" if ambiguous else path.name
    return _Entry(f"{name} – {words}" if words else name, str(path), str(path))


def _remarks(listing: Listing) -> list[_Entry]:
    if listing.problem:
        return [_Entry("The model folder is not there", None, listing.problem)]
    if listing.left_out:
        return [_Entry(f"… and {listing.left_out} more: choose a file", None, "The list would be too long.")]
    return []


def _with_lines(groups: Sequence[Sequence[_Entry]]) -> list[_Entry]:
    """Return the entries of all groups, with a line between any two."""
    entries: list[_Entry] = []
    for group in filter(None, groups):
        entries += [_Entry(), *group] if entries else group
    return entries
