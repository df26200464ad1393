"""The result that a map judges: the one it was given, or the one that its method makes first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_fidelity.core.errors import ShapeError
from napari_fidelity.core.lazy import torch
from napari_fidelity.core.step import Result, Step
from napari_fidelity.methods._follow import follow
from napari_fidelity.methods.checks import check_fit

if TYPE_CHECKING:
    from napari_fidelity.methods._follow import Inner, TensorStep
    from napari_fidelity.methods.base import LinearOperator, Network
    from napari_fidelity.uncertainty.base import UncertaintyMap


def judged(
    options: UncertaintyMap,
    y: torch.Tensor,
    operator: LinearOperator,
    model: Network | None,
    *,
    total: int,
    **known: Any,
) -> Inner:
    """Return the result to judge, and the reason that was sent meanwhile to end the run, or ``""``.

    Parameters
    ----------
    options
        The map.
    y, operator, model
        As for its ``steps``; ``y`` has been checked.
    total
        How many passes the map will make. The steps before the first have the number 0 and a map of zeros.
    known
        ``noise``, ``stop``, ``weights`` and ``rng`` of its ``steps``.

    Raises
    ------
    ShapeError
        If the image that was given does not belong to the measurement.
    """
    if options.image is not None:
        image = _given(options.image, y, operator)
        check_fit(operator, image, y)
        return Result(image, (), "", 0.0), ""

    on_measurement = next(iter(options.outputs.values())).grid == "measurement"

    def nothing_yet(step: TensorStep) -> TensorStep:
        def zeros() -> torch.Tensor:
            return torch.zeros_like(y if on_measurement else step.estimate())

        return Step(-1, total, step.loss, {}, zeros, step.seconds)

    return (yield from follow(options.of.steps(y, operator, model, **known), nothing_yet))


def _given(array: Any, y: torch.Tensor, operator: LinearOperator) -> torch.Tensor:
    """Return an image ``(*n)``, ``(C, *n)`` or ``(N, C, *n)`` as one of the shape that belongs to ``y``."""
    from napari_fidelity.methods._start import image_shape

    shape = image_shape(y, operator)
    image = torch.from_numpy(array.copy()).to(y)
    try:
        if image.ndim < len(shape) - 2 or image.shape[2 - len(shape) :] != shape[2:]:
            raise ValueError("another size")
        return image.expand(shape).contiguous()
    except (RuntimeError, ValueError):
        raise ShapeError(
            "The image to judge does not have the restored image's shape",
            found=f"{tuple(image.shape)} beside {shape[1:]}",
            do="Give the result of this very measurement",
        ) from None
