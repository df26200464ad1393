"""What a run needs of a layer: its data, how it lies in the world, how it looks, what is known about it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fidelity.core.errors import ImageError, ShapeError
from napari_fidelity.widgets._geometry import geometry_of, result_axes, shear_matrix, with_axes
from napari_fidelity.widgets._guess import KEY, full_data, guess_axes
from napari_fidelity.widgets._reading import part, read
from napari_fidelity.widgets._units import Sampling

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from napari.layers import Layer
    from numpy.typing import NDArray

    from napari_fidelity.core.arrays import Image

_LOOK = (
    "colormap", "gamma", "blending", "opacity", "interpolation2d", "interpolation3d", "rendering", "attenuation",
    "iso_threshold", "projection_mode",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Source:
    """Everything a run needs of a layer, taken in no time; it keeps the data, never the layer.

    Attributes
    ----------
    name
        The layer's name.
    data
        Its array at full resolution, untouched: in memory, dask, zarr, memory-mapped …
    axes
        One letter of ``TZCYXS`` for each dimension of ``data``.
    index
        Position along the axes of which only one position is wanted.
    sampling
        Pixel size, origin and unit.
    geometry
        How the layer lies in the world: ``scale``, ``translate``, ``rotate``, ``shear``, ``affine`` and, where
        napari has them, ``units`` and ``axis_labels``.
    look
        Contrast limits, colormap, gamma, blending, interpolation and the like.
    limits_range
        Ends of the contrast limits' slider.
    metadata
        A copy of the layer's metadata.
    path
        The file it came from.
    id
        What napari tells the layer from all others by, as long as it is open.
    """

    name: str
    data: Any
    axes: str
    index: Mapping[str, int]
    sampling: Sampling
    geometry: Mapping[str, Any]
    look: Mapping[str, Any]
    limits_range: tuple[float, float]
    metadata: Mapping[str, Any]
    path: str | None
    id: str = ""

    @classmethod
    def of(cls, layer: Layer, axes: str | None = None, index: Mapping[str, int] | None = None) -> Source:
        """Take what a run needs of a layer; nothing is read.

        Parameters
        ----------
        layer
            An image layer.
        axes
            One letter of ``TZCYXS`` for each dimension of its data; by default as :func:`guess_axes` has them.
        index
            Axes of which only this one position is wanted: ``{"Z": 3}``.

        Raises
        ------
        ImageError
            If it is no image layer, or its data type, axes or the index cannot be used.
        """
        _check_image(layer)
        axes = guess_axes(layer) if axes is None else axes.upper()
        data = full_data(layer)
        index = dict(index or {})
        _check_axes(layer, axes, tuple(data.shape), index)
        path = getattr(getattr(layer, "source", None), "path", None)
        return cls(
            layer.name,
            data,
            axes,
            index,
            Sampling.of(layer, axes),
            geometry_of(layer),
            _look(layer),
            (float(layer.contrast_limits_range[0]), float(layer.contrast_limits_range[1])),
            _copied(layer.metadata),
            None if path is None else str(path),
            str(getattr(layer, "unique_id", "")),
        )

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of what :meth:`read` returns: 1 along the axes in ``index``, 3 for RGB."""
        return tuple(s.stop - s.start for s in self._part)

    @property
    def nbytes(self) -> int:
        """How many bytes the image holds that :meth:`read` returns."""
        return prod(self.shape) * np.dtype(self.data.dtype).itemsize

    @property
    def _part(self) -> tuple[slice, ...]:
        return part(self.axes, self.data.shape, self.index)

    def read(self) -> Generator[tuple[int, int], None, Image]:
        """Read the image piece by piece.

        Yields
        ------
        done, total
            Pieces read so far and all there are.

        Returns
        -------
        Image
            With pixel size and origin; axes in ``index`` have length 1.
        """
        from napari_fidelity.core.arrays import Image

        data = yield from read(self.data, self.axes, self._part)
        return Image(data, self.axes, self.sampling.pixel_size, self.sampling.unit, self._origin())

    def _origin(self) -> dict[str, float]:
        """Return where the first pixel's centre lies of what is read."""
        size = self.sampling.pixel_size
        return {axis: o + size[axis] * self.index.get(axis, 0) for axis, o in self.sampling.origin.items()}

    def on_own_scale(self) -> Source:
        """Return the source of results in intensities of their own: its contrast limits say nothing of them."""
        return replace(self, look={name: value for name, value in self.look.items() if name != "contrast_limits"})

    def whole(self, image: Image) -> Image:
        """Return an image that lacks axes of ``index`` with those axes, of length 1.

        Raises
        ------
        ShapeError
            If other axes are missing, or there are axes that the layer does not have; channels may differ.
        """
        axes = result_axes(self.axes, image.axes, self.index)
        if image.axes == axes:
            return image
        missing = [axis for axis in axes if axis not in image.axes]
        if set(missing) - set(self.index) or set(image.axes) - set(axes):
            raise ShapeError(
                f"The image does not have the axes of '{self.name}'", found=f"{image.axes} instead of {axes}"
            )
        order = [image.axes.index(axis) for axis in axes if axis not in missing]
        data = np.expand_dims(image.data.transpose(order), [axes.index(axis) for axis in missing])
        alone = {axis: value for axis, value in self._origin().items() if axis in missing}
        sizes = {axis: self.sampling.pixel_size[axis] for axis in alone}
        return image.replace(
            data=data, axes=axes, pixel_size={**image.pixel_size, **sizes}, origin={**image.origin, **alone}
        )

    def on_grid(self, image: Image) -> dict[str, Any]:
        """Return the arguments of ``viewer.add_image`` that lay a result over the layer, to the pixel.

        With ``s`` times finer pixels whose first lies at pixel ``p0`` of the layer, pixel ``d`` of the result lies
        where ``p0 + d/s`` of the layer does: ``scale/s``, and ``translate`` moved by ``p0``, scaled, sheared and
        rotated as the layer is; ``affine``, units and labels stay.

        Parameters
        ----------
        image
            On any grid that follows from the layer's by pixel size and origin.

        Returns
        -------
        dict
            Geometry, look (in the measurement's intensity units, so its contrast limits too) and metadata: the
            layer's own, and the image's record under ``"napari-fidelity"``, with the source's below ``"source"``.
        """
        image = self.whole(image)
        geometry = with_axes(self.geometry, self.axes, image.axes)
        finer, first = self._relation(image)
        rotate, shear = geometry["rotate"], shear_matrix(geometry["shear"])
        scale = geometry["scale"]
        changed = {
            "scale": scale / finer,
            "translate": geometry["translate"] + rotate @ shear @ (scale * first),
        }
        return {
            **geometry,
            **changed,
            **self.look,
            "rgb": "S" in image.axes,
            "metadata": self._record(image),
        }

    def _relation(self, image: Image) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return how many times finer the image's grid is, and at which pixel of the layer it begins."""
        old = self.sampling
        finer, first = [], []
        for axis in image.axes.replace("S", ""):
            if axis in "ZYX":
                size = old.pixel_size[axis]
                finer.append(size / image.pixel_size[axis])
                first.append((image.origin[axis] - old.origin[axis]) / size)
            else:
                finer.append(1.0)
                first.append(float(self.index.get(axis, 0)))
        return np.array(finer), np.array(first)

    def noted(self) -> dict[str, Any]:
        """Return what the layer is found by again, as plain values."""
        return {
            "layer": self.name,
            "id": self.id,
            "path": self.path,
            "axes": self.axes,
            "index": dict(self.index),
            "shape": [int(n) for n in self.data.shape],
            "dtype": str(np.dtype(self.data.dtype)),
        }

    def _record(self, image: Image) -> dict[str, Any]:
        own = self.metadata.get(KEY)
        source = self.noted() | ({KEY: _copied(own)} if own else {})
        record = image.metadata.get(KEY) or {}
        return {**_copied(self.metadata), KEY: {**_copied(record), "source": source}}


def _check_image(layer: Layer) -> None:
    from napari.layers import Image

    if not isinstance(layer, Image):
        kind = type(layer).__name__.lower()
        raise ImageError(
            f"'{layer.name}' is a {kind} layer, it holds no intensities",
            do="Choose an image layer, or convert it (right click on the layer, Convert to Image)",
        )
    if np.dtype(full_data(layer).dtype).kind == "b":
        raise ImageError(
            f"'{layer.name}' holds yes or no, not intensities",
            found="data type bool",
            do="Convert it to uint8 or float32",
        )


def _check_axes(layer: Layer, axes: str, shape: tuple[int, ...], index: Mapping[str, int]) -> None:
    lengths = dict(zip(axes, shape, strict=False))
    sound = len(axes) == len(shape) == len(lengths) and {"Y", "X"} <= set(axes) <= set("TZCYXS")
    if not sound or ("S" in axes) != bool(layer.rgb):
        raise ImageError(
            f"The axes '{axes}' do not fit '{layer.name}'",
            found=f"shape {shape}{', RGB' if layer.rgb else ''}",
            do="Name each dimension once, such as TZCYX; S is for RGB, which comes last",
        )
    for axis, position in index.items():
        if axis in "YXS" or not 0 <= position < lengths.get(axis, 0):
            raise ImageError(
                f"'{layer.name}' has no position {position} along {axis}", found=f"shape {shape}, axes {axes}"
            )


def _look(layer: Layer) -> dict[str, Any]:
    look = {name: getattr(layer, name) for name in _LOOK if hasattr(layer, name)}
    if look.get("interpolation2d") == "custom":
        look["custom_interpolation_kernel_2d"] = layer.custom_interpolation_kernel_2d
    return look | {"contrast_limits": tuple(float(limit) for limit in layer.contrast_limits)}


def _copied(value: Any) -> Any:
    """Copy dicts and lists; what they hold may be large, or not be copyable."""
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    return [_copied(item) for item in value] if isinstance(value, list) else value
