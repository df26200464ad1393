"""The network's output as it is."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn

from napari_fidelity import Apply, Image, restore
from napari_fidelity.cli import main
from napari_fidelity.core.errors import DivergedError, OptionError, ShapeError
from napari_fidelity.core.step import drain
from napari_fidelity.io import read_image, write_image
from napari_fidelity.operators import Downsample, GaussianNoise, Identity
from napari_fidelity.pipeline import ModelReference, Recipe
from napari_fidelity.stopping import HeldOut

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import MakeNetwork, Scene

A = Downsample(scale=2)


def test_output_and_its_scores(network: MakeNetwork, scene: Scene) -> None:
    y, model = torch.from_numpy(scene(1, 12, 14))[None], network()
    seen = []
    steps = Apply().steps(y, A, model, noise=GaussianNoise(sigma=1), stop=HeldOut(), rng=3)
    result = drain(steps, seen.append)
    with torch.no_grad():
        expected = model(y)
    assert torch.equal(result.image, expected)
    assert torch.equal(seen[0].estimate(), expected)
    assert [(step.index, step.total) for step in seen] == [(0, 1)]
    error = float((A.A(expected) - y).square().mean())
    assert result.history[0].loss == pytest.approx(error)
    assert result.history[0].scores["lr_psnr"] == pytest.approx(-10 * math.log10(error))
    assert (result.stop_reason, len(result.history)) == ("the network's output as it is", 1)


def test_unobserved_pixels_do_not_count() -> None:
    y = torch.full((1, 1, 8, 8), 0.5)
    y[..., 0] = 1
    weights = torch.ones(8, 8)
    weights[:, 0] = 0
    result = drain(Apply().steps(y, Identity(), lambda y: torch.full_like(y, 0.5), weights=weights))
    assert (result.history[0].loss, result.history[0].scores["lr_psnr"]) == (0, math.inf)


def test_sent_reason_is_kept() -> None:
    steps = Apply().steps(torch.rand(1, 1, 8, 8), Identity(), lambda y: y)
    next(steps)
    with pytest.raises(StopIteration) as end:
        steps.send("enough")
    assert end.value.value.stop_reason == "enough"


def test_network_in_training_mode_is_neither_used_nor_changed_as_such() -> None:
    model = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), nn.Dropout(0.9)).train()
    y = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    first, second = (drain(Apply().steps(y, Identity(), model)).image for _ in range(2))
    assert torch.equal(first, second)
    assert model.training


@pytest.mark.parametrize(
    ("model", "error", "message"),
    [
        (None, OptionError, "needs a restoration network"),
        (lambda y: y * torch.nan, DivergedError, "64 bad pixels"),
        (lambda y: y[..., ::2], ShapeError, "scale are the same"),
    ],
)
def test_refused(model: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        drain(Apply().steps(torch.rand(1, 1, 8, 8), Identity(), model))


def test_images_recipes_and_the_command_line(
    model_file: Path, scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    image = Image((scene(2, 10, 12) * 3000).astype(np.uint16), "ZYX", {"Y": 2, "X": 2}, "nm")
    write_image(image, "in.tif")
    result = restore(image, operator=A, method=Apply(), model=str(model_file), device="cpu")
    assert result.image.shape == (2, 20, 24)
    assert result.image.pixel_size["X"] == 1
    recipe = Recipe.parse(result.provenance["recipe"])
    assert recipe == Recipe.from_text(recipe.to_json())
    assert recipe.method == Apply()
    assert recipe.model == ModelReference(name=str(model_file), sha256=recipe.model.sha256)
    (tmp_path / "recipe.json").write_text(recipe.to_json(), encoding="utf-8")
    assert main(["run", "recipe.json", "in.tif", "out.tif", "--device", "cpu"]) == 0
    assert np.array_equal(read_image("out.tif").data, result.image.data)
