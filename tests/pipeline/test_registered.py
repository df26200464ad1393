"""Models and operators of the user's own in recipes."""

from __future__ import annotations

import sys
import zlib
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pytest
import torch
from torch import nn

import napari_fidelity as nf
from napari_fidelity.core.errors import ModelFileError, OperatorError, RecipeError
from napari_fidelity.core.registry import OWN_OPERATORS
from napari_fidelity.core.step import drain
from napari_fidelity.operators import Compose, Downsample, GaussianBlur, Identity, Mask, Registered
from napari_fidelity.operators.registered import fingerprints
from napari_fidelity.pipeline import ModelReference, memory_needed
from napari_fidelity.pipeline.reproduce import command_line, own_names, python_script

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Scene

OWN_FILE = """
import napari_fidelity as nf

nf.register_operator("halved", nf.operators.Downsample(scale=2))
"""

pytestmark = pytest.mark.usefixtures("nothing_registered")


class Halved:
    """The sum of 2 × 2 pixels: an object with two methods."""

    def A(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.avg_pool2d(x, 2)

    def A_adjoint(self, y: torch.Tensor) -> torch.Tensor:
        return y.repeat_interleave(2, -1).repeat_interleave(2, -2) / 4


class Own(GaussianBlur):
    """An operator of the user's own class."""

    kind: Literal["own"] = "own"  # type: ignore[assignment]


class Foreign(nf.operators.Operator):
    """Another one, that has nothing in common with ours."""

    kind: Literal["foreign"] = "foreign"

    def A(self, x: torch.Tensor) -> torch.Tensor:
        return x / 2

    def A_adjoint(self, y: torch.Tensor, image_shape: Any = None) -> torch.Tensor:
        return y / 2

    def image_shape(self, measurement_shape: Any) -> tuple[int, ...]:
        return tuple(measurement_shape)

    measurement_shape = image_shape


class Odd(Foreign):
    """One with an option that cannot be written out."""

    apply: Any


def enlarging(bias: float = 0.0) -> nn.Module:
    network = nn.Sequential(nn.Upsample(scale_factor=2, mode="bilinear"), nn.Conv2d(1, 1, 3, padding=1))
    with torch.no_grad():
        network[1].weight.zero_()
        network[1].weight[0, 0, 1, 1] = 1
        network[1].bias.fill_(bias)
    return network


def test_a_recipe_names_the_model_and_replays(scene: Scene) -> None:
    nf.register_model("my-net", enlarging(), scale=2, n_channels=1)
    y = scene(12, 14)
    result = nf.restore(y, operator=Downsample(scale=2), model="my-net", method=nf.FineTune(iterations=2))
    recipe = nf.Recipe.parse(result.provenance["recipe"])
    assert recipe.model is not None
    assert recipe.model.name == "my-net"
    assert recipe.model.sha256 == nf.list_models()[-1].sha256
    again = drain(nf.run_recipe(nf.Recipe.from_text(recipe.to_toml(), "toml"), y))
    assert np.array_equal(again.image.data, result.image.data)
    nf.register_model("my-net", enlarging(0.01), scale=2, n_channels=1)
    with pytest.raises(ModelFileError, match=r"'my-net' is not the one the recipe was made with.*SHA-256"):
        drain(nf.run_recipe(recipe, y))
    nf.register_model("my-net", nn.Upsample(scale_factor=4), scale=4, n_channels=1)  # nor is one of another scale
    with pytest.raises(ModelFileError, match=r"'my-net' is not the one the recipe was made with.*SHA-256"):
        drain(nf.run_recipe(recipe.replace(model=recipe.model.replace(scale=2)), y))


def test_a_denoiser_of_ones_own(scene: Scene) -> None:
    nf.register_model("my-denoiser", nn.AvgPool2d(3, 1, padding=1), scale=1, n_channels=1)
    method = nf.RED(denoiser=nf.denoisers.NetworkDenoiser(), iterations=2)
    result = nf.reconstruct(scene(12, 12), operator=Identity(), method=method, model="my-denoiser")
    assert result.provenance["recipe"]["model"]["name"] == "my-denoiser"


@pytest.mark.parametrize(
    "operator",
    [Halved(), Downsample(scale=2), Downsample(scale=2) @ GaussianBlur(sigma=0.7)],
    ids=["object", "operator", "composition"],
)
@pytest.mark.parametrize("method", [nf.FineTune(iterations=2), nf.Project()], ids=lambda method: method.kind)
def test_an_operator_by_name_does_what_it_does_itself(operator: Any, method: Any, scene: Scene) -> None:
    nf.register_model("my-net", enlarging(), scale=2, n_channels=1)
    image = nf.Image(scene(12, 14), "YX", pixel_size={"Y": 3.0, "X": 3.0})
    named = nf.register_operator("my-operator", operator)
    found = nf.restore(image, operator=named, model="my-net", method=method)
    expected = nf.restore(image, operator=operator, model="my-net", method=method)
    assert np.array_equal(found.image.data, expected.image.data)
    assert found.image.pixel_size == expected.image.pixel_size == {"Y": 1.5, "X": 1.5}
    assert found.image.origin == expected.image.origin
    recipe = nf.Recipe.parse(found.provenance["recipe"])
    assert recipe.operator == Registered(name="my-operator")
    assert np.array_equal(drain(nf.run_recipe(recipe, image)).image.data, found.image.data)
    assert memory_needed(recipe, image).image == 4 * 24 * 28
    OWN_OPERATORS.clear()
    with pytest.raises(
        RecipeError, match=r"No operator of the name 'my-operator' is registered.*nf.register_operator"
    ):
        nf.Recipe.from_text(recipe.to_json())


@pytest.mark.parametrize(
    ("first", "same", "other"),
    [
        (GaussianBlur(sigma=0.8), GaussianBlur(sigma=0.8), GaussianBlur(sigma=0.9)),
        (GaussianBlur(sigma=0.8), GaussianBlur(sigma=0.8), Own(sigma=0.8)),
        (GaussianBlur(sigma=0.8), GaussianBlur(sigma=0.8), Halved()),
    ],
    ids=["options", "class", "object"],
)
@pytest.mark.parametrize("alone", [True, False])
def test_another_operator_of_that_name_is_noticed(
    first: Any, same: Any, other: Any, alone: bool, scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    y, method = scene(12, 12), nf.RED(denoiser=nf.denoisers.TV(), iterations=1)
    named = nf.register_operator("mine", first)
    result = nf.reconstruct(y, operator=named if alone else Compose(operators=[Identity(), named]), method=method)
    recipe = nf.Recipe.from_text(nf.Recipe.parse(result.provenance["recipe"]).to_toml(), "toml")
    assert recipe.registered is not None and set(recipe.registered) == {"mine"}
    nf.register_operator("mine", same)
    assert np.array_equal(drain(nf.run_recipe(recipe, y)).image.data, result.image.data)
    nf.register_operator("mine", other)
    with pytest.raises(
        OperatorError, match=r"'mine' is not the one the recipe was made with .*found: .*instead of"
    ):
        drain(nf.run_recipe(recipe, y))
    with pytest.raises(OperatorError, match="is not the one"):
        nf.assess(result, nf.Residual(), measurement=y)
    assert nf.assess(result.image, nf.Residual(), measurement=y, recipe=recipe, operator=Identity()).maps


@pytest.mark.parametrize("other", [Halved(), Downsample(scale=2), Foreign()], ids=["object", "ours", "class"])
def test_an_operator_that_is_not_used_needs_not_be_the_same(other: Any, scene: Scene) -> None:
    y, method = scene(12, 12), nf.RED(denoiser=nf.denoisers.TV(), iterations=1)
    result = nf.reconstruct(y, operator=nf.register_operator("mine", GaussianBlur(sigma=1)), method=method)
    recipe = nf.Recipe.parse(result.provenance["recipe"])
    nf.register_operator("mine", GaussianBlur(sigma=2))
    replayed = drain(nf.run_recipe(recipe, y, operator=other))
    assert np.array_equal(replayed.image.data, nf.reconstruct(y, operator=other, method=method).image.data)
    shown = nf.assess(replayed.image, nf.Residual(), measurement=y, recipe=recipe, operator=other)
    for record in (replayed.provenance["recipe"], shown.provenance["recipe"]):
        assert "registered" not in record
        # what only code can give has no name in a record
        assert record.get("operator") == (other.to_plain() if isinstance(other, Downsample) else None)


def test_large_arrays_count_by_their_values(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = np.random.default_rng(0).random((40, 40)) > 0.5
    nf.register_operator("seen", Mask(mask=seen))
    before = fingerprints(Registered(name="seen"))
    compress = zlib.compress
    monkeypatch.setattr(zlib, "compress", lambda data, level: compress(data, 1))  # as another library would
    assert fingerprints(Registered(name="seen")) == before
    nf.register_operator("seen", Mask(mask=~seen))
    assert fingerprints(Registered(name="seen")) != before
    nf.register_operator("odd", Odd(apply=torch.neg))
    assert fingerprints(Registered(name="odd")) == {"odd": ""}


def test_what_has_no_hash_is_taken_by_its_name(scene: Scene) -> None:
    method = nf.RED(denoiser=nf.denoisers.TV(), iterations=1)
    result = nf.reconstruct(scene(12, 14), operator=nf.register_operator("mine", Halved()), method=method)
    assert "registered" not in result.provenance["recipe"]
    plain = nf.reconstruct(scene(12, 14), operator=Downsample(scale=2), method=method)
    assert "registered" not in plain.provenance["recipe"]


def test_parts_of_a_composition(scene: Scene) -> None:
    nf.register_operator("mine", Halved())
    mask = Mask(mask=nf.operators.random_mask((12, 14), 0.8, 0))
    nf.register_operator("seen", mask)
    y = scene(12, 14) * mask.mask
    method = nf.RED(denoiser=nf.denoisers.TV(), iterations=2)
    named = Compose(operators=[Registered(name="mine"), Registered(name="seen")])
    found = nf.reconstruct(y, operator=named, method=method)
    expected = nf.reconstruct(y, operator=Compose(operators=[Registered(name="mine"), mask]), method=method)
    assert found.image.shape == (24, 28)
    assert np.array_equal(found.image.data, expected.image.data)


@pytest.mark.parametrize("operator", [Own(sigma=0.8), Foreign()], ids=["subclass", "class"])
def test_operators_of_ones_own_class_work_without_a_name_too(operator: Any, scene: Scene) -> None:
    y, method = scene(12, 12), nf.RED(denoiser=nf.denoisers.TV(), iterations=2)
    alone = nf.reconstruct(y, operator=operator, method=method)
    assert "operator" not in alone.provenance["recipe"]  # which only code can give
    named = nf.reconstruct(y, operator=nf.register_operator("mine", operator), method=method)
    assert np.array_equal(alone.image.data, named.image.data)
    assert named.provenance["recipe"]["operator"] == {"kind": "registered", "name": "mine"}


def test_an_assessment(scene: Scene) -> None:
    operator = nf.register_operator("mine", Halved())
    nf.register_model("my-net", enlarging(), scale=2, n_channels=1)
    y = scene(12, 14)
    result = nf.restore(y, operator=operator, model="my-net", method=nf.Project())
    assert nf.assess(result, nf.Residual(), measurement=y).image.shape == (12, 14)


def test_commands_and_scripts_import_what_is_ones_own() -> None:
    plain = nf.Recipe(operator=Downsample(scale=2), model=ModelReference(name="edsr-s-x2"))
    assert own_names(plain) == []
    assert "import" not in command_line(plain)
    nf.register_operator("mine", Halved())
    nf.register_model("my-net", enlarging(), scale=2, n_channels=1)
    recipe = nf.Recipe(
        operator=Compose(operators=[Identity(), Registered(name="mine")]), model=ModelReference(name="my-net")
    )
    assert own_names(recipe) == ["mine", "my-net"]
    ensemble = nf.Ensemble(of=nf.Apply(), models=("edsr-s-x2", "my-net"))
    assert own_names(plain.replace(method=ensemble)) == ["my-net"]
    command = command_line(recipe)
    assert command.endswith("--operator 'identity + registered:name=mine' --import own.py")
    script = python_script(recipe)
    assert 'import_file("own.py")' in script
    assert "Registered(name='mine')" in script


def test_the_script_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scene: Scene) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "own.py").write_text(OWN_FILE, encoding="utf-8")
    nf.write_image(scene(12, 14), "measurement.tif")
    nf.register_operator("halved", Downsample(scale=2))
    recipe = nf.Recipe(operator=Registered(name="halved"), method=nf.RED(denoiser=nf.denoisers.TV(), iterations=2))
    script = python_script(recipe)
    OWN_OPERATORS.clear()
    exec(compile(script, "script", "exec"), {})
    assert nf.read_image("restored.tif").shape == (24, 28)
