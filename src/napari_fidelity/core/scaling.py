"""One linear map between recorded intensities and the range networks work in, and its exact inverse."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field, PlainSerializer, model_validator

from napari_fidelity.core.arrays import check_finite
from napari_fidelity.core.errors import ImageError, NonFiniteError
from napari_fidelity.core.options import Options

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import DTypeLike

    from napari_fidelity.core.arrays import Image

Mode = Literal["auto", "dtype", "minmax", "percentile", "none"]
Scope = Literal["slice", "volume", "series"]

_OWN_AXES: dict[str, str] = {"series": "", "volume": "T", "slice": "TZ"}


def _float64(value: Any) -> NDArray[np.float64]:
    array = np.array(value, dtype=np.float64)
    if not np.isfinite(array).all():
        raise ValueError("must be finite")
    array.setflags(write=False)
    return array


Numbers = Annotated[NDArray[np.float64], BeforeValidator(_float64), PlainSerializer(lambda array: array.tolist())]


class Scaling(Options):
    """The map ``scaled = (raw − offset) / gain``, computed in float64, and its inverse; it never clips.

    Tensors are float32, which holds integers of up to 24 bits: every uint8, int8, uint16 and int16 image comes
    back exactly through a tensor; 32-bit integers come back exactly in float64 only, and to 1 part in 2²⁴ of
    ``gain`` through a tensor.

    Raises
    ------
    OptionError
        If a gain is not positive or the numbers do not fit ``axes``.
    """

    offset: Numbers = Field(np.zeros(()), description="raw intensity that becomes 0; one number for each of axes")
    gain: Numbers = Field(np.ones(()), description="raw intensity difference that becomes 1")
    axes: str = Field("", pattern="^[TZC]*$", description="axes along which offset and gain differ")
    mode: Literal["dtype", "minmax", "percentile", "none"] = Field("none", description="how they were found")
    scope: Scope = Field("series", description="what they were found from: each slice, volume or the whole series")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.offset.shape != self.gain.shape or self.offset.ndim != len(self.axes):
            shapes = f"offset {self.offset.shape} and gain {self.gain.shape}"
            raise ValueError(f"{shapes} need one dimension for each of '{self.axes}'")
        if not (self.gain > 0).all():
            raise ValueError("gain must be positive")
        return self

    def at(self, index: Mapping[str, int]) -> Scaling:
        """Return the scaling of one block.

        Parameters
        ----------
        index
            Position along axes by letter; letters the scaling does not differ along are ignored.
        """
        if not set(self.axes) & set(index):
            return self
        where = tuple(index.get(axis, slice(None)) for axis in self.axes)
        left = "".join(axis for axis in self.axes if axis not in index)
        return self.replace(offset=self.offset[where], gain=self.gain[where], axes=left)

    def apply(self, raw: NDArray[Any], axes: str = "") -> NDArray[np.float64]:
        """Return ``(raw − offset) / gain`` in float64.

        Parameters
        ----------
        raw
            Recorded intensities, any shape.
        axes
            Letters of its dimensions; needed if the scaling differs along some of them.
        """
        offset, gain = self._beside(axes)
        scaled: NDArray[np.float64] = (np.asarray(raw, np.float64) - offset) / gain
        return scaled

    def invert(self, scaled: NDArray[Any], axes: str = "") -> NDArray[np.float64]:
        """Return ``scaled · gain + offset`` in float64; parameters as for :meth:`apply`."""
        offset, gain = self._beside(axes)
        raw: NDArray[np.float64] = np.asarray(scaled, np.float64) * gain + offset
        return raw

    def _beside(self, axes: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        missing = set(self.axes) - set(axes)
        if missing:
            raise ImageError(
                f"The scaling differs along {', '.join(sorted(missing))}, the array has no such axis",
                found=f"axes '{axes}'",
                do="Take the scaling of one block (Scaling.at) or fit one scaling for the whole series",
            )
        order = sorted(range(len(self.axes)), key=lambda i: axes.index(self.axes[i]))
        lengths = dict(zip(self.axes, self.offset.shape, strict=True))
        shape = [lengths.get(axis, 1) for axis in axes]
        return self.offset.transpose(order).reshape(shape), self.gain.transpose(order).reshape(shape)


def fit_scaling(
    image: Image,
    mode: Mode = "auto",
    scope: Scope = "volume",
    *,
    channels: Literal["joint", "each"] = "joint",
    percentiles: tuple[float, float] = (0.1, 99.9),
) -> Scaling:
    """Find the linear map that brings an image to the nominal range [0, 1].

    Parameters
    ----------
    image
        Finite intensities.
    mode
        ``"dtype"``: the whole range of an integer dtype (floats stay as they are); ``"minmax"``: smallest value
        to 0, largest to 1; ``"percentile"``: the same with two percentiles, so that values lie outside [0, 1];
        ``"none"``: left as it is; ``"auto"``: ``"dtype"`` for uint8, ``"none"`` for floats that lie within [0, 1]
        already, ``"minmax"`` otherwise.
    scope
        Find it once for the ``"series"``, for each ``"volume"`` (time point) or for each ``"slice"``. Slices
        scaled one by one have their noise raised differently.
    channels
        One map for all channels, or one for each along ``C`` (RGB samples always stay together).
    percentiles
        The two percentiles, in percent.

    Returns
    -------
    Scaling
        With the mode it was found by. Where all values are equal, ``gain`` is 1 and ``offset`` that value.

    Raises
    ------
    NonFiniteError
        If the image holds NaN or infinity.
    ImageError
        If the range of values is too large for float64 or the percentiles are impossible.
    """
    if not 0 <= percentiles[0] < percentiles[1] <= 100:
        raise ImageError("The two percentiles must rise within 0 and 100", found=str(percentiles))
    check_finite(image)
    if mode == "auto":
        mode = _choose(image)
    if mode == "none" or (mode == "dtype" and image.dtype.kind == "f"):
        return Scaling(mode=mode, scope=scope)
    if mode == "dtype":
        info = np.iinfo(image.dtype)
        return Scaling(offset=info.min, gain=float(info.max) - float(info.min), mode=mode, scope=scope)
    own = own_axes(image.axes, scope, channels)
    within = tuple(i for i, axis in enumerate(image.axes) if axis not in own)
    low = np.min(image.data, axis=within).astype(np.float64)
    high = np.max(image.data, axis=within).astype(np.float64)
    if mode == "percentile":
        inner = np.percentile(image.data.astype(np.float64), percentiles, axis=within)
        # A sparse image has equal percentiles: its extremes are all there is to go by.
        low, high = np.where(inner[1] > inner[0], inner, np.stack([low, high]))
    with np.errstate(over="ignore"):
        gain = high - low
    if not np.isfinite(gain).all():
        raise ImageError("The range of the intensities is too large", found=f"{low.min():g} to {high.max():g}")
    return Scaling(offset=low, gain=np.where(gain > 0, gain, 1.0), axes=own, mode=mode, scope=scope)


def own_axes(axes: str, scope: Scope, channels: Literal["joint", "each"] = "joint") -> str:
    """Return those of an image's axes along which its scaling differs; parameters as for :func:`fit_scaling`."""
    own = _OWN_AXES[scope] + ("C" if channels == "each" else "")
    return "".join(axis for axis in axes if axis in own)


def cast(values: NDArray[Any], dtype: DTypeLike) -> tuple[NDArray[Any], int]:
    """Bring finite intensities to a dtype: integers are rounded, values beyond its ends become its ends.

    Parameters
    ----------
    values
        Any shape.
    dtype
        An integer or float dtype.

    Returns
    -------
    values, saturated
        And how many values lay beyond the ends.

    Raises
    ------
    NonFiniteError
        If there are NaN or infinity among the values.
    """
    dtype = np.dtype(dtype)
    if dtype.kind not in "uif":
        raise ImageError(f"Images cannot be written as {dtype}", do="Use float32, uint8 or uint16")
    wide = np.asarray(values, np.float64)
    bad = int(wide.size - np.isfinite(wide).sum())
    if bad:
        raise NonFiniteError("The result holds values that are not numbers", found=f"{bad} of {wide.size}")
    if dtype.kind == "f":
        low, high = float(np.finfo(dtype).min), float(np.finfo(dtype).max)
    else:
        wide = np.rint(wide)
        info = np.iinfo(dtype)
        low, high = float(info.min), float(info.max)
        if high > info.max:  # the end of a 64-bit integer rounds up to a float that would wrap around
            high = float(np.nextafter(high, 0))
    saturated = int(((wide < low) | (wide > high)).sum())
    return np.clip(wide, low, high).astype(dtype), saturated


def _choose(image: Image) -> Literal["dtype", "minmax", "none"]:
    if image.dtype == np.uint8:
        return "dtype"
    if image.dtype.kind == "f" and image.data.min() >= 0 and image.data.max() <= 1:
        return "none"
    return "minmax"
