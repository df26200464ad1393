"""The network of a recipe follows the scale of its operator, where nobody says which scale it is to have."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn

import napari_fidelity as nf
from napari_fidelity.core.errors import ArchitectureError, ShapeError
from napari_fidelity.core.step import drain
from napari_fidelity.networks.vsr import VSR
from napari_fidelity.operators import Compose, Downsample, GaussianBlur, Mask, Radon, register_operator
from napari_fidelity.pipeline import ModelReference, Recipe, map_recipe, memory_needed, run_recipe
from napari_fidelity.pipeline.models import whole_scale, with_operator

if TYPE_CHECKING:
    from conftest import Scene

HALF = Downsample(scale=2)
QUICK = nf.FineTune(iterations=1, views=1, precision="float32")


@pytest.fixture
def file(tmp_path: Path) -> str:
    """A file of a network for ×4, which can be adapted to every scale."""
    network = VSR(1, 4, 1, 4, 3).start_as_interpolation(torch.Generator().manual_seed(0))
    path = tmp_path / "video.safetensors"
    nf.save_model(network, path)
    return str(path)


@pytest.fixture
def y(scene: Scene) -> np.ndarray[Any, Any]:
    return scene(12, 14)


def restored(y: Any, model: Any, operator: Any = HALF, method: Any = QUICK) -> Any:
    return nf.restore(y, operator=operator, model=model, method=method, device="cpu")


@pytest.mark.parametrize("method", [nf.Apply(), nf.Project(), QUICK], ids=lambda method: method.kind)
def test_a_network_follows_the_operator(method: Any, file: str, y: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "napari_fidelity")
    result = restored(y, file, method=method)
    assert result.image.shape == (24, 28)
    said = [record.getMessage() for record in caplog.records if "adapted" in record.getMessage()]
    assert said == ["'video' is adapted to the operator: ×4 → ×2"]
    asked_for = restored(y, ModelReference(name=file, scale=2), method=method)
    np.testing.assert_array_equal(result.image.data, asked_for.image.data)


def test_the_scale_stands_in_the_recipe_which_replays(file: str, y: Any) -> None:
    result = restored(y, file)
    recipe = Recipe.from_plain(result.provenance)
    assert recipe.model is not None
    assert recipe.model.scale == 2
    again = drain(run_recipe(Recipe.from_text(recipe.to_json()), y, device="cpu"))
    np.testing.assert_array_equal(result.image.data, again.image.data)


def test_a_network_of_that_scale_stays_as_it_is(file: str, y: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "napari_fidelity")
    result = restored(y, file, Downsample(scale=4))
    assert Recipe.from_plain(result.provenance).model.scale is None
    assert not any("adapted" in record.getMessage() for record in caplog.records)


def test_who_says_a_scale_or_gives_a_network_means_it(file: str, y: Any) -> None:
    for model in (ModelReference(name=file, scale=4), nf.load_model(file)):
        with pytest.raises(ShapeError, match="model's scale and the operator's scale are the same"):
            restored(y, model)


def test_the_memory_is_that_of_the_adapted_network(file: str, y: Any) -> None:
    recipe = Recipe(operator=HALF, method=QUICK, model=ModelReference(name=file))
    told = recipe.replace(model=ModelReference(name=file, scale=2))
    image = nf.Image(y, "YX")
    assert memory_needed(recipe, image, "cpu") == memory_needed(told, image, "cpu")


@pytest.mark.usefixtures("nothing_registered")
def test_a_network_that_cannot_be_adapted_says_so(y: Any) -> None:
    nf.register_model("fixed", nn.Upsample(scale_factor=4), scale=4, n_channels=1)
    with pytest.raises(ArchitectureError, match=r"cannot be adapted to another scale.*×4, asked for ×2"):
        restored(y, "fixed")


def test_a_denoiser_is_for_the_image_whatever_the_operator(y: Any) -> None:
    method = nf.RED(iterations=1, denoiser=nf.denoisers.NetworkDenoiser())
    result = nf.reconstruct(y, operator=HALF, method=method, model="edsr-s-x1", device="cpu")
    assert Recipe.from_plain(result.provenance).model.scale is None


@pytest.mark.parametrize(
    ("scale", "operator", "method", "left"),
    [
        (2, Downsample(scale=4), QUICK, None),
        (2, GaussianBlur(sigma=1), nf.NullSpace(of=nf.Apply()), None),
        (2, HALF @ GaussianBlur(sigma=1), QUICK, 2),
        (3, Downsample(scale=4), QUICK, 3),  # nobody but the user can have said it
        (2, Radon(angles=4), QUICK, 2),
        (2, None, QUICK, 2),
        (2, Downsample(scale=4), nf.RED(denoiser=nf.denoisers.NetworkDenoiser()), 2),
    ],
)
def test_a_scale_that_was_found_goes_with_its_operator(scale: int, operator: Any, method: Any, left: Any) -> None:
    recipe = Recipe(operator=HALF, method=method, model=ModelReference(name="edsr-s-x4", scale=scale))
    changed = with_operator(recipe, operator)
    assert changed.operator == operator
    assert changed.model == ModelReference(name="edsr-s-x4", scale=left)


def test_another_operator_for_a_result(file: str, y: Any) -> None:
    result, quarter = restored(y, file, method=nf.Apply()), Downsample(scale=4)
    recipe = Recipe.from_plain(result.provenance)
    shown = nf.assess(map=nf.NullSpace(), measurement=y, recipe=recipe, operator=quarter)
    assert shown.image.shape == (48, 56)
    assert drain(run_recipe(recipe, y, operator=quarter)).image.shape == (48, 56)
    said = ModelReference(name=file, scale=2)
    assert map_recipe(nf.NullSpace(), recipe, operator=quarter, model=said).model == said
    with pytest.raises(ShapeError, match="model's scale and the operator's scale are the same"):
        nf.assess(map=nf.NullSpace(), measurement=y, recipe=recipe, operator=quarter, model=said)


# -- ensembles ----------------------------------------------------------------------------------------------------


@pytest.fixture
def models(file: str, tmp_path: Path) -> tuple[str, str]:
    """Files of networks for ×4 and ×2."""
    other = tmp_path / "half.safetensors"
    nf.save_model(VSR(1, 4, 1, 2, 3).start_as_interpolation(torch.Generator().manual_seed(1)), other)
    return file, str(other)


def test_the_networks_of_an_ensemble_follow_the_operator(models: tuple[str, str], y: Any) -> None:
    together = nf.Ensemble(of=nf.Apply(), models=models)
    result = restored(y, None, method=together)
    assert result.image.shape == (24, 28)
    each = [restored(y, model, method=nf.Apply()).image.data for model in models]
    np.testing.assert_allclose(result.maps["mean"].data, np.mean(each, axis=0), rtol=1e-4)
    beside = restored(y, models[0], method=together.replace(models=models[1:]))
    np.testing.assert_allclose(beside.maps["mean"].data, result.maps["mean"].data, rtol=1e-4)
    recipe = Recipe.from_plain(result.provenance)
    again = drain(run_recipe(recipe, y, device="cpu"))
    np.testing.assert_array_equal(again.image.data, result.image.data)
    assert restored(y, None, Downsample(scale=4), together).image.shape == (48, 56)


def test_the_denoisers_of_an_ensemble_are_for_the_image(y: Any) -> None:
    method = nf.RED(iterations=1, denoiser=nf.denoisers.NetworkDenoiser())
    names = ("edsr-s-x1", "drunet-s")
    result = nf.assess(
        map=nf.Ensemble(of=method, models=names), measurement=y, operator=HALF, model="edsr-s-x1", device="cpu"
    )
    assert result.image.shape == (24, 28)


def test_the_memory_of_an_ensemble_is_that_of_what_it_runs_and_holds(models: tuple[str, str], y: Any) -> None:
    image = nf.Image(y, "YX")
    twice = nf.Ensemble(of=QUICK, models=models)
    needed = memory_needed(Recipe(operator=HALF, method=twice), image, "cpu")
    told = ModelReference(name=models[0], scale=2)
    assert needed == memory_needed(
        Recipe(operator=HALF, method=twice.replace(models=models[1:]), model=told), image, "cpu"
    )
    held = twice.holding()
    held.files().open(models)
    for model in models:
        Path(model).unlink()
    assert memory_needed(Recipe(operator=HALF, method=held), image, "cpu", trust=True).method == needed.method


class Halved:
    """Another library's downsampling, which tells its shapes by being tried."""

    def A(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.avg_pool2d(x, 2)

    def A_adjoint(self, y: torch.Tensor) -> torch.Tensor:
        return y.repeat_interleave(2, -1).repeat_interleave(2, -2) / 4


@pytest.mark.usefixtures("nothing_registered")
def test_a_registered_operator_tells_its_scale_in_a_run_as_before_it(file: str, y: Any) -> None:
    named = register_operator("halved", Halved())
    assert restored(y, file, named, nf.Apply()).image.shape == (24, 28)
    assert memory_needed(
        Recipe(operator=named, method=nf.Apply(), model=ModelReference(name=file)), nf.Image(y, "YX")
    )


@pytest.mark.parametrize(
    ("operator", "scale"),
    [
        (HALF, 2),
        (GaussianBlur(sigma=1), 1),
        (Compose(operators=(GaussianBlur(sigma=1), HALF, Mask(mask=np.ones((6, 7))), HALF)), 4),
        (Downsample(scale=1.5), 0),
        (Downsample(scale=(1, 2)), 0),
        (Downsample(scale=(2, 2, 2)), 0),
        (Radon(angles=4), 0),
        (Halved(), 0),
    ],
)
def test_whole_scales(operator: Any, scale: int) -> None:
    assert whole_scale(operator) == scale
