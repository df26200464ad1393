"""Fourier ring correlation of a restored image, from its measurement alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_fidelity.core.device import processor_threads
from napari_fidelity.core.errors import ImageError
from napari_fidelity.pipeline.restoration import prepared
from napari_fidelity.uncertainty.base import judged_method
from napari_fidelity.uncertainty.frc import RestoredFRC, restored_frc

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch
    from numpy.typing import ArrayLike

    from napari_fidelity.core.arrays import Image
    from napari_fidelity.core.step import Step
    from napari_fidelity.core.trust import Trust
    from napari_fidelity.methods.base import LinearOperator, Network
    from napari_fidelity.pipeline.recipe import Recipe
    from napari_fidelity.uncertainty.frc import Split


def frc_of(
    recipe: Recipe,
    image: Image | ArrayLike,
    network: Network | None = None,
    *,
    split: Split = "auto",
    device: str = "auto",
    operator: LinearOperator | None = None,
    trust: Trust = False,
    on_step: Callable[[Step[torch.Tensor]], str | None] | None = None,
) -> RestoredFRC:
    """Split a measurement, restore one half by a recipe and correlate it with the raw other half.

    Parameters
    ----------
    recipe
        What restores the half.
    image
        One measurement: a picture, or a volume where the recipe works on volumes.
    network, device, operator, trust
        As for :func:`run_recipe`.
    split, on_step
        As for :func:`napari_fidelity.uncertainty.frc.restored_frc`.

    Returns
    -------
    RestoredFRC
        With lengths in the measurement's unit.

    Raises
    ------
    ImageError
        If there are several slices or volumes.
    """
    run = prepared(recipe, image, network, device=device, operator=operator, trust=trust)
    if len(run.blocks) > 1:
        raise ImageError(
            "A Fourier ring correlation is that of one picture or one volume",
            found=f"{len(run.blocks)} of them",
            do="Cut out a slice",
        )
    y, known = run.task(0)
    sizes = [run.image.pixel_size[axis] for axis in recipe.spatial]
    with processor_threads(run.threads):
        return restored_frc(
            y,
            run.operator,
            run.told(known["noise"]),
            method=judged_method(recipe.method),
            split=split,
            pixel_size=sizes,
            unit=run.image.unit,
            on_step=on_step,
            **known,
        )
