from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from napari_fidelity.core.errors import OptionError, RecipeError
from napari_fidelity.methods import FineTune, Project
from napari_fidelity.operators import Blur, Downsample, GaussianBlur, PoissonGaussianNoise
from napari_fidelity.pipeline import ModelReference, Recipe
from napari_fidelity.stopping import Budget, Discrepancy

if TYPE_CHECKING:
    from pathlib import Path

KERNEL = np.outer(np.hanning(7), np.hanning(7))
RECIPES = {
    "empty": Recipe(),
    "small": Recipe(operator=Downsample(scale=3), method=Project(ridge=0.1)),
    "everything": Recipe(
        operator=Downsample(scale=(2, 4)) @ Blur(kernel=KERNEL),
        noise=PoissonGaussianNoise(gain=2, offset=100, sigma=3),
        method=FineTune(mask=np.random.default_rng(0).random((48, 48)), tv=0.1, snapshots=3),
        stop=Discrepancy() | Budget(seconds=10),
        model=ModelReference(name="edsr-s-x4", sha256="0" * 64),
        seed=2**63 - 1,
        scaling="percentile",
        scope="slice",
        channels="each",
        nonfinite="mask",
        software={"torch": "2.5"},
    ),
}


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("format", ["json", "toml"])
def test_round_trip(name: str, format: str, tmp_path: Path) -> None:
    recipe, path = RECIPES[name], tmp_path / f"recipe.{format}"
    path.write_text(recipe.dumps(path), encoding="utf-8")
    again = Recipe.read(path)
    assert again == recipe
    assert hash(again) == hash(recipe)
    assert type(again.method) is type(recipe.method)
    assert again.to_plain() == recipe.to_plain()


def test_json_is_json() -> None:
    plain = json.loads(RECIPES["everything"].to_json())
    assert plain["format"] == 1
    assert plain["method"]["kind"] == "finetune"
    assert "noise" not in json.loads(RECIPES["small"].to_json())


def test_provenance_is_read_as_its_recipe(tmp_path: Path) -> None:
    path = tmp_path / "provenance.json"
    path.write_text(json.dumps({"recipe": RECIPES["small"].to_plain(), "seconds": 3, "runs": []}))
    assert Recipe.read(path) == RECIPES["small"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not valid JSON"),
        ("{", "not valid JSON"),
        ("[1]", "table of settings.*list"),
        ('{"recipe": 3}', "entry 'recipe' must be a table.*int"),
        ('{"format": 2}', "'format' = 2"),
        ('{"opperator": {}}', "there is no option 'opperator'"),
        ('{"operator": {"kind": "blurr"}}', "blurr"),
        ('{"operator": {"kind": "downsample", "scale": 0}}', "'scale' = 0"),
        ('{"method": {"kind": "finetune", "iterations": -1}}', "'iterations' = -1"),
        ('{"seed": -1}', "'seed' = -1"),
        ('{"seed": 1e400}', "seed"),
        ('{"model": {"name": "a", "sha256": "xyz"}}', "sha256"),
        ('{"model": {"name": ""}}', "name"),
        ('{"method": {"kind": "finetune", "mask": {"shape": [9], "dtype": "<f4", "zlib": "!"}}}', "mask"),
    ],
)
def test_documents_that_are_none(text: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Recipe.from_text(text)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("recipe.json", None, "Cannot read the recipe"),
        ("recipe.json", b"\xff\xfe\x00", "Cannot read the recipe"),
        ("recipe.toml", b"a = [", "not valid TOML"),
        ("recipe.yaml", b"{}", r"ends in \.json or \.toml, not '\.yaml'"),
    ],
)
def test_files_that_are_none(name: str, content: bytes | None, message: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(RecipeError, match=message):
        Recipe.read(tmp_path / name)


def test_recipe_checks_like_every_option() -> None:
    with pytest.raises(OptionError, match="there is no option 'sed'"):
        Recipe(sed=3)
    with pytest.raises(OptionError, match="scope"):
        RECIPES["small"].replace(scope="frame")
    assert RECIPES["small"].replace(operator=GaussianBlur()).method == Project(ridge=0.1)
