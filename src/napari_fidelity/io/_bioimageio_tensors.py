"""What a bioimage.io package says of its input and output: axes, sizes, and what is done to intensities.

Read from the descriptions that ``bioimageio.spec`` makes of formats 0.4 and 0.5, without opening anything else.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_fidelity.core.errors import ArchitectureError

if TYPE_CHECKING:
    from collections.abc import Sequence

_LETTERS = {"batch": "b", "channel": "c", "time": "t", "index": "i"}
_ENDS = {
    "uint8": (0, 2**8 - 1), "int8": (-(2**7), 2**7 - 1), "uint16": (0, 2**16 - 1), "int16": (-(2**15), 2**15 - 1),
    "uint32": (0, 2**32 - 1), "int32": (-(2**31), 2**31 - 1), "uint64": (0, 2**64 - 1),
    "int64": (-(2**63), 2**63 - 1), "bool": (0, 1),
}  # fmt: skip


@dataclass(frozen=True)
class Tensor:
    """One input or output.

    Attributes
    ----------
    name
        Its id.
    axes
        Letters of its axes in their order: some of ``bcyx``.
    channels
        Number of channels.
    one_by_one
        Whether it takes one image at a time.
    ends
        Lowest and highest value it can have, as declared by a range or an integer type; ``None`` if neither.
    """

    name: str
    axes: str
    channels: int
    one_by_one: bool
    ends: tuple[float, float] | None


@dataclass(frozen=True)
class Sizes:
    """Which images fit, and where the output lies on them; pairs are for y and x.

    Attributes
    ----------
    least, step
        Height and width are ``least + k · step``.
    square
        Whether they must be the same.
    scale
        Factor by which the image grows.
    cropped
        Pixels that the output lacks at each edge.
    halo
        Pixels at each edge of the output that are not to be used.
    """

    least: tuple[int, int]
    step: tuple[int, int]
    square: bool
    scale: int
    cropped: tuple[int, int]
    halo: tuple[int, int]


def read_tensor(description: Any) -> Tensor:
    """Return what is said of an input or output.

    Raises
    ------
    ArchitectureError
        If it is no 2-D image.
    """
    name = str(getattr(description, "id", None) or description.name)
    axes = _letters(description)
    if "z" in axes:
        raise ArchitectureError(
            "This package works on volumes (z, y, x), and trained networks are run on slices here",
            found=f"axes {axes} of '{name}'",
            do="Use a package for 2-D images",
        )
    if len(set(axes)) != len(axes) or not {"y", "x"} <= set(axes) <= set("bcyx"):
        raise ArchitectureError(
            "This package does not take and make images (batch, channel, y, x)",
            found=f"axes {axes} of '{name}'",
            do="Use a package that restores 2-D images",
        )
    fixed = "b" not in axes or (
        not isinstance(description.axes, str) and description.axes[axes.index("b")].size == 1
    )
    return Tensor(name, axes, _channels(description, axes), fixed, _ends(description))


def read_sizes(taken: Any, made: Any) -> Sizes:
    """Return which images the package takes, from its descriptions of the input and the output.

    Raises
    ------
    ArchitectureError
        If the output is not the image on a finer grid.
    """
    newer = not isinstance(taken.axes, str)
    least, step, square = (_sizes_05 if newer else _sizes_04)(taken)
    scales, offsets, halos = zip(
        *((_output_05 if newer else _output_04)(taken, made, axis) for axis in "yx"), strict=True
    )
    scale = round(scales[0])
    if scale < 1 or any(abs(s - scale) > 1e-6 for s in scales):
        raise ArchitectureError(
            "The output of this package is not an image a whole number of times larger than its input",
            found=f"{scales[0]:g} × in y, {scales[1]:g} × in x",
        )
    if any(offset > 0 or offset % 2 for offset in offsets):
        raise ArchitectureError(
            "The output of this package does not lie evenly on its input",
            found=f"{offsets[0]:+g} pixels in y, {offsets[1]:+g} in x",
        )
    cropped = (-round(offsets[0]) // 2, -round(offsets[1]) // 2)
    return Sizes(least, step, square, scale, cropped, (int(halos[0]), int(halos[1])))


def axis_letters(description: Any, names: Any) -> str | None:
    """Return axes that a processing step names, as letters; ``None`` if it names none."""
    if names is None or isinstance(names, str):
        return names
    known = dict(zip((str(axis.id) for axis in description.axes), _letters(description), strict=True))
    return "".join(known.get(str(name), "?") for name in names)


# -- axes and values --------------------------------------------------------------------------------------------


def _letters(description: Any) -> str:
    if isinstance(description.axes, str):
        return description.axes
    space = [str(axis.id) for axis in description.axes if axis.type == "space"]
    in_plane = dict(zip([name for name in space if name != "z"], "yx", strict=False))
    if set(space) >= {"y", "x"}:
        in_plane = {"y": "y", "x": "x"}
    return "".join(_LETTERS.get(axis.type) or in_plane.get(str(axis.id), "z") for axis in description.axes)


def _channels(description: Any, axes: str) -> int:
    if "c" not in axes:
        return 1
    if not isinstance(description.axes, str):
        return int(description.axes[axes.index("c")].size)
    shape = description.shape
    if hasattr(shape, "scale"):  # told by the input: as many as that has, or a number of its own
        factor = shape.scale[axes.index("c")]
        return round(2 * shape.offset[axes.index("c")]) if not factor else 0
    return int(getattr(shape, "min", shape)[axes.index("c")])


def _ends(description: Any) -> tuple[float, float] | None:
    """Return the declared range, or that of an integer type."""
    if isinstance(description.axes, str):
        kind, declared = description.data_type, description.data_range
    else:
        data = description.data[0] if isinstance(description.data, list | tuple) else description.data
        kind, declared = data.type, data.range
    low, high = (None, None) if declared is None else declared
    known = [float(end) for end in (low, high) if end is not None and math.isfinite(end)]
    if len(known) == 2 and known[0] < known[1]:
        return known[0], known[1]
    return _ENDS.get(str(kind))


def integer_ends(kind: str) -> tuple[float, float] | None:
    """Return the ends of a type of integers; ``None`` for floats."""
    return _ENDS.get(kind)


# -- sizes ------------------------------------------------------------------------------------------------------


def _sizes_04(taken: Any) -> tuple[tuple[int, int], tuple[int, int], bool]:
    least = getattr(taken.shape, "min", taken.shape)
    step = getattr(taken.shape, "step", [0] * len(least))
    places = [taken.axes.index(axis) for axis in "yx"]
    return _pairs([(int(least[i]), int(step[i])) for i in places])


def _sizes_05(taken: Any) -> tuple[tuple[int, int], tuple[int, int], bool]:
    found: list[tuple[int, int] | None] = []
    axes = _by_letter(taken)
    for axis in "yx":
        size = axes[axis].size
        if isinstance(size, int):
            found.append((size, 0))
        elif hasattr(size, "step"):
            found.append((int(size.min), int(size.step)))
        elif size.offset == 0 and axes[axis].scale == _referred(taken, size).scale:
            found.append(None)  # the other one's
        else:
            raise ArchitectureError("This package takes images of one shape", do="Use a package for other sizes")
    given = [pair for pair in found if pair is not None]
    least, step, _ = _pairs([pair or given[0] for pair in found])
    return least, step, None in found


def _pairs(found: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], tuple[int, int], bool]:
    """Return smallest sizes and steps; a size that is fixed stands for its multiples, which networks take, too."""
    (y, y_step), (x, x_step) = found
    return (y, x), (y_step or y, x_step or x), False


def _output_04(taken: Any, made: Any, axis: str) -> tuple[float, float, float]:
    """Return scale, how many pixels more than that the output has, and halo."""
    place = made.axes.index(axis)
    halo = float(made.halo[place]) if made.halo else 0.0
    if hasattr(made.shape, "scale"):
        return float(made.shape.scale[place] or 0), 2 * float(made.shape.offset[place]), halo
    least = getattr(taken.shape, "min", taken.shape)[taken.axes.index(axis)]
    return made.shape[place] / least, 0.0, halo


def _output_05(taken: Any, made: Any, axis: str) -> tuple[float, float, float]:
    own = _by_letter(made)[axis]
    halo = float(getattr(own, "halo", 0))
    if isinstance(own.size, int):
        size = _by_letter(taken)[axis].size
        return (own.size / size if isinstance(size, int) else 0.0), 0.0, halo
    if not hasattr(own.size, "axis_id"):
        return 0.0, 0.0, halo  # known only when it has run
    return float(_referred(taken, own.size).scale / own.scale), float(own.size.offset), halo


def _referred(taken: Any, size: Any) -> Any:
    return next(axis for axis in taken.axes if str(axis.id) == str(size.axis_id))


def _by_letter(description: Any) -> dict[str, Any]:
    return dict(zip(_letters(description), description.axes, strict=True))
