"""Choosing a restoration network: bundled, from the model folder, recently used, or any file."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QPushButton, QVBoxLayout, QWidget

from napari_fidelity.core.errors import FidelityError, ModelFileError
from napari_fidelity.core.registry import OWN_MODELS
from napari_fidelity.widgets._dock import breakable, note_label, set_note
from napari_fidelity.widgets._icons import set_icon
from napari_fidelity.widgets._model_card import ModelCard
from napari_fidelity.widgets._model_combo import CHOOSE, ModelCombo
from napari_fidelity.widgets._model_files import is_model
from napari_fidelity.widgets._model_memory import distrust, in_words, remember, tell, trusted
from napari_fidelity.widgets._model_reading import DENOISER, bundled, enlarges, inspect, known_by_name, offered
from napari_fidelity.widgets._model_search import ModelSearch
from napari_fidelity.widgets._model_trust import TrustButton, in_full
from napari_fidelity.widgets._own import OwnNews
from napari_fidelity.widgets._worker import run_later

if TYPE_CHECKING:
    from qtpy.QtGui import QDragEnterEvent, QDropEvent

    from napari_fidelity.networks.info import ModelInfo
    from napari_fidelity.pipeline import ModelReference
    from napari_fidelity.widgets._model_memory import Stamp


class ModelPicker(QWidget):
    """A combo box of models with a button that tells all of the chosen one, and below it what matters most.

    A model file is opened as soon as it is chosen, in the background, so that one that cannot be used says so
    before anything is run with it. A file can be dropped onto it.

    Parameters
    ----------
    folder
        Models in it are offered too.
    denoiser
        Whether a denoiser is chosen: a network that keeps the image's size.

    Attributes
    ----------
    changed
        Another model was chosen, or more is known of it now.
    info, error
        What is known of the chosen model, or why it cannot be used; both ``None`` while its file is being read.
    """

    changed = Signal()

    def __init__(self, folder: Path | None = None, *, denoiser: bool = False) -> None:
        super().__init__()
        self._denoiser = denoiser
        self.info: ModelInfo | None = None
        self.error: FidelityError | None = None
        self._scale = 0  # what the image formation asks for; 0 where that is not known
        self._last = ""
        self._turn = 0  # of reading a file: an answer to an earlier one is not wanted any more
        self._sha256: str | None = None  # of the file that a recipe asks for
        self._by_user = False
        self.card: ModelCard | None = None
        self.combo = ModelCombo(offered(denoiser=denoiser))
        self.combo.setAccessibleName("denoising network" if denoiser else "network")
        self.combo.setToolTip(
            f"<qt>The trained network that {'denoises' if denoiser else 'restores'} the image. Bundled ones come "
            "with the plugin; files of other networks can be chosen, or dropped here. What can run code asks "
            "first.</qt>"
        )
        self.about = QPushButton()
        self.about.setToolTip("<qt>About this network: what it was trained for, its licence and its file.</qt>")
        self.about.setAccessibleName("about this network")
        self.about.setFixedWidth(30)
        set_icon(self.about, "about")
        self.note = note_label()
        self.note.setTextFormat(Qt.TextFormat.PlainText)  # a file may say what it likes
        self.trust = TrustButton()
        self._lay_out()
        self.search = ModelSearch(self.combo, folder)
        self._own = OwnNews(self, OWN_MODELS)
        self._own.heard.connect(self._registered)
        self.combo.activated.connect(self._chosen)
        self.about.clicked.connect(self.show_card)
        self.trust.trusted.connect(self.read_again)
        self.choose(offered(denoiser=denoiser)[0].id)
        self.search.look()

    def _lay_out(self) -> None:
        row = QHBoxLayout()
        row.setSpacing(4)
        row.addWidget(self.combo, 1)
        row.addWidget(self.about)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addLayout(row)
        column.addWidget(self.note)
        column.addWidget(self.trust)
        self.setFocusProxy(self.combo)
        self.setAcceptDrops(True)

    def choose(self, name: str) -> None:
        """Choose a bundled model by its id, or a file by its path."""
        self.combo.choose(name)
        self._take(name)

    @property
    def name(self) -> str:
        """Bundled id or path of the chosen model."""
        return self._last

    @property
    def scale(self) -> int | None:
        """Scale the chosen model was trained for, as far as it is known."""
        return self.info.scale if self.info else None

    def fit(self, scale: int) -> None:
        """Say which scale is asked for; a bundled model that nobody chose makes way for one trained for it."""
        self._scale = scale
        if not self._by_user and any(info.id == self._last for info in bundled()) and scale != self.scale:
            fitting = [info.id for info in bundled() if info.scale == scale]
            if fitting:
                self.choose(fitting[0])
                return
        self._describe()

    def reference(self) -> ModelReference:
        """Return the model for a recipe.

        Raises
        ------
        FidelityError
            If the chosen file could not be read.
        """
        from napari_fidelity.pipeline import ModelReference

        if self.error is not None:
            raise self.error
        adapted = self._scale if self._scale and self.scale not in (None, self._scale) else None
        return ModelReference(name=self._last, scale=adapted, sha256=self._sha256)

    def set_reference(self, reference: ModelReference) -> None:
        """Choose the model that a recipe names."""
        self._scale = reference.scale or 0
        self.choose(reference.name)
        self._by_user = True
        self._sha256 = reference.sha256

    def read_again(self) -> None:
        """Read the chosen file once more: it may be trusted now, or not any more, or have changed."""
        asked = self._sha256
        self._take(self._last)
        self._sha256 = asked

    def show_card(self) -> None:
        """Show everything that is known of the chosen model, in a window of its own."""
        if self.card is None:
            self.card = ModelCard(self)
            self.card.distrusted.connect(self._distrust)
        self.card.tell(self._last, self.info, self.error)
        self.card.show()
        self.card.raise_()
        self.card.activateWindow()

    # -- choosing ---------------------------------------------------------------------------------------------

    def _chosen(self, index: int) -> None:
        name = self.combo.itemData(index)
        if name == CHOOSE:
            self._ask_for_file()
        elif name is not None and name != self._last:
            self._choose_by_hand(name)

    def _registered(self, name: str) -> None:
        """Offer a network that was registered just now; the chosen one may have become another."""
        self.combo.show_named(offered(denoiser=self._denoiser))
        if name == self._last:
            self.read_again()

    def _ask_for_file(self) -> None:
        from napari_fidelity.io._formats import SUFFIXES

        start = str(self.search.folder or Path.home())
        patterns = " ".join(f"*{suffix}" for suffix in SUFFIXES)
        path, _ = QFileDialog.getOpenFileName(self, "Choose a restoration network", start, f"Models ({patterns})")
        if path:
            self._choose_by_hand(path)
        else:
            self.combo.choose(self._last)

    def _choose_by_hand(self, name: str) -> None:
        self._by_user = True
        self.choose(name)

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        """Take a model file; Qt calls this."""
        if _dropped(event) is not None:
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent) -> None:
        """Choose a model file; Qt calls this."""
        path = _dropped(event)
        if path is not None:
            event.acceptProposedAction()
            self._choose_by_hand(path)

    # -- reading ----------------------------------------------------------------------------------------------

    def _take(self, name: str) -> None:
        self._turn += 1
        self._last, self.info, self.error, self._sha256 = name, None, None, None
        self.trust.show_for(None)
        known = known_by_name(name)
        if known is not None:
            self._know(known)
            return
        set_note(self.note, "Reading the file …")
        self._tell_card()
        run_later(
            partial(inspect, name, trusted()),
            partial(self._learned, self._turn),
            partial(self._failed, self._turn),
            name=f"Reading {Path(name).name}",
        )

    def _learned(self, turn: int, found: tuple[ModelInfo, Stamp]) -> None:
        if turn != self._turn:  # another one was chosen meanwhile
            return
        info, stamp = found
        path = Path(self._last)
        tell(path, stamp, in_words(info))
        if self._denoiser and info.scale != 1:
            self._failed(turn, enlarges(info))
            return
        remember(path)
        self.search.look()
        self._know(info)

    def _know(self, info: ModelInfo) -> None:
        self.info = info
        self._describe()
        self._tell_card()
        self.changed.emit()

    def _failed(self, turn: int, error: Exception) -> None:
        if turn != self._turn:
            return
        self.error = error if isinstance(error, FidelityError) else ModelFileError(str(error))
        set_note(self.note, breakable(in_full(self.error)))
        self.trust.show_for(error)
        self._tell_card()
        self.changed.emit()

    def _tell_card(self) -> None:
        if self.card is not None:
            self.card.tell(self._last, self.info, self.error)

    def _distrust(self, sha256: str) -> None:
        distrust(sha256)
        self.read_again()

    def _describe(self) -> None:
        info = self.info
        if info is None:
            return
        about = [f"Trained for {info.trained_for}." if info.trained_for else f"{in_words(info)}."]
        if self._scale and self._scale != info.scale:
            about.append(
                f"It enlarges ×{info.scale}, the image formation asks for ×{self._scale}: it will be adapted, "
                "which costs quality where trained layers are left out, or refused where that is impossible."
            )
        if self._denoiser and info.architecture != DENOISER:
            about.append(
                "It is not told how strong the noise is, and may leave patterns where there is a blur to undo."
            )
        if info.licence and info.licence not in ("BSD-3-Clause", "MIT", "CC0"):
            about.append(f"Licence: {info.licence}.")
        set_note(self.note, " ".join(about))


def _dropped(event: QDropEvent) -> str | None:
    """Return the one model file that is being dropped."""
    paths = [url.toLocalFile() for url in event.mimeData().urls() if url.isLocalFile()]
    return paths[0] if len(paths) == 1 and is_model(paths[0].rpartition("/")[2]) else None
