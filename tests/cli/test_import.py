"""``--import``: networks and operators of the user's own on the command line."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

import napari_fidelity as nf
from napari_fidelity.cli import main
from napari_fidelity.core.registry import OWN_OPERATORS

pytestmark = pytest.mark.usefixtures("nothing_registered")

OWN = """
import torch
from torch import nn
import napari_fidelity as nf

class Halved:
    def A(self, x):
        return torch.nn.functional.avg_pool2d(x, 2)

    def A_adjoint(self, y):
        return y.repeat_interleave(2, -1).repeat_interleave(2, -2) / 4

torch.manual_seed(0)
network = nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(1, 1, 3, padding=1))
nf.register_model("my-net", network, scale=2, n_channels=1, trained_for="nothing")
nf.register_model("my-denoiser", nn.AvgPool2d(3, 1, padding=1), scale=1, n_channels=1)
nf.register_operator("halved", Halved())
"""
HALVED = ("--operator", "registered:name=halved")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    Path("own.py").write_text(OWN, encoding="utf-8")
    Path("other.py").write_text("raise ValueError('on purpose')", encoding="utf-8")
    nf.write_image(np.random.default_rng(0).integers(0, 255, (12, 14), dtype=np.uint8), "in.tif")
    return tmp_path


COMMANDS = [
    ("project", "in.tif", "out.tif", "--model", "my-net"),
    (
        "reconstruct",
        "in.tif",
        "out.tif",
        *HALVED,
        "--iterations",
        "2",
        "--denoiser",
        "network",
        "--model",
        "my-denoiser",
    ),
    ("uncertainty", "in.tif", "out.tif", "--map", "residual", "--model", "my-net", *HALVED),
]


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: words[0])
def test_names_are_known_to_the_command_that_imports_them(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, "--quiet"]) == 1
    assert "registered" in capsys.readouterr().err
    assert main([*words, "--quiet", "--import", "own.py"]) == 0
    assert Path("out.tif").exists()


def test_a_recipe_is_run_with_the_same_import(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--quiet", "--import", "own.py"]
    made = ["in.tif", "out.tif", "--model", "my-net", *HALVED, "--recipe", "recipe.json"]
    assert main(["project", *made, *words]) == 0
    OWN_OPERATORS.clear()
    assert main(["run", "recipe.json", "in.tif", "again.tif", "--quiet"]) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "No operator of the name 'halved' is registered in this process" in said
    assert "--import" in said
    assert main(["run", "recipe.json", "in.tif", "again.tif", *words]) == 0
    assert np.array_equal(nf.read_image("again.tif").data, nf.read_image("out.tif").data)


def test_an_operator_that_is_given_again_is_the_one(capsys: pytest.CaptureFixture[str]) -> None:
    for sigma in (1, 2):
        blur = f"nf.register_operator('mine', nf.operators.GaussianBlur(sigma={sigma}))"
        Path(f"{sigma}.py").write_text(f"import napari_fidelity as nf\n{blur}", encoding="utf-8")
    mine = ("--operator", "registered:name=mine")
    made = ["project", "in.tif", "out.tif", "--model", "edsr-s-x1", *mine, "--quiet", "--import", "1.py"]
    assert main(made) == 0
    judged = ["uncertainty", "in.tif", "map.tif", "--map", "residual", "--restored", "out.tif", "--import", "2.py"]
    assert main([*judged, "--quiet"]) == 1
    assert "not the one the recipe was made with" in capsys.readouterr().err.replace("\n", " ")
    assert main([*judged, *mine, "--quiet"]) == 0


def test_models_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--json", "--import", "own.py"]) == 0
    infos = {info["id"]: info for info in json.loads(capsys.readouterr().out)}
    assert infos["my-net"]["trained_for"] == "nothing"
    assert {"edsr-s-x2", "my-denoiser"} <= set(infos)


def test_images_are_compared_through_an_operator(capsys: pytest.CaptureFixture[str]) -> None:
    nf.write_image(np.zeros((24, 28), np.uint8), "zero.tif")
    assert main(["compare", "zero.tif", "--measurement", "in.tif", *HALVED, "--json", "--import", "own.py"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["residual"] > 0


def test_several_files_and_one_that_fails(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--import", "own.py", "--import", "other.py", "--json"]) == 1
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["what"] == "'other.py' ended with an error"
    assert error["found"] == "ValueError: on purpose, line 1"


@pytest.mark.parametrize("words", [("models",), COMMANDS[0]], ids=lambda words: words[0])
def test_what_it_prints_is_no_part_of_the_document(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("own.py").write_text(f"print('hello')\n{OWN}", encoding="utf-8")
    assert main([*words, "--json", "--import", "own.py"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)
    assert "hello" in said.err
    print("again")  # standard output is what it was
    assert capsys.readouterr().out == "again\n"
    assert main([*words[:1], "--json", "--import", "other.py"]) != 0
    assert json.loads(capsys.readouterr().out)["error"]


def test_the_demo_has_nothing_of_ones_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--import", "own.py"]) == 2
    assert "--import" in capsys.readouterr().err
