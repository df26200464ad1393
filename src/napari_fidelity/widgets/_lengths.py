"""Lengths as a microscopist gives them: in pixels of the restored image or in the layer's unit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QHBoxLayout, QLineEdit, QSizePolicy, QWidget

from napari_fidelity.core.errors import OptionError
from napari_fidelity.widgets._fields import number_text, parse_numbers, quiet_wheel
from napari_fidelity.widgets._units import Sampling, factor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari.layers import Layer

    Pair = tuple[float, float]

PIXELS = "px"


@dataclass(frozen=True)
class PixelGrid:
    """Pixel size of the restored image along rows and columns (y, x).

    Attributes
    ----------
    size
        In ``unit``.
    unit
        ``"µm"``, ``"nm"`` …; ``"pixel"`` where the layer has none.
    """

    size: Pair = (1.0, 1.0)
    unit: str = "pixel"

    @classmethod
    def of(cls, layer: Layer, axes: str) -> Self:
        """Return the grid of a layer."""
        sampling = Sampling.of(layer, axes)
        return cls((sampling.pixel_size["Y"], sampling.pixel_size["X"]), sampling.unit)

    @property
    def has_unit(self) -> bool:
        """Whether the pixel size is known."""
        return self.unit != "pixel"

    def finer(self, scale: float | Sequence[float]) -> PixelGrid:
        """Return the grid with so many pixels for each of this one, one number or one per axis."""
        y, x = pair(scale)
        return PixelGrid((self.size[0] / y, self.size[1] / x), self.unit)

    def nanometres(self) -> Pair | None:
        """Return the pixel size in nanometres; ``None`` if the unit is not a length."""
        ratio = factor(self.unit, "nm") if self.has_unit else None
        return None if ratio is None else (self.size[0] * ratio, self.size[1] * ratio)

    def to_pixels(self, length: float | Sequence[float]) -> Pair:
        """Return a length in ``unit`` as pixels along y and x."""
        y, x = pair(length)
        return tidy(y / self.size[0]), tidy(x / self.size[1])

    def to_unit(self, pixels: float | Sequence[float]) -> Pair:
        """Return pixels along y and x as lengths in ``unit``."""
        y, x = pair(pixels)
        return tidy(y * self.size[0]), tidy(x * self.size[1])


class LengthField(QWidget):
    """A number, or one for y and one for x, with its unit.

    Parameters
    ----------
    name
        The option it stands for, for messages.
    tooltip
        What it is.
    """

    changed = Signal()

    def __init__(self, name: str, tooltip: str) -> None:
        super().__init__()
        self.name = name
        self.grid = PixelGrid()
        self.edit = QLineEdit()
        self.edit.setMinimumWidth(50)
        self.edit.setAccessibleName(name)
        self.edit.setToolTip(f"<qt>{tooltip}</qt>")
        self.unit = QComboBox()
        self.unit.addItem(PIXELS)
        self.unit.setAccessibleName(f"unit of {name}")
        self.unit.setToolTip(
            "<qt>Pixels of the restored image, or the layer's own unit. The length stays the same.</qt>"
        )
        self.unit.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)
        quiet_wheel(self.unit)
        self.setToolTip(self.edit.toolTip())
        self.setFocusProxy(self.edit)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.edit, 1)
        row.addWidget(self.unit)
        self._unit = PIXELS
        self.edit.textChanged.connect(lambda _: self.changed.emit())
        self.unit.currentTextChanged.connect(self._convert)

    @property
    def in_pixels(self) -> bool:
        """Whether the number shown is one of pixels."""
        return bool(self.unit.currentText() == PIXELS)

    def show_in_pixels(self) -> None:
        """Go over to pixels."""
        self.unit.setCurrentIndex(0)

    def number(self) -> float:
        """Return the one number that is shown, in its unit.

        Raises
        ------
        OptionError
            If the text is not one number.
        """
        value = self._numbers()
        if isinstance(value, tuple):
            raise OptionError(f"'{self.name}' is one number", found=f"'{self.edit.text()}'")
        return value

    def pixels(self) -> float | Pair:
        """Return the length in pixels of the restored image: one number if it is the same along both axes.

        Raises
        ------
        OptionError
            If the text is not one number or two.
        """
        value = self._numbers()
        if self.in_pixels:
            return value
        y, x = self.grid.to_pixels(value)
        return y if y == x else (y, x)

    def set_pixels(self, value: float | Sequence[float]) -> None:
        """Show a length given in pixels, in the unit that is chosen."""
        shown = value if self.in_pixels else self.grid.to_unit(value)
        self._show(pair(shown))

    def set_grid(self, grid: PixelGrid) -> None:
        """Take another pixel size; the number that is shown stays as it is."""
        self.grid = grid
        units = [PIXELS, grid.unit] if grid.has_unit else [PIXELS]
        if units == [self.unit.itemText(i) for i in range(self.unit.count())]:
            return
        pixels = self.in_pixels
        before = self.unit.blockSignals(True)
        self.unit.clear()
        self.unit.addItems(units)
        self.unit.setCurrentIndex(0 if pixels or len(units) == 1 else 1)
        self.unit.setEnabled(len(units) > 1)
        self.unit.blockSignals(before)
        self._unit = self.unit.currentText()

    def _numbers(self) -> float | Pair:
        value: Any = parse_numbers(self.edit.text())
        if isinstance(value, str) or (isinstance(value, tuple) and len(value) != 2):
            found = f"'{self.edit.text()}'" if self.edit.text().strip() else "nothing"
            raise OptionError(
                f"'{self.name}' is one number, or one for y and one for x",
                found=found,
                do="Write 1.5 for one and a half, and 1, 2 for y and x",
            )
        return value

    def _convert(self, unit: str) -> None:
        """Show the same length in the unit just chosen."""
        old, self._unit = self._unit, unit
        if unit == old:
            return
        try:
            value = self._numbers()
        except OptionError:
            self.changed.emit()
            return
        self._show(self.grid.to_unit(value) if old == PIXELS else self.grid.to_pixels(value))

    def _show(self, value: Pair) -> None:
        y, x = value
        text = number_text(y) if y == x else f"{number_text(y)}, {number_text(x)}"
        if text != self.edit.text():
            self.edit.setText(text)


def pair(value: float | Sequence[float]) -> Pair:
    """Return one number for each of y and x."""
    if isinstance(value, int | float):
        return float(value), float(value)
    return float(value[0]), float(value[1])


def tidy(value: float) -> float:
    """Return a number without the rounding of the last arithmetic: 4 and not 4.000000000000001."""
    return float(f"{value:.9g}")
