"""What an image would have been recorded as: ``A x``, block by block."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_fidelity.core.assemble import Assembler
from napari_fidelity.core.blocks import planes, to_tensor
from napari_fidelity.core.lazy import torch
from napari_fidelity.core.scaling import Scaling
from napari_fidelity.pipeline._blocks import check_operator

if TYPE_CHECKING:
    from collections.abc import Generator

    from napari_fidelity.core.arrays import Image
    from napari_fidelity.core.blocks import Spatial
    from napari_fidelity.operators.base import Operator


def simulate(image: Image, operator: Operator, spatial: Spatial = "YX") -> Generator[tuple[int, int], None, Image]:
    """Apply an image formation model to an image.

    Parameters
    ----------
    image
        Finite intensities ``x``, any axes.
    operator
        The image formation model ``A``, applied to the intensities as they are.
    spatial
        Slice by slice (``"YX"``) or volume by volume (``"ZYX"``).

    Yields
    ------
    tuple
        How many blocks are done, and how many there are.

    Returns
    -------
    Image
        ``A x`` in float32, with pixel size and origin of the measurement's grid; where it shares none with the
        image (line integrals, spatial frequencies), with the image's pixel size along X.

    Raises
    ------
    FidelityError
        If the operator cannot be applied to an image of this size.
    """
    unscaled = Scaling()
    blocks = planes(image, spatial)
    check_operator(operator, spatial)
    place: dict[str, Any] = {"pixel_size": image.pixel_size["X"]}
    if operator.shares_grid:
        grid = operator.grid(len(spatial))
        place = {
            "scale": [1 / s for s in grid.scale],
            "shift": [-shift * s for shift, s in zip(grid.shift, grid.scale, strict=True)],
        }
    channels = operator.measurement_channels(len(blocks[0].data))
    assembler = Assembler(image, unscaled, "float32", spatial=spatial, n_channels=channels, **place)
    for number, block in enumerate(blocks):
        yield number, len(blocks)
        with torch.no_grad():
            assembler.add(block, operator.A(to_tensor(block, unscaled)))
    return assembler.image()
