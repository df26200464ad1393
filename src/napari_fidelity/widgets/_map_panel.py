"""Which map is made: what it is in words, the few options that matter, the others folded away."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QPushButton, QVBoxLayout, QWidget

from napari_fidelity.core.errors import FidelityError
from napari_fidelity.widgets._controls import choice
from napari_fidelity.widgets._dock import LazyFold, note_label, set_note

if TYPE_CHECKING:
    from napari_fidelity.methods.base import Method
    from napari_fidelity.uncertainty import UncertaintyMap
    from napari_fidelity.widgets._options import OptionsForm

_WORDS = {
    "null_space": (
        "What the data cannot show",
        "The part of the result that could be otherwise without any change in the measurement (null-space "
        "content): only the network's or the prior's word stands for it. One look, no randomness.",
    ),
    "dropout": (
        "Network's sensitivity (dropout)",
        "Standard deviation of the network's output while single features are left out at random (Lucas et al. "
        "2020). Needs a network; 50 passes by default.",
    ),
    "ensemble": (
        "Spread of results (ensemble)",
        "Standard deviation over several runs of the method: other random numbers, turned and mirrored images, or "
        "several networks.",
    ),
    "bootstrap": (
        "Expected error (bootstrap)",
        "The result is measured again by computer, with its blur, pixels and noise, and restored again: this "
        "shows how far it comes back wrong. For every method; takes as many runs as samples.",
    ),
    "error_map": (
        "Conflict with the data (error map)",
        "Difference between the measurement and what the result predicts of it, after fitting gain and offset "
        "(SQUIRREL, Culley et al. 2018).",
    ),
    "residual": (
        "What is left over (residual)",
        "The measurement minus what the result predicts of it: only noise should be left, structure was lost.",
    ),
}  # by kind, in the order of the combo box
_FIRST = {
    "dropout": ("passes", "before"),
    "ensemble": ("of_what", "members"),
    "bootstrap": ("samples",),
}  # options that are always seen, by kind
_NOT_TYPED = ("kind", "of", "image", "calibration")
_NAMES = "Calibrations (*.json)"


class MapPanel(QWidget):
    """A combo box of maps and the options of the chosen one."""

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        from napari_fidelity.uncertainty import MAPS

        self._classes = {str(cls.model_fields["kind"].default): cls for cls in MAPS}
        known = {kind: _WORDS[kind] for kind in _WORDS if kind in self._classes}
        others = {kind: (cls.title, cls.title) for kind, cls in self._classes.items() if kind not in known}
        self._entries = known | others
        self.combo = choice(self._entries, "map", "What the map shows.")
        self.meaning = note_label()
        self._map: UncertaintyMap | None = None
        self._few: OptionsForm | None = None
        self.options = LazyFold("Map options", self._build_options)
        self.calibration = _Calibration()
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(0, 0, 0, 0)
        self._column.setSpacing(2)
        for widget in (self.combo, self.meaning, self.calibration, self.options):
            self._column.addWidget(widget)
        self.setFocusProxy(self.combo)
        self.combo.currentIndexChanged.connect(self._chosen)
        self.calibration.changed.connect(self.changed)
        self._chosen()

    @property
    def kind(self) -> str:
        """The kind that is chosen."""
        return str(self.combo.currentData())

    def map(self, of: Method) -> UncertaintyMap:
        """Return the map over a method.

        Raises
        ------
        FidelityError
            If an option is out of its range, or the calibration belongs to another map.
        """
        assert self._map is not None
        values = dict(self._shown(self._few)) | dict(self._shown(self.options.widget))
        changes: dict[str, Any] = {**values, "of": of}
        if "calibration" in type(self._map).model_fields:
            changes["calibration"] = self.calibration.value
        return self._map.replace(**changes)

    def set_map(self, made: UncertaintyMap) -> None:
        """Show a map's options."""
        self.combo.setCurrentIndex(self.combo.findData(made.kind))
        self._map = made
        self.calibration.show_value(getattr(made, "calibration", None))
        forms: list[Any] = [form for form in (self._few, self.options.widget) if form is not None]
        for form in forms:
            form.set_value(made)

    def _shown(self, form: Any) -> list[tuple[str, Any]]:
        """Return the values that a form has controls for."""
        if form is None:
            return []
        value = form.value()
        return [(name, getattr(value, name)) for name in form.fields]

    def _chosen(self) -> None:
        cls = self._classes[self.kind]
        self._map = cls(kind=self.kind)
        set_note(self.meaning, self._entries[self.kind][1])
        if self._few is not None:
            self._few.deleteLater()
            self._few = None
        first = self._first()
        if first:
            self._few = self._form(tuple(name for name in cls.model_fields if name not in first))
            self._column.insertWidget(2, self._few)
        self.options.rebuild()
        self.options.setVisible(bool(set(cls.model_fields) - {*_NOT_TYPED, *first}))
        self.calibration.setVisible("calibration" in cls.model_fields)
        self.calibration.show_value(None)
        self.changed.emit()

    def _first(self) -> tuple[str, ...]:
        fields = self._classes[self.kind].model_fields
        return tuple(name for name in _FIRST.get(self.kind, ()) if name in fields)

    def _build_options(self) -> QWidget:
        return self._form((*_NOT_TYPED, *self._first()))

    def _form(self, leave_out: tuple[str, ...]) -> OptionsForm:
        from napari_fidelity.widgets._options import OptionsForm

        assert self._map is not None
        form = OptionsForm(type(self._map), leave_out=leave_out)
        form.set_value(self._map)
        form.changed.connect(self.changed)
        return form


class _Calibration(QWidget):
    """A file that says what the standard deviation has to be multiplied with."""

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.value: Any = None
        self.choose = QPushButton("Calibration…")
        self.choose.setToolTip(
            "<qt>A file of <i>napari-fidelity calibrate</i>: it turns the standard deviation into intervals in "
            "which a stated share of the pixels lies, as long as this image is like those it was made from.</qt>"
        )
        self.remove = QPushButton("Remove")
        self.remove.setToolTip("Make no intervals")
        self.note = note_label()
        buttons = QHBoxLayout()
        buttons.setContentsMargins(0, 0, 0, 0)
        buttons.addWidget(self.choose)
        buttons.addWidget(self.remove)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(2)
        column.addLayout(buttons)
        column.addWidget(self.note)
        self.choose.clicked.connect(self._ask)
        self.remove.clicked.connect(lambda: self.show_value(None))
        self.show_value(None)

    def show_value(self, value: Any, name: str = "") -> None:
        """Take a calibration, or none."""
        self.value = value
        self.remove.setEnabled(value is not None)
        words = f"Intervals from {value.count} images{f' ({name})' if name else ''}." if value is not None else ""
        set_note(self.note, words)
        self.changed.emit()

    def read(self, path: str) -> None:
        """Read a calibration; a file that is none says so."""
        from napari_fidelity.uncertainty.conformal import Calibration

        try:
            self.show_value(Calibration.read(path), Path(path).name)
        except FidelityError as error:
            self.show_value(None)
            set_note(self.note, str(error))

    def _ask(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Choose a calibration", str(Path.home()), _NAMES)
        if path:
            self.read(path)
