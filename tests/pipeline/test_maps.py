"""Maps run like methods: each of their images in its own units, on its own grid, over stacks and channels."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from napari_fidelity import Image, restore, run_recipe
from napari_fidelity.core.errors import MemoryNeededError, NonFiniteError, OptionError, ShapeError
from napari_fidelity.core.step import drain
from napari_fidelity.methods import RED, Apply, FineTune, Project
from napari_fidelity.operators import Blur, Downsample, Identity, Radon
from napari_fidelity.pipeline import Recipe, memory_needed
from napari_fidelity.stopping import Discrepancy, LRPSNRGain
from napari_fidelity.uncertainty import ErrorMap, NullSpace, Residual

if TYPE_CHECKING:
    from conftest import MakeNetwork, Scene

A = Downsample(scale=2)


def run(recipe: Recipe, image: Any, model: Any = None, **settings: Any) -> Any:
    on_step = settings.pop("on_step", None)
    return drain(run_recipe(recipe, image, model, device="cpu", **settings), on_step)


def counts(scene: Scene, *shape: int) -> Any:
    return (scene(*shape) * 3000 + 500).astype(np.float32)


@pytest.mark.parametrize(
    ("axes", "shape", "channels"),
    [("YX", (6, 8), "auto"), ("ZYX", (3, 6, 8), "auto"), ("YXS", (6, 8, 3), "auto"), ("CYX", (2, 6, 8), "each")],
)
def test_units_and_grids(
    axes: str, shape: tuple[int, ...], channels: Any, passes: Any, network: MakeNetwork, scene: Scene
) -> None:
    image = Image(counts(scene, *shape), axes, {"Y": 0.5, "X": 0.5}, "µm")
    seen: list[Image] = []
    recipe = Recipe(operator=A, method=passes(of=Apply()), channels=channels, scope="slice")
    result = run(recipe, image, network(), on_step=lambda step: seen.append(step.estimate()))
    plain = restore(image, operator=A, method=Apply(), model=network(), channels=channels, scope="slice").image
    assert list(result.maps) == ["std", "mean", "ratio"]
    std, mean, ratio = result.maps.values()
    assert result.image is std
    np.testing.assert_allclose(mean.data, plain.data, rtol=1e-4)
    # a difference has a gain and no offset
    within = tuple(
        i for i, axis in enumerate(axes) if axis not in "Z" and not (axis == "C" and channels == "each")
    )
    gain = np.ptp(image.data, axis=within, keepdims=True)
    np.testing.assert_allclose(std.data, np.broadcast_to(0.05 * gain, std.shape), rtol=1e-5)
    scaled = (image.data - image.data.min(axis=within, keepdims=True)) / gain
    np.testing.assert_allclose(ratio.data, scaled, atol=1e-6)
    assert [one.axes for one in result.maps.values()] == [axes] * 3
    assert [one.pixel_size["X"] for one in result.maps.values()] == [0.25, 0.25, 0.5]
    assert mean.origin == plain.origin
    assert ratio.origin == image.origin
    assert [one.metadata["napari-fidelity"]["output"]["name"] for one in result.maps.values()] == list(result.maps)
    assert {one.pixel_size["X"] for one in seen} == {0.25}
    np.testing.assert_allclose(seen[-1].data, std.data[-1] if axes[0] in "ZC" else std.data, rtol=1e-6)


def test_integers_hold_intensities_only(passes: Any, network: MakeNetwork, scene: Scene) -> None:
    result = run(Recipe(operator=A, method=passes(of=Apply())), counts(scene, 6, 8), network(), dtype="uint16")
    assert [one.dtype.name for one in result.maps.values()] == ["float32", "uint16", "float32"]


def test_no_pictures(passes: Any, scene: Scene) -> None:
    x, operator = counts(scene, 12, 12), Radon(angles=8)
    y = operator.A(torch.from_numpy(x)[None, None])[0, 0].numpy()
    recipe = Recipe(operator=operator, method=Residual(of=RED(iterations=1)), seed=1)
    shown: list[Image] = []
    result = run(recipe, Image(y, "YX"), on_step=lambda step: shown.append(step.estimate()))
    # also while the image to judge is being made
    assert {one.shape for one in shown} == {y.shape}
    assert result.image.shape == y.shape
    assert float(np.abs(result.image.data).max()) < float(y.max())


@pytest.mark.parametrize("kind", [NullSpace, Residual, ErrorMap])
def test_recipes_of_maps(kind: Any, network: MakeNetwork, scene: Scene) -> None:
    image, model = counts(scene, 12, 14), network()
    first = kind(of=Apply())
    result = run(Recipe(operator=A, method=first, seed=3), image, model)
    again = Recipe.from_text(json.dumps(result.provenance, allow_nan=False))
    assert again.method == first
    assert Recipe.from_text(again.to_toml(), "toml") == again
    same = run(again, image, model)
    for name, one in result.maps.items():
        assert np.array_equal(same.maps[name].data, one.data)


@pytest.mark.parametrize("k", [0, 2])
def test_a_stopped_map_is_replayed(k: int, passes: Any, network: MakeNetwork, scene: Scene) -> None:
    image, model = Image(counts(scene, 3, 8, 8), "ZYX"), network()
    recipe = Recipe(operator=A, method=passes(of=Project()))
    stop = lambda step: "enough" if (step.block, step.index) == (1, k) else None  # noqa: E731
    result = run(recipe, image, model, on_step=stop)
    assert result.provenance["recipe"]["last_iterations"] == [4, k]
    replay = recipe.replace(last_iterations=(4, k))
    same = run(replay, image, model)
    for name, one in result.maps.items():
        assert np.isnan(one.data[2]).all()
        assert np.array_equal(same.maps[name].data, one.data, equal_nan=True)
    single = run(recipe, image.data[0], model, on_step=lambda step: "enough" if step.index == k else None)
    assert single.provenance["recipe"]["last_iterations"] == [k]


@pytest.mark.parametrize(
    ("axes", "shape", "given", "channels"),
    [
        ("YX", (6, 8), (12, 16), "auto"),
        ("ZYX", (3, 6, 8), (3, 12, 16), "auto"),
        ("ZYX", (3, 6, 8), (12, 16), "auto"),
        ("YXS", (6, 8, 3), (12, 16, 3), "auto"),
        ("CYX", (3, 6, 8), (3, 12, 16), "each"),
    ],
)
def test_the_judged_image(
    axes: str, shape: tuple[int, ...], given: tuple[int, ...], channels: Any, passes: Any, network: MakeNetwork,
    scene: Scene,
) -> None:  # fmt: skip
    image, x = Image(counts(scene, *shape), axes), counts(scene, *given)
    recipe = Recipe(operator=A, method=passes(of=Apply()), channels=channels)
    for settings in ({"judged": x}, {"judged": Image(x, axes if len(given) == len(axes) else "YX")}):
        result = run(recipe, image, network(), **settings)
        np.testing.assert_allclose(result.maps["mean"].data, np.broadcast_to(x, result.image.shape), rtol=1e-5)
        # nothing tells what made it: it must be in the recipe
        kept = Recipe.parse(result.provenance["recipe"])
        same = run(kept.replace(method=passes(of=Apply(), image=kept.method.image)), image, network())
        assert np.array_equal(same.maps["mean"].data, result.maps["mean"].data)


def test_a_judged_image_of_the_recipe_itself_is_left_out(passes: Any, network: MakeNetwork, scene: Scene) -> None:
    image, model = counts(scene, 8, 8), network()
    recipe = Recipe(operator=A, method=Apply(), seed=2)
    restored = run(recipe, image, model).image
    over = recipe.replace(method=passes(of=Apply()))

    def kept(judged: Any, measurement: Any = image, over: Recipe = over) -> bool:
        record = run(over, measurement, model, judged=judged).provenance
        return "image" in record["recipe"]["method"]

    assert not kept(restored)
    assert not kept(restored.replace(data=restored.data[None], axes="ZYX"), image)
    changed = restored.data.copy()
    changed[2, 2] += 1
    assert kept(restored.replace(data=changed))
    assert kept(restored, image + 1)
    assert kept(restored, over=over.replace(seed=3))
    assert kept(restored.replace(metadata={}))
    assert kept(run(recipe, image, model, dtype="uint16").image)


def test_what_cannot_be_judged(passes: Any, network: MakeNetwork, scene: Scene) -> None:
    image, model = Image(counts(scene, 2, 8, 8), "ZYX"), network()
    recipe = Recipe(operator=A, method=passes(of=Apply()))
    with pytest.raises(ShapeError, match=r"image to judge must have.*\(2, 16, 16\) \(ZYX\).*found: \(16, 17\)"):
        run(recipe, image, model, judged=np.zeros((16, 17)))
    unfinished = counts(scene, 2, 16, 16)
    unfinished[1] = np.nan
    with pytest.raises(NonFiniteError, match=r"image to judge.*at Z=1.*found: 256 of 256.*stopped"):
        run(recipe, image, model, judged=unfinished)
    with pytest.raises(OptionError, match="Apply judges no result"):
        run(recipe.replace(method=Apply()), image, model, judged=unfinished)


@pytest.mark.parametrize("axes", ["YXS", "CYX"])
def test_a_gray_image_is_no_result_in_colour(axes: str, passes: Any, network: MakeNetwork, scene: Scene) -> None:
    image = Image(counts(scene, 6, 8, 3) if axes == "YXS" else counts(scene, 3, 6, 8), axes)
    gray = counts(scene, 12, 16)
    recipe = Recipe(operator=A, method=passes(of=Apply()))
    held = recipe.replace(method=passes(of=Apply(), image=gray))
    for over, judged in ((recipe, gray), (recipe, Image(gray, "YX")), (held, None)):
        with pytest.raises(ShapeError, match=r"image to judge must have the shape.*found: \(12, 16\)"):
            run(over, image, network(), judged=judged)
    assert not passes.calls


def test_the_judged_method_decides(passes: Any, network: MakeNetwork, scene: Scene) -> None:
    image = counts(scene, 6, 8)
    # its network, its stopping rule, its dimensions
    with pytest.raises(OptionError, match="RED takes no network"):
        run(
            Recipe(operator=Identity(), method=NullSpace(of=RED(denoiser={"kind": "tv"}))), image, network(scale=1)
        )
    with pytest.raises(OptionError, match="lr_lpips does not go with RED"):
        run(Recipe(operator=A, method=NullSpace(of=RED()), stop={"kind": "lr_lpips"}), image)
    with pytest.raises(OptionError, match="slice by slice"):
        run(Recipe(operator=A, method=passes(), spatial="ZYX"), counts(scene, 2, 6, 8), network())
    rule = LRPSNRGain() | Discrepancy()
    run(Recipe(operator=A, method=passes(of=FineTune(iterations=1)), stop=rule), image, network())
    assert passes.calls[-1]["stop"] == rule


@pytest.mark.parametrize(
    ("axes", "shape", "given"),
    [
        ("YX", (6, 8), (12, 16)),
        ("ZYX", (3, 6, 8), (3, 12, 16)),
        ("ZYX", (3, 6, 8), (12, 16)),
        ("YXS", (6, 8, 3), (12, 16, 3)),
        ("ZYXS", (2, 6, 8, 3), (2, 12, 16)),
    ],
)
def test_masks_are_cut_and_not_scaled(
    axes: str, shape: tuple[int, ...], given: tuple[int, ...], passes: Any, network: MakeNetwork, scene: Scene
) -> None:
    mask = scene(*given)
    method = passes(of=FineTune(iterations=0, views=1, mask=mask))
    run(Recipe(operator=A, method=method), Image(counts(scene, *shape), axes), network())
    for z, call in enumerate(passes.calls):
        part = mask[z] if len(given) > 2 and "Z" in axes else mask
        part = part.mean(axis=-1) if part.ndim > 2 else part
        np.testing.assert_allclose(call["of"].mask, part, rtol=1e-6)


def test_memory(scene: Scene, network: MakeNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    from napari_fidelity.pipeline import _blocks

    image = Image(scene(64, 64), "YX")
    plain = Recipe(operator=Blur(kernel=np.ones((3, 3)) / 9), method=RED(denoiser={"kind": "tv"}))
    over = plain.replace(method=ErrorMap(of=plain.method))
    alone, both = memory_needed(plain, image), memory_needed(over, image)
    assert both.image == 2 * alone.image
    assert both.method > alone.method
    monkeypatch.setattr(_blocks, "free_memory", lambda device: 1000)
    with pytest.raises(MemoryNeededError):
        run(over, image)
