"""Two layers in one image, with a border between them that can be moved."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject, QTimer, Signal

from napari_fidelity.core.errors import FidelityError
from napari_fidelity.widgets._guess import KEY
from napari_fidelity.widgets._links import Links
from napari_fidelity.widgets._sampling import flat, shown_cut
from napari_fidelity.widgets._units import factors, world_units

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Layer
    from numpy.typing import NDArray

    from napari_fidelity.widgets._planes import Cut
    from napari_fidelity.widgets._worker import Job

NAME = "Split view"
_LINE = 300  # the border's line is this part of the width
_INTERVAL = 50  # ms between two looks at a slider that moves through a stack


class SplitView(QObject):
    """Shows the left part of one layer and the right part of another, in a layer of its own.

    Parameters
    ----------
    viewer
        Whose layers they are.
    parent
        The timers end with it.
    """

    failed = Signal(str)
    """The two cannot be shown, and why."""
    ready = Signal()
    """The two are shown, or shown anew."""

    def __init__(self, viewer: ViewerModel, parent: QObject) -> None:
        super().__init__(parent)
        self.viewer = viewer
        self.layer: Image | None = None
        self._pair: tuple[Layer, Layer] | None = None
        self._halves: tuple[NDArray[Any], NDArray[Any]] | None = None
        self._border, self._drawn = 0.5, 0
        self._target: Cut | None = None
        self._job: Job | None = None
        self._again = False
        self._links = Links(self)
        self._timer = _once(self, self._read)
        self._moving = _once(self, self._move)

    @property
    def pair(self) -> tuple[Layer, Layer] | None:
        """The layers to the left and to the right."""
        return self._pair

    def show(self, left: Layer, right: Layer) -> None:
        """Show two layers, on the finer one's grid."""
        self._links.clear()
        self._pair = (left, right)
        dims = self.viewer.dims.events
        self._links.connect(self._soon, left.events.data, right.events.data, dims.point, dims.ndisplay, dims.order)
        self._read()

    def set_border(self, fraction: float) -> None:
        """Move the border: 0 shows the right layer alone, 1 the left one."""
        self._border = fraction
        if not self._moving.isActive():
            self._moving.start(0)

    def stop(self) -> None:
        """Remove the layer and let go of everything."""
        self._links.clear()
        self._timer.stop()
        self._moving.stop()
        if self._job is not None:
            self._job.stop()
        layer, self.layer, self._pair, self._halves, self._job = self.layer, None, None, None, None
        self._target = None
        if layer is not None and layer in self.viewer.layers:
            self.viewer.layers.remove(layer)

    def _soon(self, event: object = None) -> None:
        if not self._timer.isActive():
            self._timer.start(_INTERVAL)

    def _read(self) -> None:
        """Read the planes in the background; while that goes on, only remember that it is to be done again."""
        if self._pair is None:
            return
        if self._job is not None:
            self._again = True
            return
        from napari_fidelity.widgets._worker import run_later

        left, right = self._pair
        try:
            cuts = shown_cut(self.viewer, left), shown_cut(self.viewer, right)
        except FidelityError as error:
            self.failed.emit(str(error))
            return
        target = min(cuts, key=lambda cut: _pixel(cut, world_units(self.viewer)))
        looks = (None, None) if not (left.rgb or right.rgb) else (_Look(left), _Look(right))

        def read() -> tuple[NDArray[Any], NDArray[Any]]:
            halves = [
                cut.onto(target) if look is None else look.colours(cut.onto(target))
                for cut, look in zip(cuts, looks, strict=True)
            ]
            dtype = np.result_type(*halves)
            return halves[0].astype(dtype, copy=False), halves[1].astype(dtype, copy=False)

        self._target = target
        self._job = run_later(read, self._take, self._say, name="Split view")

    def _say(self, error: Exception) -> None:
        self._job = None
        self.failed.emit(str(error))

    def _take(self, halves: tuple[NDArray[Any], NDArray[Any]]) -> None:
        self._job = None
        if self._pair is None or self._target is None:
            return
        self._halves = halves
        left, _ = self._pair
        data = halves[0].copy()
        self._drawn = data.shape[1]
        if self.layer is not None and self.layer.rgb == (data.ndim == 3) and self.layer in self.viewer.layers:
            self.layer.data, self.layer.affine = data, flat(self._target)
        else:
            self._add(data, left, self._target)
        self._move()
        if self._again:
            self._again = False
            self._soon()
        self.ready.emit()

    def _add(self, data: NDArray[Any], left: Layer, target: Cut) -> None:
        """Add the layer, below points and shapes that lie over the images."""
        old = self.layer
        self.layer = None
        if old is not None and old in self.viewer.layers:
            self.viewer.layers.remove(old)
        units = target.units
        active = self.viewer.layers.selection.active
        look = {"rgb": True} if data.ndim == 3 else {
            "colormap": left.colormap, "contrast_limits": left.contrast_limits, "gamma": left.gamma,
        }  # fmt: skip
        self.layer = self.viewer.add_image(
            data,
            name=NAME,
            affine=flat(target),
            interpolation2d=left.interpolation2d,
            metadata={KEY: {"view": "split"}},
            **look,
            **({"units": units[-2:]} if units else {}),
        )
        from napari.layers import Image

        layers = self.viewer.layers
        top = max(i for i, layer in enumerate(layers) if isinstance(layer, Image) and layer is not self.layer)
        layers.move(len(layers) - 1, top + 1)
        if active is not None and active in layers:
            layers.selection.active = active

    def _move(self) -> None:
        """Write the columns between the old border and the new one, and draw a line at the new one."""
        if self._halves is None or self.layer is None:
            return
        data = self.layer.data
        left, right = self._halves
        border = round(self._border * data.shape[1])
        line = max(1, data.shape[1] // _LINE)
        first, last = sorted((border, self._drawn))
        shown = slice(max(first - line, 0), last + line)
        data[:, shown] = right[:, shown]
        data[:, shown.start : border] = left[:, shown.start : border]
        if 0 < border < data.shape[1]:
            data[:, border : border + line] = 1 if self.layer.rgb else self.layer.contrast_limits[1]
        self._drawn = border
        self.layer.refresh(thumbnail=False, highlight=False, extent=False)


class _Look:
    """How a layer turns numbers into colours."""

    def __init__(self, layer: Layer) -> None:
        self.limits, self.gamma = layer.contrast_limits, layer.gamma
        self.colormap = None if layer.rgb else layer.colormap

    def colours(self, data: NDArray[Any]) -> NDArray[np.float32]:
        """Return RGB between 0 and 1, black where there is nothing."""
        low, high = self.limits
        scaled = np.clip((data - low) / ((high - low) or 1.0), 0, 1) ** self.gamma
        if self.colormap is None:
            found = scaled[..., :3]
        else:
            found = self.colormap.map(np.nan_to_num(scaled).ravel())[:, :3].reshape(*data.shape, 3)
            found[np.isnan(data)] = 0
        return np.nan_to_num(np.clip(found, 0, 1)).astype(np.float32)


def _pixel(cut: Cut, units: Any) -> float:
    """Return the area of a plane's pixels in the world."""
    ndim = len(cut.matrix) - 1
    own = cut.matrix[:-1, :-1] * np.array(factors(cut.units, units, ndim))[:, None]
    return float(np.prod([np.linalg.norm(own[:, cut.axes.index(axis)]) for axis in "YX"]))


def _once(parent: QObject, act: Any) -> QTimer:
    timer = QTimer(parent)
    timer.setSingleShot(True)
    timer.timeout.connect(act)
    return timer
