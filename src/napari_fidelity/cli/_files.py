"""Operators on a command line, whose arrays (masks, kernels) may be named as image files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_fidelity.operators import Operator


def read_operator(text: str) -> Operator:
    """Return the operator that a text describes, with the arrays in the image files that it names.

    Raises
    ------
    OptionError
        If the kind or an option is unknown, or a value is out of range.
    ImageError
        If a file is missing or cannot be read, or is in colour.
    """
    from napari_fidelity.operators import parse_operator

    return parse_operator(text, _array)


def _array(name: str, path: str) -> NDArray[Any]:
    """Return the array in a file; a mask beyond [0, 1] (0 and 255, labels) tells what is seen: all but 0."""
    from napari_fidelity.core.errors import ImageError
    from napari_fidelity.io import read_image

    image = read_image(path)
    if "S" in image.axes:
        found = f"a colour image, axes {image.axes}"
        raise ImageError(f"'{path}' cannot be '{name}'", found=found, do="Make it gray")
    data: NDArray[Any] = image.data
    return data != 0 if name == "mask" and data.max() > 1 else data
