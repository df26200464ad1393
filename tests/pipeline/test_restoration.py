"""From an image of any kind to a restored one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn

from napari_fidelity import Image, restore, restore_steps, run_recipe
from napari_fidelity.core.errors import (
    ArchitectureError,
    ImageError,
    MemoryNeededError,
    ModelFileError,
    NonFiniteError,
    OptionError,
)
from napari_fidelity.core.step import drain
from napari_fidelity.io import load_model
from napari_fidelity.methods import Apply, FineTune, Project
from napari_fidelity.operators import Blur, Downsample, GaussianBlur, GaussianNoise, Mask, Operator, UniformBlur
from napari_fidelity.pipeline import Recipe

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import MakeNetwork, Scene
    from napari_fidelity.core.step import Result, Step

A = Downsample(scale=2)
QUICK = FineTune(iterations=1, views=1, precision="float32")


def quick(image: Any, model: Any, **settings: Any) -> Result[Image]:
    settings = {"operator": A, "method": QUICK, "device": "cpu", **settings}
    return restore(image, model=model, **settings)


# axes, shape, channels of the network, option channels, blocks
IMAGES = [
    ("YX", (12, 14), 1, "joint", 1),
    ("YXS", (12, 14, 3), 3, "joint", 1),
    ("SYX", (3, 12, 14), 3, "joint", 1),
    ("YXS", (12, 14, 3), 1, "joint", 1),
    ("YXS", (12, 14, 3), 3, "each", 3),
    ("YX", (12, 14), 3, "joint", 1),
    ("ZYX", (3, 12, 14), 1, "joint", 3),
    ("TZYX", (2, 2, 12, 14), 1, "joint", 4),
    ("TYX", (2, 12, 14), 3, "joint", 2),
    ("CYX", (2, 12, 14), 3, "joint", 1),
    ("CYX", (5, 12, 14), 3, "joint", 1),
    ("CYX", (2, 12, 14), 1, "each", 2),
    ("ZCYX", (2, 2, 12, 14), 1, "joint", 2),
    ("YXC", (12, 14, 2), 1, "each", 2),
]


@pytest.mark.parametrize(("axes", "shape", "trained", "channels", "blocks"), IMAGES)
def test_every_kind_of_image(
    axes: str, shape: tuple[int, ...], trained: int, channels: Any, blocks: int, network: MakeNetwork, scene: Scene
) -> None:
    order = sorted(range(len(axes)), key=lambda i: "TZCSYX".index(axes[i]))
    data = np.transpose(scene(*(shape[i] for i in order)), np.argsort(order))
    image = Image(data, axes, {"Y": 0.4, "X": 0.2}, "µm", {"Y": 1.0})
    seen: list[Step] = []
    result = quick(image, network(trained), channels=channels, on_step=seen.append)
    assert result.image.axes == axes
    wanted = tuple(n * 2 if axis in "YX" else n for axis, n in zip(axes, shape, strict=True))
    assert result.image.shape == wanted
    assert [step.block for step in seen] == [b for b in range(blocks) for _ in range(2)]
    assert {step.blocks for step in seen} == {blocks}
    assert [record.block for record in result.history] == [step.block for step in seen]
    assert (result.image.pixel_size["Y"], result.image.pixel_size["X"]) == (0.2, 0.1)
    # the first pixel's centre: a quarter of the old pixel towards the corner
    assert result.image.origin["Y"] == pytest.approx(1.0 - 0.1)
    assert result.image.origin["X"] == pytest.approx(-0.05)
    assert result.image.unit == "µm"
    back = np.moveaxis(result.image.data, [axes.index("Y"), axes.index("X")], [-2, -1])
    found = A.A(torch.from_numpy(np.array(back).reshape(-1, 1, 24, 28)))
    measured = np.moveaxis(data, [axes.index("Y"), axes.index("X")], [-2, -1]).reshape(found.shape)
    assert np.abs(found.numpy() - measured).max() < 0.02


@pytest.mark.parametrize(
    ("dtype", "offset", "gain", "asked", "written"),
    [
        ("uint8", 0, 255, "float32", "float32"),
        ("uint8", 0, 255, "input", "uint8"),
        ("uint16", 400, 3000, "input", "uint16"),
        ("int16", -500, 900, "input", "int16"),
        ("float32", 0, 1, "float64", "float64"),
        ("float64", -7, 1e6, "float32", "float32"),
        ("float16", 0, 1, "input", "float16"),
        ("float32", 20, 100, "uint8", "uint8"),
    ],
)
def test_intensities_keep_their_units(
    dtype: str, offset: float, gain: float, asked: str, written: str, network: MakeNetwork, scene: Scene
) -> None:
    data = (scene(16, 16).astype(np.float64) * gain + offset).astype(dtype)
    result = quick(data, network(), dtype=asked)
    assert result.image.dtype == written
    # twice down again, the result shows what was measured
    small = result.image.data.astype(np.float64).reshape(16, 2, 16, 2).mean((1, 3))
    assert np.abs(small - data).mean() < 0.05 * gain


@pytest.mark.parametrize(("axes", "shape", "trained", "channels", "blocks"), IMAGES)
def test_estimates_are_images_of_their_block(
    axes: str, shape: tuple[int, ...], trained: int, channels: Any, blocks: int, network: MakeNetwork, scene: Scene
) -> None:
    data = (900 * scene(*shape) + 100).astype(np.uint16)
    image = Image(data, axes, {"Y": 0.4, "X": 0.2}, "µm", {"Y": 1.0}, {"made by": "hand"})
    last = {}

    def keep(step: Step[Image]) -> None:
        last[step.block] = step

    result = quick(image, network(trained), channels=channels, on_step=keep, scope="slice")
    whole = result.image
    assert len(last) == blocks
    for step in last.values():
        part = step.estimate()
        assert set(step.position) == set(axes) - set(part.axes)
        assert part.axes == "".join(axis for axis in axes if axis not in step.position)
        own = whole.data[tuple(step.position.get(axis, slice(None)) for axis in axes)]
        assert np.array_equal(part.data, own)
        assert (part.dtype, part.unit, part.metadata) == ("float32", "µm", {"made by": "hand"})
        for axis in "YX":
            assert part.pixel_size[axis] == whole.pixel_size[axis]
            assert part.origin[axis] == whole.origin[axis]
    places = [tuple(step.position.values()) for step in last.values()]
    assert places == sorted(set(places))


def test_estimates_cost_nothing_until_called(
    network: MakeNetwork, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_fidelity.pipeline import _outputs

    steps = restore_steps(scene(10, 10), operator=A, model=network(), method=QUICK, device="cpu", dtype="uint8")
    step = next(steps)
    monkeypatch.setattr(_outputs, "Assembler", lambda *a, **k: pytest.fail("an image was made"))
    next(steps)
    monkeypatch.undo()
    assert (step.estimate().dtype, step.position) == ("float32", {})
    steps.close()
    assert step.estimate().shape == (20, 20)


def test_arrays_and_files_of_models(model_file: Path, scene: Scene) -> None:
    data = scene(10, 10)
    first = quick(data, str(model_file))
    assert np.array_equal(first.image.data, quick(data, model_file).image.data)
    assert np.array_equal(first.image.data, quick(data, load_model(model_file)).image.data)
    assert first.provenance["recipe"]["model"]["sha256"] == load_model(model_file).info.sha256
    with pytest.raises(ImageError, match="5-D"):
        quick(np.zeros((2, 2, 2, 4, 4)), str(model_file))


# -- NaN ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trained", [1, 3])
def test_nan_refused_or_unobserved(trained: int, network: MakeNetwork, scene: Scene) -> None:
    clean = scene(2, 16, 16)
    data = clean.copy()
    data[0, 3, 4], data[1, 8:10, 8:10] = np.nan, np.inf
    image = Image(data, "CYX")
    with pytest.raises(NonFiniteError, match=r"1 NaN and 4 infinite.*--nonfinite mask"):
        quick(image, network(trained))
    for method in (QUICK, Project()):
        result = quick(image, network(trained), nonfinite="mask", method=method)
        assert np.isfinite(result.image.data).all()
        found = A.A(torch.from_numpy(np.array(result.image.data))[None])[0].numpy()
        seen = np.isfinite(data)
        assert np.abs(found - clean)[seen].max() < 0.03
    everywhere = np.full((8, 8), np.nan, np.float32)
    with pytest.raises(NonFiniteError, match="No pixel was observed"):
        quick(everywhere, network(), nonfinite="mask")


def test_what_a_mask_hides_never_reaches_the_network(network: MakeNetwork, scene: Scene) -> None:
    y = 100 + 50 * scene(16, 12)
    seen = np.ones((16, 12), np.float32)
    seen[4:7, 5:8] = 0
    hidden = [np.where(seen == 0, value, y) for value in (0.0, 1e4)]
    for method in (Project(), FineTune(iterations=1)):
        results = [
            restore(image, operator=Mask(mask=seen), method=method, model=network(scale=1), scaling="minmax")
            for image in hidden
        ]
        np.testing.assert_array_equal(results[0].image.data, results[1].image.data)
        assert 90 < results[0].image.data.min() <= results[0].image.data.max() < 160


def test_a_recipe_says_on_how_many_threads(network: MakeNetwork, scene: Scene) -> None:
    before = torch.get_num_threads()
    seen = []

    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = network()

        def forward(self, y: torch.Tensor) -> torch.Tensor:
            seen.append(torch.get_num_threads())
            return self.inner(y)

    for threads in (1, 2, None):
        quick(scene(12, 12), Counting(), method=Apply(), threads=threads)
    assert seen[0] == 1
    assert set(seen) == {1, 2, before}
    assert torch.get_num_threads() == before


# -- provenance --------------------------------------------------------------------------------------------------


def test_provenance_replays_bit_by_bit(model_file: Path, scene: Scene) -> None:
    image = Image((scene(2, 12, 12) * 3000 + 100).astype(np.uint16), "ZYX")
    # rounded to float32, so that the document has to tell that it is one
    kernel = np.outer(np.hanning(9), np.hanning(9)).astype(np.float32)[1:-1, 1:-1]
    operator = A @ Blur(kernel=kernel)
    noise = GaussianNoise(sigma=20)
    mask = np.random.default_rng(0).random((24, 24)) + 0.1
    method = FineTune(iterations=2, mask=mask, parameters="low_rank")
    first = quick(image, str(model_file), operator=operator, noise=noise, method=method, seed=5, scope="slice")
    record = json.loads(json.dumps(first.provenance, allow_nan=False))
    assert record == first.provenance == first.image.metadata["napari-fidelity"]
    assert (record["blocks"], record["blocks_done"], len(record["runs"])) == (2, 2, 2)
    assert record["recipe"]["software"]["torch"].startswith(torch.__version__.split("+")[0])
    assert {"device", "finished", "seconds", "saturated"} <= record.keys()
    for recipe in (Recipe.parse(record["recipe"]), Recipe.from_text(json.dumps(record))):
        again = drain(run_recipe(recipe, image, device="cpu"))
        assert np.array_equal(again.image.data, first.image.data)


def test_changed_model_is_refused(model_file: Path, scene: Scene) -> None:
    recipe = Recipe.parse({"operator": A.to_plain(), "model": {"name": str(model_file), "sha256": "0" * 64}})
    with pytest.raises(ModelFileError, match=r"not the one the recipe was made with.*instead of 000000000000…"):
        drain(run_recipe(recipe, scene(8, 8)))


class Theirs:
    """An operator of somebody else's."""

    def A(self, x: torch.Tensor) -> torch.Tensor:
        return A.A(x)

    def A_adjoint(self, y: torch.Tensor) -> torch.Tensor:
        return A.A_adjoint(y)


def test_foreign_operator_and_network(network: MakeNetwork, scene: Scene) -> None:
    data, model = scene(12, 12), network()
    ours, theirs = (quick(data, model, operator=operator) for operator in (A, Theirs()))
    np.testing.assert_allclose(theirs.image.data, ours.image.data, atol=1e-3)
    recipe = Recipe.parse(theirs.provenance["recipe"])
    assert recipe.operator is None
    with pytest.raises(OptionError, match="names no image formation model"):
        drain(run_recipe(recipe, data, model))
    again = drain(run_recipe(recipe, data, model, operator=Theirs()))
    assert np.array_equal(again.image.data, theirs.image.data)


# -- place in space ----------------------------------------------------------------------------------------------


def centre(image: Image) -> tuple[float, ...]:
    """Return where the one bright thing in an image lies in space."""
    data = np.asarray(image.data, np.float64)
    place = []
    for axis, name in enumerate(image.axes):
        marginal = data.sum(1 - axis)
        pixel = float(np.arange(len(marginal)) @ marginal / marginal.sum())
        place.append(image.origin[name] + image.pixel_size[name] * pixel)
    return tuple(place)


PLACED = {
    "downsample 2": Downsample(scale=2),
    "downsample 2.5": Downsample(scale=2.5),
    "downsample per axis": Downsample(scale=(1, 3.3)),
    "valid blur": GaussianBlur(sigma=1.5, border="valid"),
    "valid blur, downsample": Downsample(scale=2) @ GaussianBlur(sigma=1.5, border="valid"),
    "valid blur, downsample 2.5": Downsample(scale=2.5) @ UniformBlur(size=6, border="valid"),
    "even kernel": UniformBlur(size=4),
    "even kernel, downsample": Downsample(scale=2) @ Blur(kernel=np.ones((2, 4))),
    "even kernel, valid": Blur(kernel=np.ones((4, 2)) + np.eye(4)[:, :2], border="valid"),
    "measured kernel": Blur(kernel=np.random.default_rng(0).random((5, 7))),
}


@pytest.mark.parametrize("size", [(72, 81), (73, 79)])
@pytest.mark.parametrize("name", PLACED)
def test_a_point_stays_in_its_place(name: str, size: tuple[int, int]) -> None:
    operator = PLACED[name]
    rows, columns = np.ogrid[: size[0], : size[1]]
    truth = np.exp(-((rows - 33.3) ** 2 + (columns - 41.2) ** 2) / (2 * 3.0**2)).astype(np.float32)
    x = torch.from_numpy(truth)[None, None]
    y = operator.A(x)[0, 0].numpy()
    measured = Image(y, "YX", {"Y": 0.4, "X": 0.1}, "µm", {"Y": 7.0, "X": -2.0})
    seen = []
    result = restore(
        measured, operator=operator, method=Apply(), model=lambda _: x, device="cpu", scaling="none",
        on_step=lambda step: seen.append(step.estimate()),
    )  # fmt: skip
    assert np.array_equal(result.image.data, truth)
    for image in (result.image, *seen):
        off = np.subtract(centre(image), centre(measured)) / (0.4, 0.1)
        assert np.abs(off).max() < 0.01  # pixels of the measurement


def test_foreign_operators_go_by_the_ratio_of_lengths(network: MakeNetwork) -> None:
    class Wider(Theirs):
        def A(self, x: torch.Tensor) -> torch.Tensor:
            return A.A(x)[..., :-1, :]

        def A_adjoint(self, y: torch.Tensor) -> torch.Tensor:
            return A.A_adjoint(nn.functional.pad(y, (0, 0, 0, 1)))

    y = np.full((11, 12), 0.5, np.float32)
    result = restore(y, operator=Wider(), method=Apply(), model=lambda y: torch.rand(1, 1, 24, 24), device="cpu")
    assert result.image.pixel_size == {"Y": pytest.approx(11 / 24), "X": 0.5}
    assert result.image.origin == {"Y": pytest.approx((11 / 24 - 1) / 2), "X": -0.25}


# -- ends --------------------------------------------------------------------------------------------------------


def test_stop_in_the_middle_of_a_stack(network: MakeNetwork, scene: Scene) -> None:
    image = Image(scene(4, 10, 10), "ZYX")
    result = quick(image, network(), on_step=lambda step: "enough" if step.block == 1 else None)
    assert result.stop_reason == "enough; 2 of 4 slices are done, the others are empty"
    assert [bool(np.isnan(part).all()) for part in result.image.data] == [False, False, True, True]
    assert result.provenance["blocks_done"] == 2
    assert result.provenance["runs"][1]["stop_reason"] == "enough"


def test_closing_closes_the_method(network: MakeNetwork, scene: Scene) -> None:
    closed = []

    class Watched(Project):
        def steps(self, *args: Any, **settings: Any) -> Any:
            try:
                yield from super().steps(*args, **settings)
            finally:
                closed.append(True)

    steps = restore_steps(scene(8, 8), operator=A, model=network(), method=Watched())
    next(steps)
    steps.close()
    assert closed == [True]


def test_snapshots_are_images(network: MakeNetwork, scene: Scene) -> None:
    method = FineTune(iterations=3, snapshots=2)
    image = Image((scene(10, 10) * 200).astype(np.uint8), "YX", {"Y": 2, "X": 2}, "nm")
    result = quick(image, network(), method=method)
    assert list(result.snapshots) == [0, 2]
    assert all((i.shape, i.unit, i.pixel_size["X"]) == ((20, 20), "nm", 1) for i in result.snapshots.values())
    assert quick(Image(scene(2, 10, 10), "ZYX"), network(), method=method).snapshots == {}


class Hungry(nn.Module):
    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.layer, self.error = nn.Conv2d(1, 1, 1), error

    def forward(self, y: torch.Tensor) -> torch.Tensor:
        raise self.error


class HungryOperator(Theirs):
    def __init__(self, error: Exception) -> None:
        self.error = error

    def A(self, x: torch.Tensor) -> torch.Tensor:
        raise self.error


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes. Out of memory"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: not enough memory"),
        MemoryError(),
    ],
    ids=["torch", "cpu", "windows", "python"],
)
@pytest.mark.parametrize("method", [QUICK, Project()], ids=lambda method: method.kind)
@pytest.mark.parametrize("where", ["network", "operator"])
def test_out_of_memory(error: Exception, method: Any, where: str, network: MakeNetwork, scene: Scene) -> None:
    model = Hungry(error) if where == "network" else network()
    operator = HungryOperator(error) if where == "operator" else A
    with pytest.raises(MemoryNeededError, match=r"Memory ran out on cpu for an image of 8 × 9 pixels.*Crop"):
        quick(scene(8, 9), model, operator=operator, method=method)


def test_other_failures_are_no_runtime_errors(network: MakeNetwork, scene: Scene) -> None:
    with pytest.raises(ArchitectureError, match=r"Hungry cannot be applied.*sizes do not match"):
        quick(scene(8, 8), Hungry(RuntimeError("sizes do not match")))


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"operator": None}, OptionError, "image formation model is needed"),
        ({"dtype": "complex64"}, ImageError, "cannot be written as complex64"),
        ({"dtype": "floaty"}, ImageError, "cannot be written as floaty"),
        ({"dtype": "bool"}, ImageError, "cannot be written as bool"),
        ({"device": "cuda:99"}, Exception, "no device"),
        ({"scaling": "maximum"}, OptionError, "scaling"),
        ({"channel": "each"}, OptionError, "there is no option 'channel'"),
        ({"seed": -1}, OptionError, "'seed' = -1"),
        ({"model": None}, Exception, "needs a restoration network"),
        ({"model": "edsr"}, ModelFileError, "no model 'edsr'"),
    ],
)
def test_refused_before_any_work(
    settings: dict[str, Any], error: type[Exception], message: str, network: MakeNetwork, scene: Scene
) -> None:
    def look(step: Step) -> None:
        raise AssertionError("work was done")

    with pytest.raises(error, match=message):
        quick(scene(8, 8), **{"model": network(), "on_step": look, **settings})


def test_operators_without_a_field_are_named_in_the_recipe(network: MakeNetwork, scene: Scene) -> None:
    result = quick(scene(8, 8), network())
    assert isinstance(Recipe.parse(result.provenance["recipe"]).operator, Operator)
    assert result.provenance["recipe"]["operator"] == {"kind": "downsample", "scale": 2.0}
