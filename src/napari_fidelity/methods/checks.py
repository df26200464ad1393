"""What a method refuses before it begins: measurements, networks and operators that do not fit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_fidelity.core.errors import DivergedError, NonFiniteError, OperatorError, OptionError, ShapeError
from napari_fidelity.core.lazy import torch
from napari_fidelity.methods.calls import call_operator
from napari_fidelity.operators._foreign import check_made, name_of

if TYPE_CHECKING:
    from napari_fidelity.methods.base import LinearOperator


def check_measurement(y: torch.Tensor, weights: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return measurement and weights in float32, or refuse what no method can use.

    Raises
    ------
    ShapeError
        If ``y`` is not ``(N, C, *m)``, is complex or empty, or the weights do not fit it.
    OptionError
        If a weight is negative or not finite.
    NonFiniteError
        If ``y`` holds NaN or infinity; the network sees unobserved pixels too.
    """
    if y.ndim not in (4, 5) or y.numel() == 0 or not y.is_floating_point():
        raise ShapeError(
            "A measurement must be a float tensor (N, C, *spatial) with two or three spatial axes",
            found=f"shape {tuple(y.shape)}, {y.dtype}",
        )
    if weights is not None:
        weights = weights.to(y.device, torch.float32)
        try:
            weights.expand_as(y)
        except RuntimeError:
            raise ShapeError(
                "The weights do not fit the measurement",
                found=f"{tuple(weights.shape)} beside {tuple(y.shape)}",
            ) from None
        if not bool(((weights == 0) | (weights == 1)).all()):
            raise OptionError(
                "A weight says whether a pixel was observed, 1 or 0",
                found=f"weights from {float(weights.min()):g} to {float(weights.max()):g}",
                do="Give the noise of pixels that are less certain as a noise model",
            )
        if not bool((weights > 0).any()):
            raise ShapeError("Every pixel of the measurement is masked out", do="Check the mask")
    finite = torch.isfinite(y)
    if not bool(finite.all()):
        raise NonFiniteError(
            "The measurement holds values that are not finite",
            found=f"{int((~finite).sum())} of {y.numel()}",
            do="Fill them with something sane and give them the weight 0, or mend the image",
        )
    return y.float(), weights


def check_fit(operator: LinearOperator, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return ``A x`` after making sure that it has the shape of ``y``, and that ``x`` is still what it was.

    Raises
    ------
    ShapeError
        If the network's output, put through the operator, does not have the measurement's shape.
    OperatorError
        If the operator works in place, or makes no real tensor.
    """
    given = x.clone()
    prediction = call_operator(operator, given)
    check_made(name_of(operator), prediction, x)
    if not torch.equal(given, x) and bool(x.isfinite().all()):
        raise OperatorError(
            f"The A of {name_of(operator)} changes the image that it is given",
            do="Let it work on a copy: A(x.clone())",
        )
    if prediction.shape != y.shape:
        raise ShapeError(
            "The image formation model turns this image into a measurement of another shape",
            found=f"image {tuple(x.shape)} -> {tuple(prediction.shape)}, measurement {tuple(y.shape)}",
            do="Check that the model's scale and the operator's scale are the same; networks enlarge by whole "
            "factors, and some can be adapted to another one (scale, --scale)",
        )
    return prediction


def check_finite_output(x: torch.Tensor) -> None:
    """Refuse a network's output that is not finite.

    Raises
    ------
    DivergedError
        With the number of bad pixels.
    """
    finite = torch.isfinite(x)
    if not bool(finite.all()):
        raise DivergedError(
            "The network's output for this image is not finite",
            found=f"{int((~finite).sum())} bad pixels",
            do="Check the intensity scaling and the model file, or use precision float32",
        )
