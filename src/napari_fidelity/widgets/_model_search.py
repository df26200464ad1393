"""Keeps the list of models up to date without ever waiting for a drive."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, QTimer

from napari_fidelity.widgets._links import Links
from napari_fidelity.widgets._model_files import Listing, in_folder, still_there
from napari_fidelity.widgets._model_memory import recent_files, told
from napari_fidelity.widgets._settings import changes, settings
from napari_fidelity.widgets._worker import run_later

if TYPE_CHECKING:
    from pathlib import Path

    from napari_fidelity.widgets._model_combo import ModelCombo

_TYPING = 600  # milliseconds that the folder of the preferences must stay the same before it is looked into


class ModelSearch(QObject):
    """Looks for files in the model folder and among those used last: at first, and whenever the list is opened.

    Parameters
    ----------
    combo
        The list.
    folder
        The model folder, until another one is set in the preferences.
    """

    def __init__(self, combo: ModelCombo, folder: Path | None) -> None:
        super().__init__(combo)
        self.folder = folder
        self._combo = combo
        self._asked: set[object] = set()  # what has not been answered: a dead drive is asked once
        combo.opened.connect(self.look)
        self._typing = QTimer(self)
        self._typing.setSingleShot(True)
        self._typing.setInterval(_TYPING)
        self._typing.timeout.connect(self._folder_changed)
        self._links = Links(self)
        emitter = changes("model_folder")
        if emitter is not None:
            self._links.connect(self._folder_typed, emitter)

    def look(self) -> None:
        """Look now, in the background."""
        recent = tuple(recent_files())
        if recent and recent not in self._asked:
            self._asked.add(recent)
            run_later(
                partial(still_there, recent, told()),
                partial(self._found_recent, recent),
                name="Looking for the models used last",
            )
        if self.folder is None:
            self._combo.show_folder(Listing())
        elif self.folder not in self._asked:
            self._asked.add(self.folder)
            run_later(
                partial(in_folder, self.folder, told()),
                partial(self._found, self.folder),
                name=f"Looking for models in '{self.folder}'",
            )

    def _found_recent(self, recent: tuple[Path, ...], listing: Listing) -> None:
        self._asked.discard(recent)
        self._combo.show_recent(listing)

    def _found(self, folder: Path, listing: Listing) -> None:
        self._asked.discard(folder)
        if folder == self.folder:  # or another one is meant by now
            self._combo.show_folder(listing)

    def _folder_typed(self, event: object = None) -> None:
        self._typing.start()  # napari tells of every letter

    def _folder_changed(self) -> None:
        self.folder = settings().model_folder
        self.look()
