"""The controls of an image formation model: a preset and what belongs to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_fidelity.core.errors import OptionError
from napari_fidelity.core.registry import OWN_OPERATORS
from napari_fidelity.widgets._blur import BlurForm
from napari_fidelity.widgets._controls import choice, labelled, number_edit
from napari_fidelity.widgets._fields import EMPTY, number_text, parse_numbers
from napari_fidelity.widgets._missing import MissingForm
from napari_fidelity.widgets._own import OwnEntries
from napari_fidelity.widgets._presets import PRESETS, Parts, as_text, parts_of
from napari_fidelity.widgets._written import WrittenForm

if TYPE_CHECKING:
    from typing import Literal

    from napari.components import ViewerModel

    from napari_fidelity.operators.base import Operator

_SCALE_TIP = (
    "How many pixels of the restored image make up one of the measurement, along each axis: one number, or y, x. "
    "It follows the network until you change it."
)
_SCALED = ("downsampled", "both", "missing")
_BLURRED = ("blurred", "both")
_GIVEN = "given"
_OWN = "registered:name="


class FormationForms(QWidget):
    """A combo box over presets; below it only what the chosen one needs."""

    preset_chosen = Signal()
    scale_typed = Signal()
    edited = Signal()
    """Anything else was changed."""

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__()
        self.preset = choice(PRESETS, "image formation", "How the measurement came about from the image you want.")
        self.scale = number_edit("scale", _SCALE_TIP)
        self.blur = BlurForm(viewer)
        self.missing = MissingForm(viewer)
        self.written = WrittenForm()
        self._scale_row = labelled({"scale (×)": self.scale})
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(2)
        for widget in (self.preset, self._scale_row, self.blur, self.missing, self.written):
            column.addWidget(widget)
        self.setFocusProxy(self.preset)
        self._show_rows()
        self._own = OwnEntries(
            self.preset, OWN_OPERATORS, _own_entry, self.preset.count(), lambda _: self.edited.emit()
        )
        self.preset.currentIndexChanged.connect(self._preset_changed)
        self.scale.textChanged.connect(lambda _: self.scale_typed.emit())
        for form in (self.blur, self.missing, self.written):
            form.changed.connect(self.edited)

    @property
    def chosen(self) -> str:
        """The preset's key."""
        return str(self.preset.currentData())

    def operator(self) -> Operator:
        """Return the model as the controls say.

        Raises
        ------
        FidelityError
            If a number is missing or out of its range, or a layer does not fit.
        """
        preset = self.chosen
        if preset == "written":
            return self.written.operator()
        if preset.startswith(_OWN):
            from napari_fidelity.operators import parse_operator

            return parse_operator(preset)
        blur = self.blur.operator() if preset in _BLURRED else None
        scale = self._scale() if preset in _SCALED else None
        mask = self.missing.mask() if preset == "missing" else None
        return Parts(blur, scale, mask).operator()

    def nonfinite(self) -> Literal["error", "mask"]:
        """Return what a recipe does with NaN."""
        nan = self.chosen == "missing" and self.missing.way.currentData() == "nan"
        return "mask" if nan else "error"

    def show_operator(self, operator: Operator, nonfinite: str) -> None:
        """Fill the controls from a model; one that fits no preset is written out, or stands as it is."""
        parts = parts_of(operator)
        text = as_text(operator) if parts is None else None
        if parts is None:
            if text is not None:
                self.written.set_text(text)
            own = text is not None and text.startswith(_OWN) and self.preset.findData(text) >= 0
            self.choose(_GIVEN if text is None else text if own else "written")
            return
        missing = parts.mask is not None or nonfinite == "mask"
        if missing:
            self.missing.set_mask(None if parts.mask is None else parts.mask.mask)
        if missing or parts.scale is not None:
            scale = 1.0 if parts.scale is None else parts.scale
            self.scale.setText(
                ", ".join(number_text(s) for s in (scale if isinstance(scale, tuple) else (scale,)))
            )
        if parts.blur is not None:
            self.blur.set_operator(parts.blur)
        self.choose(parts.preset(missing=missing))

    def write(self, operator: Operator) -> None:
        """Write a model out, to begin with; a text that the user has typed stays."""
        text = None if self.written.typed else as_text(operator)
        if text is not None:
            self.written.set_text(text)

    def choose(self, preset: str) -> None:
        """Choose a preset."""
        if preset == _GIVEN and self.preset.findData(_GIVEN) < 0:
            self.preset.addItem("As given", _GIVEN)
        self.preset.setCurrentIndex(self.preset.findData(preset))

    def follow(self, network: float) -> None:
        """Show the network's scale, or 2 where one that does not enlarge makes no sense."""
        least = 1.0 if self.chosen == "missing" else 2.0
        self.scale.setText(number_text(max(least, network)))

    def restored_scale(self) -> tuple[float, float]:
        """Return the scale along y and x; 1 where there is none or it cannot be read yet."""
        if self.chosen not in _SCALED:
            return 1.0, 1.0
        value = parse_numbers(self.scale.text())
        values = value if isinstance(value, tuple) else (value, value)
        sound = len(values) == 2 and all(isinstance(v, float) and v >= 1 for v in values)
        return (values[0], values[1]) if sound else (1.0, 1.0)

    def reset_choices(self) -> None:
        """Offer the layers there are now."""
        self.blur.reset_choices()
        self.missing.reset_choices()

    def _scale(self) -> Any:
        value = parse_numbers(self.scale.text())
        if value == EMPTY:
            raise OptionError("'scale' has no value", do="Type how many times finer the restored image is")
        return None if value == 1 and self.chosen == "missing" else value

    def _preset_changed(self) -> None:
        at = self.preset.findData(_GIVEN)
        if at >= 0 and self.chosen != _GIVEN:
            self.preset.removeItem(at)
        self._show_rows()
        self.preset_chosen.emit()

    def _show_rows(self) -> None:
        preset = self.chosen
        self._scale_row.setVisible(preset in _SCALED)
        self.blur.setVisible(preset in _BLURRED)
        self.missing.setVisible(preset == "missing")
        self.written.setVisible(preset == "written")


def _own_entry(name: str) -> tuple[str, str]:
    return f"{name} (your own)", f"{_OWN}{name}"
