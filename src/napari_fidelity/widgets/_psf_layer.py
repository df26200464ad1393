"""A point-spread function taken from a layer, or kept from a recipe."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from magicgui.widgets import ComboBox
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QSizePolicy, QVBoxLayout, QWidget

from napari_fidelity.core.errors import OperatorError
from napari_fidelity.widgets._controls import labelled
from napari_fidelity.widgets._dock import narrow, note_label, set_note
from napari_fidelity.widgets._fields import quiet_wheel
from napari_fidelity.widgets._from_layer import Background, times
from napari_fidelity.widgets._lengths import PixelGrid
from napari_fidelity.widgets._psf import kernel_from
from napari_fidelity.widgets._reading import in_memory

if TYPE_CHECKING:
    from collections.abc import Hashable

    from napari.components import ViewerModel
    from napari.layers import Layer

    from napari_fidelity.widgets._psf import Kernel

_TOOLTIP = (
    "A layer with the image of a point: a bead, or a computed point-spread function. Of a stack the plane with "
    "the highest peak is taken. If both layers have a pixel size, it is resampled to that of the restored image."
)
_SMALL = 2**16  # pixels from which a kernel can be made in no time


class PsfLayer(QWidget):
    """Chooses the layer and says what was made of it."""

    changed = Signal()

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__()
        self._viewer = viewer
        self._given: Kernel | None = None
        self._image: tuple[int, int] | None = None
        self._made: tuple[Hashable, Kernel, str] | None = None
        self._background = Background(self)
        self.combo = ComboBox(choices=self._choices, nullable=False, tooltip=_TOOLTIP)
        narrow(self.combo.native).setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.combo.native.setToolTip(f"<qt>{_TOOLTIP}</qt>")
        self.combo.native.setAccessibleName("layer of the point-spread function")
        quiet_wheel(self.combo.native)
        self.note = note_label()
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(2)
        column.addWidget(labelled({"layer": self.combo.native}))
        column.addWidget(self.note)
        self.combo.changed.connect(self._chosen)
        self._background.ready.connect(self.changed)

    def kernel(self, grid: PixelGrid) -> Kernel:
        """Return the kernel on the restored image's grid.

        Raises
        ------
        OperatorError
            If there is none, or the layer cannot be one; the message says why.
        """
        layer: Layer | None = self.combo.value
        if layer is not None:
            kernel, said = self._from(layer, grid)
        elif self._given is not None:
            kernel, said = self._given, ""
        else:
            raise OperatorError(
                "No layer is chosen for the point-spread function", do="Choose one, or open its file"
            )
        set_note(self.note, said)
        if self._image is not None and any(k > n for k, n in zip(kernel.shape, self._image, strict=True)):
            raise OperatorError(
                "The point-spread function is larger than the image",
                found=f"{times(kernel.shape)} on {times(self._image)} px",
                do="Crop its layer around the peak, or check the pixel sizes of both layers",
            )
        return kernel

    def set_kernel(self, kernel: Kernel) -> None:
        """Keep a kernel that comes from no layer."""
        self._given = np.asarray(kernel)
        self.combo.reset_choices()
        self.combo.value = None
        self._chosen()

    def set_image_shape(self, shape: tuple[int, int] | None) -> None:
        """Take the size of the restored image, which a kernel cannot exceed."""
        self._image = shape

    def reset_choices(self) -> None:
        """Offer the layers there are now."""
        self.combo.reset_choices()

    def _from(self, layer: Layer, grid: PixelGrid) -> tuple[Kernel, str]:
        from napari_fidelity.widgets._guess import full_data, guess_axes

        if getattr(layer, "rgb", False) or layer.ndim not in (2, 3):
            raise OperatorError(
                f"'{layer.name}' cannot be a point-spread function",
                found="a colour image" if getattr(layer, "rgb", False) else f"{layer.ndim} dimensions",
                do="Choose a gray layer with two or three dimensions",
            )
        axes = guess_axes(layer)
        order = [axes.index(axis) for axis in axes if axis not in "YX"] + [axes.index("Y"), axes.index("X")]
        data, name, own = full_data(layer), layer.name, PixelGrid.of(layer, axes)
        key = (id(data), own, grid)
        if self._made is None or self._made[0] != key:
            made = self._background.get(
                key,
                name,
                lambda: kernel_from(np.asarray(data).transpose(order), name, own, grid),
                at_once=in_memory(data) and data.size <= _SMALL,
            )
            self._made = (key, *made)
        return self._made[1:]

    def _chosen(self, *_: Any) -> None:
        self._made = None
        set_note(self.note, "")
        self.changed.emit()

    def _choices(self, _: object) -> list[tuple[str, Any]]:
        from napari.layers import Image

        none = "choose a layer" if self._given is None else f"as given, {times(self._given.shape)} px"
        return [(none, None), *((layer.name, layer) for layer in self._viewer.layers if isinstance(layer, Image))]
