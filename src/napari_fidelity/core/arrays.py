"""Images as the user has them: an array with named axes, a pixel size and a place in space."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from napari_fidelity.core.errors import ImageError, NonFiniteError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike, NDArray

AXES = "TZCYXS"
"""The axes there are: time, depth, channel, row, column, RGB sample (letters as in tifffile and OME)."""

Alpha = Literal["refuse", "drop"]

_EXACT_INTEGER = 2**53  # the largest magnitude up to which float64 holds every integer
_DTYPES = "uint8 … uint64, int8 … int64, float16, float32 and float64"


@dataclass(frozen=True, eq=False)
class Image:
    """An array with named axes, pixel size, origin and metadata; it never changes.

    Attributes
    ----------
    data
        Intensities in the units they were recorded in, any axis order; a read-only view, nothing is copied.
        Integers (64-bit ones up to 2⁵³ in magnitude) and float16, float32, float64.
    axes
        One letter of ``TZCYXS`` for each dimension. ``Y`` and ``X`` are required; ``S`` has length 3 (RGB).
    pixel_size
        Distance between neighbouring pixels along each spatial axis, in ``unit``; 1 where not given.
        For ``T``, if given, the time between frames in seconds.
    unit
        Unit of the spatial axes (``"µm"``, ``"nm"``); ``"pixel"`` where it is not known.
    origin
        Where the centre of the first pixel lies along each spatial axis, in ``unit``; 0 where not given.
    metadata
        Anything else that belongs to the image, by name.

    Raises
    ------
    ImageError
        If the array is empty or its dtype or axes cannot be used.
    """

    data: NDArray[Any]
    axes: str
    pixel_size: Mapping[str, float] = field(default_factory=dict)
    unit: str = "pixel"
    origin: Mapping[str, float] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        data = _usable(self.data).view()
        data.setflags(write=False)
        axes = _usable_axes(self.axes, data.shape)
        spatial = [axis for axis in axes if axis in "ZYX"]
        size = _numbers(self.pixel_size, dict.fromkeys(spatial, 1.0), "pixel size")
        origin = _numbers(self.origin, dict.fromkeys(spatial, 0.0), "origin")
        values = {
            "data": data,
            "axes": axes,
            "pixel_size": size,
            "origin": origin,
            "metadata": dict(self.metadata),
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)

    @classmethod
    def from_array(
        cls,
        array: ArrayLike,
        axes: str | None = None,
        *,
        pixel_size: Mapping[str, float] | float | None = None,
        unit: str = "pixel",
        origin: Mapping[str, float] | None = None,
        metadata: Mapping[str, Any] | None = None,
        alpha: Alpha = "refuse",
    ) -> Self:
        """Make an image of an array; see :func:`guess_axes` for the axes if they are not given.

        Parameters
        ----------
        array
            The intensities.
        axes
            One letter of ``TZCYXS`` per dimension, in either case.
        pixel_size
            Per spatial axis, or one number for all of them.
        unit, origin, metadata
            As in :class:`Image`.
        alpha
            What to do with RGBA and gray + alpha (4 or 2 samples): refuse it or drop the alpha channel.

        Raises
        ------
        ImageError
            If the array cannot be used or its axes cannot be guessed.
        """
        if isinstance(array, np.ma.MaskedArray) and np.ma.is_masked(array):
            raise ImageError(
                "The array is masked", do="Fill the masked pixels with NaN and mask those out, or fill them"
            )
        data = _usable(array)
        axes = guess_axes(data.shape) if axes is None else axes.upper()
        if axes.count("S") == 1 and len(axes) == data.ndim and data.shape[axes.index("S")] in (2, 4):
            data, axes = _without_alpha(data, axes, alpha)
        if isinstance(pixel_size, int | float):
            pixel_size = {axis: float(pixel_size) for axis in axes if axis in "ZYX"}
        return cls(data, axes, pixel_size or {}, unit, origin or {}, metadata or {})

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of the axes, in the order of ``axes``."""
        return self.data.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the data."""
        return self.data.dtype

    @property
    def sizes(self) -> dict[str, int]:
        """Length of each axis, by letter."""
        return dict(zip(self.axes, self.data.shape, strict=True))

    def replace(self, **changes: Any) -> Self:
        """Return a copy with some attributes changed, checked like a new image; lost axes lose their sizes."""
        axes = changes.get("axes", self.axes)
        for name in ("pixel_size", "origin"):
            changes.setdefault(name, {axis: value for axis, value in getattr(self, name).items() if axis in axes})
        return dataclasses.replace(self, **changes)

    def __repr__(self) -> str:
        size = " × ".join(f"{self.pixel_size[axis]:g}" for axis in self.axes if axis in "ZYX")
        shape = ", ".join(f"{axis}={n}" for axis, n in self.sizes.items())
        return f"Image({shape}, {self.dtype}, {size} {self.unit})"


def guess_axes(shape: tuple[int, ...]) -> str:
    """Guess the axes of an array from its shape, by this rule and no other.

    ======================  ========
    dimensions              axes
    ======================  ========
    2                       ``YX``
    3, the last of length   ``YXS``
    3 or 4
    3 otherwise             ``ZYX``
    4, the last of length   ``ZYXS``
    3 or 4
    4 otherwise             ``TZYX``
    ======================  ========

    A last axis of length 3 is RGB; of 4, RGB with alpha, which an image then refuses or drops.

    Raises
    ------
    ImageError
        For any other number of dimensions.
    """
    if len(shape) not in (2, 3, 4):
        raise ImageError(
            f"The axes of a {len(shape)}-D array cannot be guessed",
            found=f"shape {shape}",
            do=f"Name them (axes=, --axes) with letters of {AXES}, such as TZCYX",
        )
    samples = len(shape) > 2 and shape[-1] in (3, 4)
    return {2: "YX", 3: "YXS" if samples else "ZYX", 4: "ZYXS" if samples else "TZYX"}[len(shape)]


def check_finite(image: Image) -> None:
    """Refuse NaN and infinity.

    Raises
    ------
    NonFiniteError
        With their numbers and the position of the first.
    """
    if image.dtype.kind != "f":
        return
    finite = np.isfinite(image.data)
    if finite.all():
        return
    nan = int(np.isnan(image.data).sum())
    infinite = int(finite.size - finite.sum()) - nan
    first = np.unravel_index(int(np.argmin(finite)), finite.shape)
    where = ", ".join(f"{axis}={int(i)}" for axis, i in zip(image.axes, first, strict=True))
    raise NonFiniteError(
        "The image holds values that are not numbers",
        found=f"{nan} NaN and {infinite} infinite, the first at {where}",
        do="Mask them out as unobserved (nonfinite='mask', --nonfinite mask, in napari Image formation ▸ Missing "
        "pixels), or repair them first",
    )


def fill_unobserved(image: Image, observed: NDArray[np.bool_]) -> Image:
    """Give every unobserved pixel the value of the nearest observed one of its time point and channel.

    Parameters
    ----------
    image
        Any image.
    observed
        Shape of the data, true where a pixel was observed. Distances are taken in the image's unit.

    Returns
    -------
    Image
        One that a network can look at; the data term must use the observed pixels only.

    Raises
    ------
    NonFiniteError
        If a time point or channel has no observed pixel at all.
    """
    from scipy.ndimage import distance_transform_edt

    if observed.all():
        return image
    spatial = [i for i, axis in enumerate(image.axes) if axis in "ZYX"]
    spacing = [image.pixel_size[image.axes[i]] for i in spatial]
    filled = np.array(image.data)
    others = [n if i not in spatial else 1 for i, n in enumerate(image.shape)]
    for index in np.ndindex(*others):
        where = tuple(slice(None) if i in spatial else k for i, k in enumerate(index))
        seen = observed[where]
        if not seen.any():
            place = ", ".join(f"{image.axes[i]}={k}" for i, k in enumerate(index) if i not in spatial)
            raise NonFiniteError(f"No pixel was observed{' at ' + place if place else ''}")
        if not seen.all():
            nearest = distance_transform_edt(~seen, sampling=spacing, return_distances=False, return_indices=True)
            filled[where] = filled[where][tuple(nearest)]
    return image.replace(data=filled)


def _usable(array: ArrayLike) -> NDArray[Any]:
    data = np.asarray(array)
    if data.size == 0:
        raise ImageError("The image is empty", found=f"shape {data.shape}")
    if data.dtype.kind == "b":
        raise ImageError(
            "A bool array holds yes or no, not intensities",
            do="Convert it to uint8 or float32",
        )
    if data.dtype.kind == "c":
        raise ImageError(
            "Complex images are not supported",
            found=str(data.dtype),
            do="Pass the magnitude, or real and imaginary part as two channels",
        )
    if data.dtype.kind not in "uif" or data.dtype.itemsize > 8:
        raise ImageError(f"The dtype {data.dtype} is not supported", do=f"Convert it to one of {_DTYPES}")
    if data.dtype.kind in "ui" and data.dtype.itemsize == 8:
        extreme = max(abs(int(data.min())), abs(int(data.max())))
        if extreme > _EXACT_INTEGER:
            raise ImageError(
                "64-bit integers beyond 2⁵³ cannot be held exactly",
                found=str(extreme),
                do="Rescale the image first",
            )
    return data


def _usable_axes(axes: str, shape: tuple[int, ...]) -> str:
    axes = axes.upper()
    problem = ""
    if len(axes) != len(shape):
        problem = f"name {len(axes)} dimensions, the array has {len(shape)}"
    elif set(axes) - set(AXES):
        problem = f"may only use the letters {AXES}"
    elif len(set(axes)) != len(axes):
        problem = "name a dimension twice"
    elif not {"Y", "X"} <= set(axes):
        problem = "must contain Y and X"
    elif "S" in axes and shape[axes.index("S")] != 3:
        problem = f"name {shape[axes.index('S')]} samples (S); RGB has 3, anything else is channels (C)"
    if problem:
        raise ImageError(f"The axes '{axes}' {problem}", found=f"shape {shape}", do="Name the axes, such as ZCYX")
    return axes


def _without_alpha(data: NDArray[Any], axes: str, alpha: Alpha) -> tuple[NDArray[Any], str]:
    where = axes.index("S")
    if alpha != "drop":
        kind = "RGBA" if data.shape[where] == 4 else "gray + alpha"
        raise ImageError(
            f"The image has an alpha channel ({kind})",
            found=f"shape {data.shape}, axes {axes}",
            do="Drop the alpha channel (alpha='drop', --alpha drop), or name the axes if it is none",
        )
    data = np.moveaxis(data, where, -1)
    if data.shape[-1] == 2:
        return data[..., 0], axes.replace("S", "")
    return np.moveaxis(data[..., :3], -1, where), axes


def _numbers(given: Mapping[str, float], default: dict[str, float], name: str) -> dict[str, float]:
    size = name == "pixel size"
    values = default | {axis.upper(): float(value) for axis, value in given.items()}
    for axis, value in values.items():
        if axis not in default and not (size and axis == "T"):
            raise ImageError(f"The image has no {name} along '{axis}'", do=f"Give it for {', '.join(default)}")
        if not np.isfinite(value) or (size and value <= 0):
            raise ImageError(f"The {name} along {axis} must be a {'positive ' * size}number", found=str(value))
    return values
