"""Choosing a restoration network: bundled, from the model folder, recently used, or any file."""

from __future__ import annotations

from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QSettings, Qt, Signal
from qtpy.QtWidgets import QComboBox, QFileDialog, QVBoxLayout, QWidget

from napari_fidelity.core.errors import ArchitectureError, FidelityError, ModelFileError
from napari_fidelity.core.registry import OWN_MODELS
from napari_fidelity.widgets._dock import narrow, note_label, set_note
from napari_fidelity.widgets._own import OwnEntries
from napari_fidelity.widgets._worker import run_later

if TYPE_CHECKING:
    from napari_fidelity.networks.info import ModelInfo
    from napari_fidelity.pipeline import ModelReference

_SUFFIXES = (".safetensors", ".pth", ".pt")
_RECENT = 6  # files remembered
_DENOISER = "DRUNet"  # architecture that is told the noise level
_CHOOSE = "choose"  # data of the last entry, which is no model


class ModelPicker(QWidget):
    """A combo box of models, and below it what is known of the chosen one.

    A model file is opened as soon as it is chosen, in the background, so that one that cannot be used says so
    before anything is run with it.

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
    """

    changed = Signal()

    def __init__(self, folder: Path | None = None, *, denoiser: bool = False) -> None:
        super().__init__()
        self._denoiser = denoiser
        self.info: ModelInfo | None = None
        self.error: FidelityError | None = None
        self._scale = 0  # what the image formation asks for; 0 where that is not known
        self._last = ""
        self._sha256: str | None = None  # of the file that a recipe asks for
        self._by_user = False
        self.combo = narrow(QComboBox())
        self.combo.setToolTip(
            f"<qt>The trained network that {'denoises' if denoiser else 'restores'} the image. Bundled ones come "
            "with the plugin; any .safetensors file and weights-only .pth file of a known architecture can be "
            "used.</qt>"
        )
        self.note = note_label()
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.combo)
        column.addWidget(self.note)
        self.setFocusProxy(self.combo)
        self.folder = folder
        self._fill()
        self.combo.activated.connect(self._chosen)
        self.choose(self._offered()[0].id)
        self._own = OwnEntries(self.combo, OWN_MODELS, self._own_entry, len(self._offered()), self.choose)

    def choose(self, name: str) -> None:
        """Choose a bundled model by its id, or a file by its path."""
        at = self.combo.findData(name)
        if at < 0:
            at = self.combo.count() - 1
            self.combo.insertItem(at, Path(name).name, name)
            self.combo.setItemData(at, name, Qt.ItemDataRole.ToolTipRole)
        self.combo.setCurrentIndex(at)
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

    # -- choosing ---------------------------------------------------------------------------------------------

    def _offered(self) -> list[ModelInfo]:
        """Return the bundled models that can be used; those made for it first."""
        if not self._denoiser:
            return list(bundled())
        return sorted((i for i in bundled() if i.scale == 1), key=lambda info: info.architecture != _DENOISER)

    def _fill(self) -> None:
        self.combo.clear()
        for info in self._offered():
            self.combo.addItem(f"{info.id} – {_in_words(info)}", info.id)
        files = [*sorted(_models_in(self.folder)), *(p for p in recent_files() if p.exists())]
        for path in dict.fromkeys(files):
            self.combo.addItem(path.name, str(path))
            self.combo.setItemData(self.combo.count() - 1, str(path), Qt.ItemDataRole.ToolTipRole)
        self.combo.addItem("Choose a file…", _CHOOSE)

    def _own_entry(self, name: str) -> tuple[str, str] | None:
        info = OWN_MODELS.all()[name].info
        return None if self._denoiser and info.scale != 1 else (f"{name} – {_in_words(info)}", name)

    def _chosen(self, index: int) -> None:
        name = self.combo.itemData(index)
        if name == _CHOOSE:
            self._ask_for_file()
        elif name != self._last:
            self._by_user = True
            self._take(name)

    def _ask_for_file(self) -> None:
        start = str(self.folder or Path.home())
        patterns = " ".join(f"*{suffix}" for suffix in _SUFFIXES)
        path, _ = QFileDialog.getOpenFileName(self, "Choose a restoration network", start, f"Models ({patterns})")
        self._by_user = self._by_user or bool(path)
        self.choose(path or self._last)

    def _take(self, name: str) -> None:
        self._last, self.info, self.error, self._sha256 = name, None, None, None
        known = [info for info in bundled() if info.id == name]
        if known:
            self._learned(name, known[0])
            return
        set_note(self.note, "Reading the file …")
        run_later(
            partial(_inspect, name),
            partial(self._learned, name),
            partial(self._failed, name),
            name=f"Reading {Path(name).name}",
        )

    def _learned(self, name: str, info: ModelInfo) -> None:
        if name != self._last:  # another one was chosen meanwhile
            return
        if self._denoiser and info.scale != 1:
            self._failed(name, _enlarges(info))
            return
        self.info = info
        if Path(name).suffix in _SUFFIXES:
            remember(Path(name))
        self._describe()
        self.changed.emit()

    def _failed(self, name: str, error: Exception) -> None:
        if name != self._last:
            return
        self.error = error if isinstance(error, FidelityError) else ModelFileError(str(error))
        set_note(self.note, str(self.error))
        self.changed.emit()

    def _describe(self) -> None:
        info = self.info
        if info is None:
            return
        about = [f"Trained for {info.trained_for}." if info.trained_for else f"{_in_words(info)}."]
        if self._scale and self._scale != info.scale:
            about.append(
                f"It enlarges ×{info.scale}, the image formation asks for ×{self._scale}: it will be adapted by "
                "leaving trained layers out, which costs quality, or refused where that is impossible."
            )
        if self._denoiser and info.architecture != _DENOISER:
            about.append(
                "It is not told how strong the noise is, and may leave patterns where there is a blur to undo."
            )
        if info.licence and info.licence not in ("BSD-3-Clause", "MIT", "CC0"):
            about.append(f"Licence: {info.licence}.")
        set_note(self.note, " ".join(about))


@cache
def bundled() -> tuple[ModelInfo, ...]:
    """Return the models that come with the plugin, smallest enlargement last, ×2 first.

    Of those that do not enlarge, one that needs to be told the noise level comes last.
    """
    from napari_fidelity.io import list_models

    def order(info: ModelInfo) -> tuple[bool, int, bool]:
        return info.scale == 1, info.scale, info.architecture == _DENOISER

    own = OWN_MODELS.all()
    return tuple(sorted((info for info in list_models() if info.id not in own), key=order))


def recent_files() -> list[Path]:
    """Return the model files used last, the latest first."""
    stored: Any = _stored().value("models/recent", [])
    names = [stored] if isinstance(stored, str) else stored or []
    return [Path(name) for name in names]


def remember(path: Path) -> None:
    """Put a model file at the head of the recent ones."""
    names = [str(path), *(str(p) for p in recent_files() if p != path)]
    _stored().setValue("models/recent", names[:_RECENT])


def _stored() -> QSettings:
    return QSettings(QSettings.Format.IniFormat, QSettings.Scope.UserScope, "napari-fidelity", "docks")


def _models_in(folder: Path | None) -> list[Path]:
    if folder is None:
        return []
    try:
        return [path for path in folder.iterdir() if path.suffix in _SUFFIXES and path.is_file()]
    except OSError:  # the folder of the settings may be on a drive that is not there now
        return []


def _inspect(name: str) -> ModelInfo:
    from napari_fidelity.io import load_model

    return load_model(name).info


def _enlarges(info: ModelInfo) -> ArchitectureError:
    return ArchitectureError(
        "A denoiser keeps the size of the image",
        found=f"a network that enlarges ×{info.scale}",
        do="Choose another",
    )


def _in_words(info: ModelInfo) -> str:
    colours = {1: "gray", 3: "RGB"}.get(info.n_channels, f"{info.n_channels} channels")
    return f"×{info.scale}, {colours}, {info.architecture}"
