"""Choosing a denoiser: which one, with its licence and what it needs, and the network where it is one."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QSizePolicy, QVBoxLayout, QWidget

from napari_fidelity.core.errors import FidelityError, MissingDependencyError
from napari_fidelity.widgets._controls import labelled
from napari_fidelity.widgets._dock import note_label, set_note
from napari_fidelity.widgets._model import ModelPicker
from napari_fidelity.widgets._options import ChoiceForm, titles

if TYPE_CHECKING:
    from pathlib import Path

    from napari_fidelity.denoisers import Denoiser
    from napari_fidelity.pipeline import ModelReference

_TOOLTIP = (
    "What tells a natural image from one with noise: the reconstruction is an image that explains the measurement "
    "and that this denoiser has little to take from."
)
_PACKAGES = {
    "bm3d": ("bm3d", "pip install bm3d", "The package bm3d is for non-commercial use only."),
}  # module, how to install it and its licence, by the kind of denoiser


class DenoiserChoice(QWidget):
    """A combo box of denoisers, and the picker of a network below it.

    Attributes
    ----------
    options
        The options of the chosen denoiser, to be put wherever there is room.
    model
        The picker of the network, where the denoiser is one.
    """

    changed = Signal()

    def __init__(self, folder: Path | None) -> None:
        super().__init__()
        from napari_fidelity.denoisers import DENOISERS

        self.options = ChoiceForm(DENOISERS, titles(DENOISERS), tooltip=f"<qt>{_TOOLTIP}</qt>", part=True)
        self.options.combo.setAccessibleName("denoiser")
        self.options.combo.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.model = ModelPicker(folder, denoiser=True)
        self.note = note_label()
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(2)
        column.addWidget(labelled({"denoiser": self.options.combo}))
        column.addWidget(self.model)
        column.addWidget(self.note)
        self.setFocusProxy(self.options.combo)
        self.options.changed.connect(self._chosen)
        self.model.changed.connect(self.changed)
        self._chosen()

    def denoiser(self) -> Denoiser:
        """Return the denoiser.

        Raises
        ------
        FidelityError
            If an option is out of its range, or a package is missing.
        """
        missing = _missing(self.options.kind or "")
        if missing is not None:
            raise missing
        value: Any = self.options.value()
        return value

    def reference(self) -> ModelReference | None:
        """Return the network for a recipe; ``None`` for a denoiser that is none.

        Raises
        ------
        FidelityError
            If the chosen file cannot be used.
        """
        return self.model.reference() if self._is_network else None

    def show(self, denoiser: Denoiser) -> None:
        """Show a denoiser."""
        self.options.set_value(denoiser)

    @property
    def _is_network(self) -> bool:
        from napari_fidelity.denoisers import DENOISERS

        needing = {cls.model_fields["kind"].default for cls in DENOISERS if cls.needs_network}
        return self.options.kind in needing

    def _chosen(self) -> None:
        kind = self.options.kind or ""
        missing = _missing(kind)
        self.model.setVisible(self._is_network)
        set_note(self.note, _PACKAGES.get(kind, ("", "", ""))[2] if missing is None else str(missing))
        self.changed.emit()


def _missing(kind: str) -> FidelityError | None:
    """Return what is to be said of a denoiser whose package is not there."""
    module, command, licence = _PACKAGES.get(kind, ("", "", ""))
    if not module or find_spec(module) is not None:
        return None
    return MissingDependencyError(
        f"This denoiser needs the package {module}, which is not installed. {licence}".strip(),
        do=f"{command}, and start napari again; or choose another denoiser",
    )
