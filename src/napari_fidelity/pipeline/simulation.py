"""What an image would have been recorded as: ``A x``, slice by slice."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_fidelity.core.assemble import Assembler
from napari_fidelity.core.blocks import planes, to_tensor
from napari_fidelity.core.lazy import torch
from napari_fidelity.core.scaling import Scaling

if TYPE_CHECKING:
    from collections.abc import Generator

    from napari_fidelity.core.arrays import Image
    from napari_fidelity.operators.base import Operator


def simulate(image: Image, operator: Operator) -> Generator[tuple[int, int], None, Image]:
    """Apply an image formation model to an image.

    Parameters
    ----------
    image
        Finite intensities ``x``, any axes; slices and channels are treated alike.
    operator
        The image formation model ``A``, applied to the intensities as they are.

    Yields
    ------
    tuple
        How many slices are done, and how many there are.

    Returns
    -------
    Image
        ``A x`` in float32, with pixel size and origin of the measurement's grid.

    Raises
    ------
    FidelityError
        If the operator cannot be applied to an image of this size.
    """
    unscaled = Scaling()
    grid = operator.grid(2)
    assembler = Assembler(
        image,
        unscaled,
        "float32",
        scale=[1 / s for s in grid.scale],
        shift=[-shift * s for shift, s in zip(grid.shift, grid.scale, strict=True)],
    )
    blocks = planes(image)
    for number, block in enumerate(blocks):
        yield number, len(blocks)
        with torch.no_grad():
            assembler.add(block, operator.A(to_tensor(block, unscaled)))
    return assembler.image()
