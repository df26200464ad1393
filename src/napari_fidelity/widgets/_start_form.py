"""Where a reconstruction begins: as the method has it, from the measurement, or from a layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_fidelity.core.errors import ImageError
from napari_fidelity.widgets._controls import choice, labelled
from napari_fidelity.widgets._dock import layer_combo
from napari_fidelity.widgets._slices import beside

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer
    from numpy.typing import NDArray

    from napari_fidelity.widgets._layers import Source

_STARTS = {
    "": ("as the method has it", "What the method begins with by itself."),
    "noise": ("noise alone", "The untrained network is shown nothing but noise."),
    "measurement": ("the measurement", "The measurement, on the grid of the image."),
    "classical": (
        "a classical reconstruction",
        "The least squares solution that agrees with the data as far as the noise allows.",
    ),
    "red": (
        "a reconstruction by RED",
        "What the denoiser alone makes as prior; the deep image prior then makes it agree with the data.",
    ),
    "layer": ("a layer", "Any image on the grid of the result: an earlier result, or one made elsewhere."),
}
_NAMED = ("noise", "measurement", "classical", "red")
_GIVEN = "given"


class StartForm(QWidget):
    """What the method's option ``start`` is to be."""

    changed = Signal()

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__()
        self._viewer = viewer
        self._given: NDArray[Any] | None = None
        self._by_method: Any = ""
        self.combo = choice(_STARTS, "start", "What the reconstruction begins with.")
        self.layer = layer_combo(viewer, "The image to begin with; as large as the result")
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(2)
        column.addWidget(labelled({"begin with": self.combo}))
        column.addWidget(self.layer.native)
        self.setFocusProxy(self.combo)
        self.combo.currentIndexChanged.connect(self._chosen)
        self.layer.native.setVisible(False)

    def show_for(self, method: Any) -> None:
        """Offer what a method can begin with; ``method`` holds its defaults. One without a choice hides this."""
        self.setVisible(hasattr(method, "start"))
        if not hasattr(method, "start"):
            self._show("")
            return
        words = {value for member in get_args(_annotation(method)) for value in _words(member)}
        self._by_method = method.start
        self.set_start(method.start)
        for key in _NAMED:
            self._offer(key, key in words)

    def start(self) -> Any:
        """Return the option's value; that of the method's default while a layer is chosen (see :meth:`source`)."""
        key = self.combo.currentData()
        if key == _GIVEN:
            return self._given
        return key if key in _NAMED else self._by_method

    def source(self, measured: Source) -> Source | None:
        """Return the layer to begin with; ``None`` if none is asked for.

        Parameters
        ----------
        measured
            What is to be reconstructed: the layer is read at the same slices.

        Raises
        ------
        ImageError
            If there is no layer, or it has no such slices.
        """
        if self.combo.currentData() != "layer":
            return None
        layer: Layer | None = self.layer.value
        if layer is None:
            raise ImageError("No layer is chosen to begin with", do="Add one, or begin with the measurement")
        return beside(self._viewer, layer, measured)

    def set_start(self, start: Any) -> None:
        """Show a method's ``start``."""
        if isinstance(start, str):
            self._given = None
            self._offer(_GIVEN, False)
            self._show("" if start == self._by_method else start)
            return
        self._given = start
        self._offer(_GIVEN, True)
        self._show(_GIVEN)

    def reset_choices(self) -> None:
        """Offer the layers there are now."""
        self.layer.reset_choices()

    def _show(self, key: str) -> None:
        self.combo.setCurrentIndex(self.combo.findData(key))

    def _offer(self, key: str, offered: bool) -> None:
        at = self.combo.findData(key)
        if at >= 0 and not offered:
            self.combo.removeItem(at)
        elif at < 0 and offered:
            words = _STARTS[key][0] if key in _STARTS else "as in the recipe"
            self.combo.insertItem(1 if key == "noise" else self.combo.count(), words, key)

    def _chosen(self) -> None:
        self.layer.native.setVisible(self.combo.currentData() == "layer")
        self.changed.emit()


def _annotation(method: Any) -> Any:
    return type(method).model_fields["start"].annotation


def _words(member: Any) -> tuple[Any, ...]:
    """Return the words of a literal type."""
    return get_args(member) if get_origin(member) is Literal else ()
