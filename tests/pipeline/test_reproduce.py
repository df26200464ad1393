"""A recipe as a command and as a script: the same bits again."""

from __future__ import annotations

import os
import shlex
import subprocess
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from napari_fidelity import Image, read_image, run_recipe, write_image
from napari_fidelity.cli import main
from napari_fidelity.core.errors import RecipeError
from napari_fidelity.core.step import drain
from napari_fidelity.denoisers import NLM, TV, NetworkDenoiser
from napari_fidelity.io import save_model
from napari_fidelity.methods import DIP, RED, ZSSR, Apply, DeepRED, FineTune, Project
from napari_fidelity.networks import DeepDecoder, Skip
from napari_fidelity.operators import (
    AiryBlur,
    Blur,
    Compose,
    Downsample,
    GaussianBlur,
    GaussianNoise,
    Identity,
    Mask,
    PoissonGaussianNoise,
)
from napari_fidelity.pipeline import ModelReference, Recipe
from napari_fidelity.pipeline.reproduce import command_line, python_script
from napari_fidelity.stopping import (
    AnyOf,
    Budget,
    Discrepancy,
    HeldOut,
    LRPSNRGain,
    Settled,
    WindowedVariance,
)

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import MakeNetwork, Scene

A = Downsample(scale=2)
SMALL = ModelReference(name="net.safetensors")
SHORT = FineTune(iterations=2)
GRAIN = np.random.default_rng(0).random((5, 5)).astype(np.float32)
PUBLISHED = FineTune.lucas2020()

RECIPES = {
    "default": Recipe(operator=A, model=SMALL),
    "hashed": Recipe(operator=A, model=SMALL, method=SHORT, software={"torch": "1"}),
    "published": Recipe(operator=A, model=SMALL, method=PUBLISHED, stop=LRPSNRGain() | Budget(iterations=3)),
    "published, chosen": Recipe(operator=A, model=SMALL, method=PUBLISHED.replace(iteration=2, snapshots=9)),
    "nearly published": Recipe(operator=A, model=SMALL, method=FineTune.lucas2020(iterations=3, views=8)),
    "options": Recipe(
        operator=Compose(operators=[GaussianBlur(sigma=(0.7, 1e-3), border="zero"), Downsample(scale=2)]),
        noise=PoissonGaussianNoise(gain=1e-5, offset=-20, sigma=3.25),
        method=FineTune(
            iterations=3, learning_rate=1e-5, schedule="constant", adaptive=False, last_layer="descend",
            parameters="low_rank", rank=2, ridge=1e-7, pairs=0, reads="measurement", average=False, mask="edges",
            tv=1 / 3, proximity=1e20, project=False, precision="float32", snapshots=2,
        ),
        stop=HeldOut(fraction=0.125, patience=1) | Discrepancy(tau=1.5),
        model=SMALL,
        seed=2**62,
        scaling="percentile",
        scope="slice",
        channels="each",
        nonfinite="mask",
    ),
    "projection": Recipe(operator=A, model=SMALL, method=Project(), noise=GaussianNoise(sigma=2)),
    "projection, all the way": Recipe(operator=A, model=SMALL, method=Project(ridge=0), stop=Settled()),
    "single parts": Recipe(
        operator=Compose(operators=[Downsample(scale=2.0)]), model=SMALL, method=SHORT,
        stop=AnyOf(rules=(Budget(iterations=0),)),
    ),
    "adapted": Recipe(operator=A, model=ModelReference(name="edsr-s-x4", scale=2), method=FineTune(iterations=1)),
    "physics": Recipe(
        operator=Downsample(scale=2) @ AiryBlur(pixel_size=200, wavelength=633), model=SMALL, method=Project()
    ),
    "output": Recipe(operator=A, model=SMALL, method=Apply()),
    "kernel": Recipe(operator=A @ Blur(kernel=GRAIN), model=SMALL, method=Project()),
    "missing pixels": Recipe(
        operator=Compose(operators=[Downsample(scale=2), Mask(mask=np.eye(16, 18))]), model=SMALL, method=SHORT
    ),
    "weights": Recipe(
        operator=A, model=SMALL, method=SHORT.replace(mask=np.linspace(0.5, 1, 32 * 36).reshape(32, 36))
    ),
    "denoiser as prior": Recipe(
        operator=A, noise=GaussianNoise(sigma=40), seed=3,
        method=RED(denoiser=NLM(h=0.7, patch_distance=3), solver="admm", iterations=3, strength=1 / 3),
    ),
    "network as prior": Recipe(
        operator=Identity(), model=ModelReference(name="denoiser.safetensors"), stop=Budget(iterations=1),
        method=RED(denoiser=NetworkDenoiser(precision="float32"), start="measurement"),
    ),
    "untrained": Recipe(
        operator=A, channels="each",
        method=DIP(network=Skip(width=4, scales=2, skip=0), iterations=3, runs=2, sigmoid=False, iteration=2),
    ),
    "both": Recipe(
        operator=A, stop=WindowedVariance(window=2, patience=9),
        method=DeepRED(network=DeepDecoder(width=4, scales=2), denoiser=TV(), iterations=4, every=2, snapshots=2),
    ),
    "reduced copies": Recipe(
        operator=A, seed=5,
        method=ZSSR(width=4, depth=2, iterations=3, updates=2, crop=8, turns=False, iteration=1),
    ),
    "start": Recipe(
        operator=A, method=RED(denoiser=TV(), iterations=2, start=np.linspace(0, 4000, 32 * 36).reshape(32, 36))
    ),
    "stopped": Recipe(operator=A, model=SMALL, method=SHORT, channels="each", last_iterations=(1, 0)),
}  # fmt: skip
BY_FILE = {"output", "kernel", "missing pixels", "weights", "start", "stopped"}


@pytest.fixture
def folder(
    tmp_path: Path, scene: Scene, network: MakeNetwork, model_file: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A working directory with a gray and a colour measurement and two models."""
    monkeypatch.chdir(tmp_path)
    write_image(Image((scene(16, 18) * 4000 + 100).astype(np.uint16), "YX"), "in.tif")
    write_image(Image((scene(3, 16, 18) * 4000 + 100).astype(np.uint16), "CYX"), "channels.tif")
    (tmp_path / "net.safetensors").write_bytes(model_file.read_bytes())
    save_model(network(scale=1), "denoiser.safetensors", licence="CC0")
    return tmp_path


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("source", ["in.tif", "channels.tif"])
def test_same_bits_from_command_and_script(name: str, source: str, folder: Path) -> None:
    recipe = RECIPES[name]
    result = drain(run_recipe(recipe, read_image(source)))
    (folder / "recipe.json").write_text(recipe.to_json(), encoding="utf-8")
    command = command_line(recipe, source, "again.tif")
    assert command.startswith("napari-fidelity run recipe.json") == (name in BY_FILE)
    assert main(shlex.split(command)[1:]) == 0
    script = python_script(recipe, source, "once more.tif")
    exec(compile(script, "script.py", "exec"), {})
    for target in ("again.tif", "once more.tif"):
        image = read_image(target)
        assert np.array_equal(image.data, result.image.data, equal_nan=True), target
        replay = Recipe.from_plain(image.metadata["napari-fidelity"])
        assert replay.stop is None or recipe.stop is None or replay.stop.parts() == recipe.stop.parts()


def test_words_of_the_commands() -> None:
    files = "measurement.tif restored.tif --model net.safetensors"
    assert command_line(RECIPES["default"]) == f"napari-fidelity correct {files} --operator downsample:scale=2"
    assert command_line(RECIPES["published"]) == (
        f"napari-fidelity correct {files} --operator downsample:scale=2 --preset lucas2020 "
        "--stop 'lr_psnr:delta=0.04,window=1 + budget:iterations=3'"
    )
    assert command_line(RECIPES["published, chosen"]).endswith("--preset lucas2020 --iteration 2")
    assert "--preset" not in command_line(RECIPES["nearly published"])
    assert "--no-project" in command_line(RECIPES["nearly published"])
    assert command_line(RECIPES["projection, all the way"]) == (
        f"napari-fidelity project {files} --operator downsample:scale=2 --ridge 0"
    )
    assert "--scale 2" in command_line(RECIPES["adapted"])
    assert command_line(RECIPES["output"], "a.tif", "b.tif") == "napari-fidelity run recipe.json a.tif b.tif"
    assert "snapshots" not in command_line(RECIPES["options"]) + python_script(RECIPES["options"])


def test_words_of_reconstructions() -> None:
    files = "measurement.tif restored.tif"
    assert command_line(RECIPES["denoiser as prior"]) == (
        f"napari-fidelity reconstruct {files} --method red --operator downsample:scale=2 "
        "--noise gaussian:sigma=40 --denoiser nlm:patch_size=5,patch_distance=3,h=0.7 --solver admm "
        "--iterations 3 --strength 0.3333333333333333 --seed 3"
    )
    assert "--method red --model denoiser.safetensors --operator identity" in command_line(
        RECIPES["network as prior"]
    )
    assert "--network skip:width=4,scales=2,skip=0" in command_line(RECIPES["untrained"])
    volumes = RECIPES["both"].replace(spatial="ZYX")
    assert command_line(volumes).endswith(" --spatial ZYX")
    assert "spatial='ZYX'" in python_script(volumes)
    # what the commands have no options for
    assert command_line(RECIPES["projection"].replace(spatial="ZYX")).startswith("napari-fidelity run recipe.json")
    scaled = RECIPES["network as prior"].replace(model=ModelReference(name="edsr-s-x2", scale=1))
    assert command_line(scaled).startswith("napari-fidelity run recipe.json")


PUBLISHED_PRESETS = {
    "romano2017": (RED.romano2017, "RED.romano2017("),
    "denoise": (partial(DeepRED.mataev2019, "denoise"), "DeepRED.mataev2019('denoise'"),
    "super_resolution": (partial(DeepRED.mataev2019, "super_resolution"), "DeepRED.mataev2019('super_resolution'"),
    "deblur": (partial(DeepRED.mataev2019, "deblur"), "DeepRED.mataev2019('deblur'"),
    "shocher2018": (ZSSR.shocher2018, "ZSSR.shocher2018("),
    "shocher2018_kernel": (partial(ZSSR.shocher2018, "kernel"), "ZSSR.shocher2018('kernel'"),
    "shocher2018_real": (partial(ZSSR.shocher2018, "real"), "ZSSR.shocher2018('real'"),
}


@pytest.mark.parametrize("preset", PUBLISHED_PRESETS)
def test_published_settings_by_their_names(preset: str) -> None:
    make, words = PUBLISHED_PRESETS[preset]
    recipe = Recipe(operator=A, method=make())
    assert Recipe.from_text(recipe.to_toml(), "toml") == recipe
    assert Recipe.from_text(recipe.to_json()).method == make()
    assert command_line(recipe).endswith(f"--preset {preset}")
    assert f"method=nf.{words})," in python_script(recipe)
    chosen = Recipe(operator=A, method=make(iteration=7, snapshots=3))
    assert command_line(chosen).endswith(f"--preset {preset} --iteration 7")
    comma = "" if words.endswith("(") else ", "
    assert f"method=nf.{words}{comma}iteration=7)," in python_script(chosen)
    changed = command_line(Recipe(operator=A, method=make(iterations=9)))
    assert "--preset" not in changed
    assert "--iterations 9" in changed


def test_words_of_the_scripts() -> None:
    assert python_script(RECIPES["published"], "a.tif", "b.tif") == (
        """\
import napari_fidelity as nf

result = nf.restore(
    nf.read_image('a.tif'),
    operator=nf.operators.Downsample(scale=2),
    method=nf.FineTune.lucas2020(),
    model='net.safetensors',
    stop=nf.stopping.LRPSNRGain() | nf.stopping.Budget(iterations=3),
)
nf.write_image(result.image, 'b.tif', provenance=result.provenance)
print(result.stop_reason)
"""
    )
    assert "method=nf.Apply()" in python_script(RECIPES["output"])
    assert "last_iterations=(1, 0)" in python_script(RECIPES["stopped"])
    assert 'nf.Recipe.read("recipe.json")' in python_script(RECIPES["kernel"])


ODD_NAMES = ["my cells.tif", 'it\'s $HOME `x` \\ "quoted".tif', "-dash.tif", "ünï*.tif", "#1;2.tif"]


@pytest.mark.skipif(os.name == "nt", reason="a POSIX shell")
@pytest.mark.parametrize("name", ODD_NAMES)
def test_names_survive_the_shell(name: str) -> None:
    for recipe in (RECIPES["options"], RECIPES["output"]):
        command = command_line(recipe, name, "out " + name)
        script = 'napari-fidelity() { printf "%s\\0" "$@"; }; ' + command
        said = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True).stdout
        words = said.split("\0")
        assert (f"./{name}" if name.startswith("-") else name) in words
        assert "out " + name in words
        if recipe.noise is not None:
            assert "poisson_gaussian:gain=1e-05,offset=-20,sigma=3.25" in words


@pytest.mark.skipif(os.name == "nt", reason="Windows allows no such names")
@pytest.mark.parametrize("name", ODD_NAMES)
def test_odd_names_all_the_way(name: str, folder: Path) -> None:
    (folder / name).write_bytes((folder / "in.tif").read_bytes())
    recipe = RECIPES["projection"]
    assert main(shlex.split(command_line(recipe, name, "a.tif"))[1:]) == 0
    exec(compile(python_script(recipe, name, "b.tif"), "script.py", "exec"), {})
    assert np.array_equal(read_image("a.tif").data, read_image("b.tif").data)


def test_quoting_on_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "name", "nt")
    recipe = RECIPES["default"].replace(noise=GaussianNoise(sigma=2), stop=Settled() | Budget(iterations=3))
    command = command_line(recipe, r"C:\Users\me\my cells.tif", "b.tif")
    assert r'correct "C:\Users\me\my cells.tif" b.tif --model net.safetensors' in command
    assert '--stop "settled:change=0.002 + budget:iterations=3"' in command
    assert '--operator "downsample:scale=2"' in command


def test_dtype(folder: Path) -> None:
    recipe = RECIPES["projection"]
    assert command_line(recipe, dtype="input").endswith(" --dtype input")
    assert main(shlex.split(command_line(recipe, "in.tif", "a.tif", dtype="input"))[1:]) == 0
    exec(compile(python_script(recipe, "in.tif", "b.tif", dtype="input"), "script.py", "exec"), {})
    (folder / "recipe.json").write_text(RECIPES["kernel"].to_json(), encoding="utf-8")
    exec(compile(python_script(RECIPES["kernel"], "in.tif", "c.tif", dtype="uint16"), "script.py", "exec"), {})
    assert [read_image(f"{name}.tif").dtype for name in "abc"] == [np.uint16] * 3


@pytest.mark.parametrize("make", [command_line, python_script])
@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (Recipe(method=RED(denoiser=TV())), "names no image formation model:"),
        (Recipe(model=SMALL), "names no image formation model:"),
        (Recipe(operator=Identity()), "names no network:"),
        (Recipe(), "no image formation model and no network"),
    ],
)
def test_refused(make: Any, recipe: Recipe, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        make(recipe)


def test_maps(tmp_path: Path, scene: Scene, model_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from napari_fidelity.uncertainty import Bootstrap, NullSpace

    monkeypatch.chdir(tmp_path)
    write_image(Image(scene(12, 14), "YX"), "in.tif")
    recipe = Recipe(
        operator=Downsample(scale=2),
        method=Bootstrap(of=Project(), samples=2),
        model=ModelReference(name=str(model_file)),
        seed=4,
    )
    expected = drain(run_recipe(recipe, read_image("in.tif"))).maps
    script = python_script(recipe, "in.tif")
    assert "method=nf.Bootstrap(of=nf.Project(), samples=2)" in script
    exec(script, {})
    for name, image in expected.items():
        assert np.array_equal(read_image(f"{name}.tif").data, image.data)
    assert command_line(recipe, "in.tif", "map.tif") == "napari-fidelity run recipe.json in.tif map.tif"
    # what looks at an image that there is needs no network
    alone = recipe.replace(method=NullSpace(image=np.zeros((24, 28))), model=None)
    assert "run recipe.json" in command_line(alone)
    with pytest.raises(RecipeError, match="no network"):
        command_line(recipe.replace(model=None))
