"""What a bioimage.io package has done to intensities, as steps of torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_fidelity.core.errors import ArchitectureError
from napari_fidelity.io._bioimageio_tensors import axis_letters, integer_ends
from napari_fidelity.networks.processing import (
    EPSILON,
    Binarize,
    Clip,
    MatchMoments,
    Scale,
    ScaleRange,
    Sigmoid,
    Standardise,
    ToInteger,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from napari_fidelity.networks.processing import ProcessingStep

    Values = Mapping[str, Any]


def read_steps(descriptions: Sequence[Any], tensor: Any, inputs: Sequence[str]) -> list[ProcessingStep]:
    """Return the steps that are declared for a tensor.

    Casts at both ends are left out: the image comes and goes as floats, whatever type holds it in a file, and
    floats are what a network of torch takes.

    Parameters
    ----------
    descriptions
        Of the steps, as ``bioimageio.spec`` makes them.
    tensor
        Description of the tensor.
    inputs
        Names of the inputs, which steps may refer to.

    Raises
    ------
    ArchitectureError
        If there is one that this package does not know, or that does not treat an image as a whole.
    """
    steps = []
    for description in _inner(descriptions):
        name = str(getattr(description, "id", None) or description.name)
        values = _plain(description.kwargs)
        reference = values.get("reference_tensor")
        if name not in _MAKERS or (reference is not None and str(reference) not in inputs):
            raise ArchitectureError(
                f"This package wants a processing step that is not known here: {name}",
                found="" if name not in _MAKERS else f"one that refers to '{reference}'",
                do="Use a package that restores images; those that find objects do more than that",
            )
        step = _MAKERS[name](values, tensor)
        steps += [] if step is None else [step]
    return steps


def _inner(descriptions: Sequence[Any]) -> list[Any]:
    """Return the steps without the casts at both ends."""
    found = list(descriptions)
    for place in (0, -1):
        while found and getattr(found[place], "id", None) == "ensure_dtype":
            found.pop(place)
    return found


def _plain(kwargs: Any) -> dict[str, Any]:
    return {name: getattr(kwargs, name) for name in type(kwargs).model_fields}


def _joint(values: Values, tensor: Any) -> bool:
    """Tell whether a statistic is that of all channels together.

    Raises
    ------
    ArchitectureError
        If it is one of rows or columns.
    """
    axes = axis_letters(tensor, values.get("axes"))
    if axes is None:
        return True
    if not {"y", "x"} <= set(axes):
        raise ArchitectureError(
            "This package processes an image row by row, or pixel by pixel",
            found=f"statistics along {axes or 'no axis'}",
        )
    return "c" in axes


def _each(values: Values, tensor: Any, *names: str) -> list[Any]:
    """Return numbers of which there may be one for each channel, and for nothing else.

    Raises
    ------
    ArchitectureError
        If they are along another axis.
    """
    along = values.get("axis")
    letters = axis_letters(tensor, [along]) if along is not None else None
    found = [values[name] for name in names]
    several = any(isinstance(value, list | tuple) and len(value) > 1 for value in found)
    if letters not in (None, "c") or (several and letters is None and not _over_plane(values, tensor)):
        raise ArchitectureError(
            "This package has numbers for each of something else than channels", found=str(along)
        )
    return [list(value) if isinstance(value, list | tuple) else value for value in found]


def _over_plane(values: Values, tensor: Any) -> bool:
    """Tell whether numbers are given for each channel in the way of format 0.4: by the axes that share one."""
    axes = axis_letters(tensor, values.get("axes"))
    return axes is not None and set(axes) == {"y", "x"}


def _scale_linear(values: Values, tensor: Any) -> ProcessingStep:
    gain, offset = _each(values, tensor, "gain", "offset")
    if 0 in (gain if isinstance(gain, list) else [gain]):
        raise ArchitectureError("This package multiplies its image by 0")
    return Scale(gain, offset)


def _fixed(values: Values, tensor: Any) -> ProcessingStep:
    mean, std = (v if isinstance(v, list) else [v] for v in _each(values, tensor, "mean", "std"))
    gain = [1 / (s + EPSILON) for s in std]
    return Scale(gain, [-m * g for m, g in zip(mean, gain, strict=True)])


def _zero_mean(values: Values, tensor: Any) -> ProcessingStep:
    if values.get("mode") == "fixed":
        return _fixed(values, tensor)
    return Standardise(joint=_joint(values, tensor), eps=values["eps"])


def _scale_range(values: Values, tensor: Any) -> ProcessingStep:
    return ScaleRange(
        values["min_percentile"],
        values["max_percentile"],
        joint=_joint(values, tensor),
        of_raw=values.get("reference_tensor") is not None,
        eps=values["eps"],
    )


def _clip(values: Values, tensor: Any) -> ProcessingStep:
    axes = axis_letters(tensor, values.get("axes"))
    return Clip(
        values.get("min"),
        values.get("max"),
        low_percentile=values.get("min_percentile"),
        high_percentile=values.get("max_percentile"),
        joint=_joint(values, tensor),
        # the library interpolates percentiles of data sets alone
        between=axes is None or "b" in axes,
    )


def _ensure_dtype(values: Values, tensor: Any) -> ProcessingStep | None:
    ends = integer_ends(str(values["dtype"]))
    return None if ends is None else ToInteger(*ends)


_MAKERS: dict[str, Callable[[Values, Any], ProcessingStep | None]] = {
    "scale_linear": _scale_linear,
    "zero_mean_unit_variance": _zero_mean,
    "fixed_zero_mean_unit_variance": _fixed,
    "scale_range": _scale_range,
    "scale_mean_variance": lambda values, tensor: MatchMoments(joint=_joint(values, tensor), eps=values["eps"]),
    "clip": _clip,
    "sigmoid": lambda values, tensor: Sigmoid(),
    "binarize": lambda values, tensor: Binarize(_each(values, tensor, "threshold")[0]),
    "ensure_dtype": _ensure_dtype,
}
