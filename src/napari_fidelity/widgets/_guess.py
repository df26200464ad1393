"""What the dimensions of a layer are: from its labels, its metadata, its units, or by custom."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_fidelity.core.errors import ImageError
from napari_fidelity.widgets._units import factor, layer_units

if TYPE_CHECKING:
    from collections.abc import Iterable

    from napari.layers import Layer

KEY = "napari-fidelity"
"""The entry of ``layer.metadata`` that is ours."""

_WORDS = {
    "T": ("t", "time", "frame", "frames", "timepoint", "timepoints"),
    "Z": ("z", "depth", "plane", "planes", "slice", "slices"),
    "C": ("c", "ch", "channel", "channels", "wavelength"),
    "Y": ("y", "row", "rows", "height"),
    "X": ("x", "col", "column", "columns", "width"),
}
_LETTERS = {word: letter for letter, words in _WORDS.items() for word in words}
_NOTED = ("axes", "dims", "dim_order", "dimension_order")  # where readers leave the order of the dimensions
_CUSTOM = {2: "YX", 3: "ZYX", 4: "TZYX", 5: "TZCYX"}


def full_data(layer: Layer) -> Any:
    """Return the layer's data at full resolution, untouched."""
    return layer.data[0] if getattr(layer, "multiscale", False) else layer.data


def guess_axes(layer: Layer) -> str:
    """Name the dimensions of a layer's data, from what says most about them.

    In this order: the record of an earlier result, the layer's axis labels, an order of axes in its metadata,
    units of time, and custom (the last two dimensions are rows and columns, then depth, then time).

    Returns
    -------
    str
        One letter of ``TZCYXS`` for each dimension of the data, ``S`` last for RGB.

    Raises
    ------
    ImageError
        If there are more dimensions than time, depth and channel beside the image's own.
    """
    ndim = layer.ndim
    samples = "S" if getattr(layer, "rgb", False) else ""
    if ndim not in _CUSTOM:
        raise ImageError(
            f"'{layer.name}' has more dimensions than time, depth, channel, row and column",
            found=f"{ndim} dimensions",
            do="Take a part of it as a layer of its own",
        )
    own = layer.metadata.get(KEY)
    source = own.get("source") if isinstance(own, dict) else None
    result = [source.get("axes")] if isinstance(source, dict) else []
    noted = [layer.metadata.get(name) for name in _NOTED]
    known = _noted(layer, result, samples) or _labelled(layer) or _noted(layer, noted, samples) or [None] * ndim
    return _filled(known, layer_units(layer)) + samples


def _noted(layer: Layer, notes: list[Any], samples: str) -> list[str | None] | None:
    """Return the axes that a result or a reader noted, if they fit."""
    for note in notes:
        words = list(note) if isinstance(note, str | list | tuple) else []
        rgb = samples and len(words) == layer.ndim + 1 and str(words[-1]).upper() == samples
        letters = _letters(words[:-1] if rgb else words)
        if len(letters) == layer.ndim and _sound(letters):
            return letters
    return None


def _labelled(layer: Layer) -> list[str | None] | None:
    letters = _letters(getattr(layer, "axis_labels", ()))
    return letters if len(letters) == layer.ndim and _sound(letters) else None


def _letters(words: Iterable[Any]) -> list[str | None]:
    return [_LETTERS.get(str(word).strip().lower()) for word in words]


def _sound(letters: list[str | None]) -> bool:
    """Whether some dimensions are named, none twice, and rows and columns are named or left to the last two."""
    named = [letter for letter in letters if letter]
    plane = {"Y", "X"} & set(named)
    free = letters[-2:] == [None, None]
    return bool(named) and len(set(named)) == len(named) and (plane == {"Y", "X"} or (not plane and free))


def _filled(letters: list[str | None], units: tuple[Any, ...] | None) -> str:
    """Name the dimensions that nothing is known about."""
    letters = list(letters)
    if "X" not in letters:
        letters[-2:] = ["Y", "X"]
    for i, letter in enumerate(letters):
        if letter is None and "T" not in letters and units and factor(units[i], "second") is not None:
            letters[i] = "T"
    # The order of need, last dimension first: a third dimension is depth, a fourth is time.
    left = iter([letter for letter in _order(len(letters)) if letter not in letters])
    for i in reversed(range(len(letters))):
        if letters[i] is None:
            letters[i] = next(left)
    return "".join(letter for letter in letters if letter)


def _order(ndim: int) -> str:
    return _CUSTOM[ndim][-3::-1] + "".join(letter for letter in "ZTC" if letter not in _CUSTOM[ndim])
