"""Layers that are not in memory are read as little and as rarely as can be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
import pytest
from napari.layers import Image

from napari_fidelity.core.step import drain
from napari_fidelity.widgets import _reading
from napari_fidelity.widgets._layers import Source

if TYPE_CHECKING:
    from pathlib import Path

VALUES = np.random.default_rng(0).integers(0, 4000, (4, 10, 6, 8)).astype(np.uint16)


class Lazy:
    """The least that an array on disk can do, and a record of what was read of it."""

    def __init__(self, values: Any, chunks: tuple[int, ...] | None = None) -> None:
        self._values, self.read = values, []
        self.shape, self.dtype, self.ndim = values.shape, values.dtype, values.ndim
        if chunks:
            self.chunks = chunks

    def __getitem__(self, where: Any) -> Any:
        found = self._values[where]
        self.read.append(found.size)
        return found


def layer_over(data: Any, **how: Any) -> Image:
    return Image(data, contrast_limits=(0, 4000), **how)


def test_one_slice_of_a_dask_stack_computes_one_plane() -> None:
    computed = []

    def compute(block: Any, block_info: Any = None) -> Any:
        computed.append(block_info[0]["chunk-location"])
        return block

    stack = da.from_array(VALUES[0], chunks=(1, 6, 8)).map_blocks(compute, meta=np.zeros(0, np.uint16))
    layer = layer_over(stack)
    computed.clear()
    source = Source.of(layer, index={"Z": 3})
    assert (source.nbytes, computed) == (6 * 8 * 2, [])
    image = drain(source.read())
    assert computed == [(3, 0, 0)]
    np.testing.assert_array_equal(image.data, VALUES[0, 3:4])
    computed.clear()
    assert len(list(Source.of(layer).read())) == 10
    assert sorted(computed) == [(i, 0, 0) for i in range(10)]


def test_a_lazy_array_is_read_plane_by_plane_and_can_be_left() -> None:
    lazy = Lazy(VALUES)
    source = Source.of(layer_over(lazy), index={"T": 2})
    lazy.read.clear()
    reading = source.read()
    assert [next(reading), next(reading)] == [(1, 10), (2, 10)]
    reading.close()
    assert lazy.read == [48, 48]
    np.testing.assert_array_equal(drain(source.read()).data, VALUES[2:3])


@pytest.mark.parametrize(
    ("chunks", "index", "pieces"),
    [
        ((1, 4, 3, 4), {}, 4 * 3),  # borders at 4 and 8 of 10
        ((4, 10, 6, 8), {}, 1),
        ((1, 4, 3, 4), {"T": 1}, 3),
        ((1, 4, 3, 4), {"T": 1, "Z": 9}, 1),
    ],
)
def test_whole_chunks_are_read_once(chunks: Any, index: dict[str, int], pieces: int) -> None:
    for data in (Lazy(VALUES, chunks), da.from_array(VALUES, chunks=chunks)):
        source = Source.of(layer_over(data), index=index)
        if isinstance(data, Lazy):
            data.read.clear()
        assert len(list(source.read())) == pieces
        image = drain(source.read())
        where = tuple(slice(index[a], index[a] + 1) if a in index else slice(None) for a in "TZYX")
        np.testing.assert_array_equal(image.data, VALUES[where])


def test_large_chunks_are_read_plane_by_plane(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_reading, "_PIECE", 100)
    source = Source.of(layer_over(Lazy(VALUES, (4, 10, 6, 8))))
    assert [total for _, total in source.read()] == [40] * 40


def test_memory_mapped_files_and_rgba(tmp_path: Path) -> None:
    np.save(tmp_path / "stack.npy", VALUES)
    mapped = np.load(tmp_path / "stack.npy", mmap_mode="r")
    image = drain(Source.of(layer_over(mapped), index={"T": 1}).read())
    assert not np.shares_memory(image.data, mapped)  # the file may be gone while the run still needs it
    np.testing.assert_array_equal(image.data, VALUES[1:2])
    rgba = Lazy(np.zeros((3, 6, 8, 4), np.uint8))
    layer = layer_over(rgba, rgb=True)
    rgba.read.clear()
    assert drain(Source.of(layer).read()).shape == (3, 6, 8, 3)
    assert rgba.read == [6 * 8 * 3] * 3


def test_memory_held_is_that_of_the_slice() -> None:
    import tracemalloc

    stack = da.random.default_rng(0).random((10, 256, 256), chunks=(1, 256, 256))
    source = Source.of(layer_over(stack), index={"Z": 3})
    drain(source.read())  # dask imports what it needs
    tracemalloc.start()
    image = drain(source.read())
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert image.data.nbytes == source.nbytes == 256 * 256 * 8
    assert held < 1.3 * source.nbytes
    assert peak < 5 * source.nbytes
