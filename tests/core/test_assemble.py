"""Results with other channels than their blocks, and on a grid of their own."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_fidelity.core.arrays import Image
from napari_fidelity.core.assemble import Assembler, result_axes
from napari_fidelity.core.blocks import planes
from napari_fidelity.core.errors import ImageError, ShapeError
from napari_fidelity.core.scaling import Scaling

# axes of the image, channels, of a block and of its result, axes and channel axis of the result
AXES = [
    ("YX", "joint", 1, 1, "YX", ""),
    ("TCYX", "joint", 4, 4, "TCYX", "C"),
    ("YXS", "joint", 3, 3, "YXS", "S"),
    ("TCYX", "joint", 4, 2, "TCYX", "C"),
    ("TCYX", "joint", 4, 1, "TYX", ""),
    ("YXS", "joint", 3, 1, "YX", ""),
    ("YXS", "joint", 3, 2, "YXC", "C"),
    ("SYX", "joint", 3, 6, "CYX", "C"),
    ("TZYX", "joint", 1, 2, "TZCYX", "C"),
    ("TXY", "each", 1, 5, "TCXY", "C"),
    ("CYXS", "joint", 3, 1, "CYX", ""),
    ("CYX", "each", 1, 1, "CYX", ""),
]


@pytest.mark.parametrize(("axes", "channels", "before", "after", "expected", "channel"), AXES)
def test_what_becomes_of_the_axes(axes, channels, before, after, expected, channel):
    assert result_axes(axes, channels, before, after) == (expected, channel)
    lengths = {"T": 2, "Z": 2, "C": 2 if channels == "each" or "S" in axes else before, "S": 3, "Y": 4, "X": 5}
    image = Image(np.zeros([lengths[axis] for axis in axes]), axes)
    assembler = Assembler(image, Scaling(gain=2.0), "float32", channels=channels, n_channels=after)
    for number, block in enumerate(planes(image, channels=channels)):
        values = torch.arange(after * 20.0).reshape(1, after, 4, 5) + 1000 * number
        assembler.add(block, values)
    result = assembler.image()
    assert result.axes == expected
    assert result.sizes.get(channel, 1) == after
    for number, block in enumerate(planes(result, channels="joint" if channel else "each")):
        wanted = 2 * (np.arange(after * 20.0).reshape(after, 4, 5) + 1000 * number)
        np.testing.assert_array_equal(block.data, wanted)


@pytest.mark.parametrize(("axes", "channels", "before"), [("CYX", "each", 1), ("CYXS", "joint", 3)])
def test_no_room_for_channels(axes, channels, before):
    with pytest.raises(ImageError, match="2 channels for each of the image's own"):
        result_axes(axes, channels, before, 2)


def test_only_the_number_that_was_said():
    image = Image(np.zeros((4, 5)), "YX")
    assembler = Assembler(image, Scaling(), n_channels=2)
    with pytest.raises(ShapeError, match=r"\(1, 2, Y, X\)"):
        assembler.add(planes(image)[0], torch.zeros(1, 1, 4, 5))


def test_a_grid_of_its_own():
    image = Image(np.zeros((2, 4, 5)), "TYX", {"T": 3, "Y": 0.5, "X": 0.25}, "mm", {"Y": 3, "X": 7})
    assembler = Assembler(image, Scaling(), "float32", pixel_size=0.25)
    for block in planes(image):
        assembler.add(block, torch.zeros(1, 1, 8, 8))
    result = assembler.image()
    assert result.pixel_size == {"T": 3, "Y": 0.25, "X": 0.25}
    assert result.origin == {"Y": 0, "X": 0}
    assert result.unit == "mm"
