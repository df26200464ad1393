"""What a run needs, told before it begins."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from napari_fidelity import Image
from napari_fidelity.core.device import limit_memory
from napari_fidelity.core.errors import ImageError, ModelFileError, OperatorError
from napari_fidelity.methods import Apply, FineTune, Project
from napari_fidelity.operators import Downsample, GaussianBlur, Mask
from napari_fidelity.pipeline import Memory, ModelReference, Recipe, memory, memory_needed

if TYPE_CHECKING:
    from conftest import MakeNetwork

A = Downsample(scale=2)


def like(shape: tuple[int, ...], axes: str, dtype: str = "uint16") -> Image:
    """Return an image that takes no memory."""
    return Image(np.broadcast_to(np.zeros((), dtype), shape), axes)


@pytest.mark.parametrize(
    ("axes", "shape", "dtype", "size"),
    [
        ("YX", (100, 80), "float32", 4 * 200 * 160),
        ("YX", (100, 80), "input", 2 * 200 * 160),
        ("TZYX", (3, 5, 100, 80), "uint8", 15 * 200 * 160),
        ("YXS", (100, 80, 3), "float64", 8 * 3 * 200 * 160),
        ("ZCYX", (5, 2, 100, 80), "float32", 4 * 10 * 200 * 160),
    ],
)
def test_result(axes: str, shape: tuple[int, ...], dtype: str, size: int, network: MakeNetwork) -> None:
    needed = memory_needed(Recipe(operator=A), like(shape, axes), "cpu", network=network(), dtype=dtype)
    assert needed.image == size
    grown = Recipe(operator=GaussianBlur(sigma=1, border="valid"))
    assert memory_needed(grown, like((100, 80), "YX"), "cpu").image == 4 * 108 * 88


def test_one_block_at_a_time(network: MakeNetwork) -> None:
    recipe, model = Recipe(operator=A), network()
    single = memory_needed(recipe, like((64, 64), "YX"), "cpu", network=model)
    stack = memory_needed(recipe, like((50, 64, 64), "ZYX"), "cpu", network=model)
    channels = memory_needed(recipe, like((4, 64, 64), "CYX"), "cpu", network=model)
    each = memory_needed(recipe.replace(channels="each"), like((4, 64, 64), "CYX"), "cpu", network=model)
    assert stack.method == single.method == each.method
    # channels that the network does not know run through it as a batch
    assert channels.method == pytest.approx(4 * single.method, rel=0.1)


def test_methods(network: MakeNetwork) -> None:
    image, model = like((512, 512), "YX"), network(n_feats=16)
    needs = [
        memory_needed(Recipe(operator=A, method=method), image, "cpu", network=model).method
        for method in (Apply(), Project(), FineTune(parameters="last"), FineTune())
    ]
    assert needs[0] == needs[1] < needs[2] < needs[3]


def test_model_of_the_recipe() -> None:
    recipe = Recipe(operator=Downsample(scale=4), method=Apply(), model=ModelReference(name="edsr-s-x4"))
    tracemalloc.start()
    needed = memory_needed(recipe, like((4000, 4000, 3), "YXS"), "cpu")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert needed.image == 4 * 3 * 16000**2
    assert 20e9 < needed.method < 300e9  # in tiles where there is less
    assert peak < 30e6
    assert isinstance(needed, Memory)


def test_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    image, recipe = like((8, 8), "YX"), Recipe(operator=A)
    try:
        limit_memory(1)
        assert memory_needed(recipe, image, "cpu").free == 1
    finally:
        limit_memory(None)
    monkeypatch.setattr(memory, "free_memory", lambda device: None)
    assert memory_needed(recipe, image, "cpu").free is None


@pytest.mark.parametrize(
    ("recipe", "settings", "error", "message"),
    [
        (Recipe(operator=A, model=ModelReference(name="none")), {}, ModelFileError, "no model 'none'"),
        (Recipe(operator=Mask(mask=np.ones((3, 3)))), {}, OperatorError, r"mask has shape \(3, 3\)"),
        (Recipe(operator=A), {"dtype": "complex64"}, ImageError, "complex64"),
        (Recipe(operator=A), {"device": "cuda:99"}, Exception, "no device"),
    ],
)
def test_refused(recipe: Recipe, settings: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        memory_needed(recipe, like((8, 8), "YX"), **settings)


MEASURE = """
import gc, numpy as np
from napari_fidelity import Apply, FineTune, Image, load_model, restore
from napari_fidelity.operators import Downsample
from napari_fidelity.pipeline import Recipe, memory_needed

def resident(name):
    with open("/proc/self/status") as file:
        return next(1024 * int(line.split()[1]) for line in file if line.startswith(name))

method, network = {method}, load_model("edsr-s-x2")
settings = dict(operator=Downsample(scale=2), method=method, model=network, device="cpu")
random = np.random.default_rng(0)
restore(random.random((32, 32, 3), dtype=np.float32), **settings)
image = Image(random.random((256, 256, 3), dtype=np.float32), "YXS")
needed = memory_needed(Recipe(operator=Downsample(scale=2), method=method), image, "cpu", network=network)
gc.collect()
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")  # the largest so far is the present
before = resident("VmRSS")
restore(image, **settings)
print((needed.method + needed.image) / (resident("VmHWM") - before))
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc/self/clear_refs")
@pytest.mark.parametrize("method", ["Apply()", "FineTune(iterations=1)", "FineTune(parameters='last')"])
def test_estimates_against_what_was_measured(method: str) -> None:
    script = MEASURE.replace("{method}", method)
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert 1 / 1.5 < float(found) < 1.5
