"""How a map is coloured: evenly to the eye, on its own or over the result it belongs to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fidelity.widgets._maps import diverging

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari.layers import Layer
    from numpy.typing import NDArray

    from napari_fidelity.core.arrays import Image

COLOURS = {
    "inferno": ("inferno: bright is uncertain", "From black over red to yellow; even to the eye."),
    "viridis": ("viridis: bright is uncertain", "From violet over green to yellow; even to the eye."),
    "cividis": (
        "cividis: bright is uncertain",
        "From blue to yellow; even to the eye, and the same to colour-blind readers.",
    ),
    "gray_r": ("gray: dark is uncertain", "White is certain, black uncertain, as Lucas et al. 2020 print it."),
}
"""Words and meaning of the colour maps that are offered, by napari's names."""

_OVER = ", see-through"  # end of the name of colours that let the certain parts of the image through
_MOST = 99.9  # percentile that the colours reach to
_SAMPLES = 2_000_000
_OPAQUE = 0.85


def colours_of(layer: Layer) -> str:
    """Return which of :data:`COLOURS` a layer has, empty for others such as those of signed numbers."""
    name = str(layer.colormap.name).removesuffix(_OVER)
    return name if name in COLOURS else ""


def lies_over(layer: Layer) -> bool:
    """Whether a map lets the image below it through where it is certain."""
    return str(layer.colormap.name).endswith(_OVER)


def signed(layer: Layer) -> bool:
    """Whether the sign of a map's numbers means something."""
    return bool(layer.contrast_limits[0] < 0)


def colormap(name: str, *, over: bool = False) -> Any:
    """Return colours for ``viewer.add_image``.

    Parameters
    ----------
    name
        One of :data:`COLOURS`; empty for signed numbers.
    over
        Whether small numbers let the image below through.
    """
    from napari.utils.colormaps import Colormap, ensure_colormap

    plain = ensure_colormap(name) if name else diverging()
    if not over:
        return plain
    position = np.linspace(0, 1, 256)
    colours = np.array(plain.map(position), np.float32)
    colours[:, 3] = _OPAQUE * (position if name else np.abs(2 * position - 1)) ** 1.25
    return Colormap(colours, name=f"{plain.name}{_OVER}")


def paint(layer: Layer, name: str, *, over: bool) -> None:
    """Colour a map that is there; errors are napari's."""
    layer.colormap = colormap("" if signed(layer) else name, over=over)


def limits(arrays: Sequence[NDArray[Any]], *, sign: bool) -> tuple[float, float]:
    """Return contrast limits for maps whose colours mean the same numbers.

    They reach to the largest numbers but for one in a thousand, from 0 or, where the sign counts, as far below it.
    """
    largest = max((_largest(array) for array in arrays), default=0.0) or 1.0
    return (-largest if sign else 0.0), largest


def _largest(array: NDArray[Any]) -> float:
    some = np.ravel(array)[:: max(1, array.size // _SAMPLES)]
    finite = np.abs(some[np.isfinite(some)])
    return float(np.percentile(finite, _MOST)) or float(finite.max()) if finite.size else 0.0


def flat(image: Image, *, sign: bool) -> Image:
    """Return a map of colours as one of numbers, which can have colours of its own.

    Signed numbers are averaged over red, green and blue, others quadratically, as standard deviations are.
    """
    if "S" not in image.axes:
        return image
    data, axis = image.data, image.axes.index("S")
    mean = data.mean(axis) if sign else np.sqrt(np.square(data, dtype=np.float32).mean(axis))
    return image.replace(data=np.asarray(mean, np.float32), axes=image.axes.replace("S", ""))
