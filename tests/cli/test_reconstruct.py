"""The command ``reconstruct``: every method and option, and what is said when something is wrong."""

from __future__ import annotations

import json
import math
import re
import shlex
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from rich.progress import Progress

import napari_fidelity
from napari_fidelity import Image, read_image, write_image
from napari_fidelity.cli import main
from napari_fidelity.cli._console import Display, Interrupt, TimeLeft
from napari_fidelity.cli._files import read_operator
from napari_fidelity.core.errors import ImageError
from napari_fidelity.core.step import Step
from napari_fidelity.denoisers import NLM
from napari_fidelity.io import save_model
from napari_fidelity.methods import DIP, RED, ZSSR, DeepRED
from napari_fidelity.operators import Blur, Compose, Fourier, GaussianNoise, Mask, Radon, describe
from napari_fidelity.pipeline import Recipe, simulate
from napari_fidelity.stopping import Budget, Settled

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import MakeNetwork, Scene

TINY = "--network skip:width=4,scales=2"
WORDS = {
    "red": "--denoiser nlm:patch_distance=2 --iterations 3",
    "dip": f"--method dip {TINY} --iterations 3",
    "deepred": f"--method deepred {TINY} --denoiser nlm:patch_distance=2 --iterations 3 --every 2",
}


@pytest.fixture
def folder(tmp_path: Path, scene: Scene, network: MakeNetwork, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a gray image, a stack, and a denoising network."""
    monkeypatch.chdir(tmp_path)
    write_image(Image((scene(16, 20) * 4000 + 100).astype(np.uint16), "YX", {"Y": 0.5, "X": 0.5}), "in.tif")
    write_image(Image((scene(3, 16, 20) * 4000 + 100).astype(np.uint16), "ZYX"), "stack.tif")
    save_model(network(scale=1), "net.safetensors", licence="CC0")
    return tmp_path


def reconstruct(words: str, source: str = "in.tif", target: str = "out.tif") -> int:
    return main(["reconstruct", source, target, "--device", "cpu", *shlex.split(words)])


def record(words: str, capsys: pytest.CaptureFixture[str], **files: str) -> dict[str, Any]:
    assert reconstruct(words + " --json", **files) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_every_option_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    main(["reconstruct", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    names = {name for method in (RED, DIP, DeepRED, ZSSR) for name in method.model_fields} - {"kind", "snapshots"}
    assert all(f"--{name.replace('_', '-')} " in shown for name in names)
    assert "[red: 24; dip, deepred: 3000; zssr: 30]" in shown.replace("│ │ ", "")


@pytest.mark.parametrize("method", WORDS)
def test_methods(method: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = f"{WORDS[method]} --operator gaussian_blur:sigma=0.8 --noise gaussian:sigma=50 --recipe recipe.json"
    found = record(words, capsys)
    assert found["recipe"]["method"]["kind"] == method
    assert (found["runs"][0]["iterations"], found["output"]) == (2, "out.tif")
    image = read_image("out.tif")
    assert (image.shape, image.dtype, image.pixel_size["X"]) == ((16, 20), "float32", 0.5)
    assert 0 < image.data.mean() < 5000
    assert main(["run", "recipe.json", "in.tif", "again.tif", "--device", "cpu"]) == 0
    assert np.array_equal(read_image("again.tif").data, image.data)


SMALL_ZSSR = "--method zssr --operator downsample:scale=2 --width 4 --depth 2 --updates 2 --iterations 3 --crop 8"


@pytest.mark.parametrize("more", ["", "--preset shocher2018_kernel", "--noise gaussian:sigma=50 --views 1"])
def test_learning_from_the_image_alone(more: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = record(f"{SMALL_ZSSR} {more} --recipe recipe.json", capsys)
    assert found["recipe"]["method"]["turns"] == (more != "--preset shocher2018_kernel")
    image = read_image("out.tif")
    assert (image.shape, image.pixel_size["X"]) == ((32, 40), 0.25)
    assert main(["run", "recipe.json", "in.tif", "again.tif", "--device", "cpu"]) == 0
    assert np.array_equal(read_image("again.tif").data, image.data)


def test_learning_from_every_slice(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(record(SMALL_ZSSR, capsys, source="stack.tif")["runs"]) == 3
    assert read_image("out.tif").shape == (3, 32, 40)
    for words, said in (
        (f"{SMALL_ZSSR} --spatial ZYX", "ZSSR works slice by slice"),
        ("--method zssr", "this operator does not reduce it"),
        (f"{SMALL_ZSSR} --model net.safetensors", "ZSSR takes no network"),
    ):
        assert reconstruct(words, source="stack.tif", target="other.tif") != 0
        assert said in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("words", "check"),
    [
        ("--denoiser nlm:h=0.7 --solver admm", lambda m: (m["denoiser"]["h"], m["solver"]) == (0.7, "admm")),
        ("--denoiser tv --output image", lambda m: (m["denoiser"]["kind"], m["output"]) == ("tv", "image")),
        ("--denoiser nlm --start measurement", lambda m: m["start"] == "measurement"),
        ("--denoiser nlm --views 1", lambda m: m["views"] == 1),
        ("--denoiser nlm --iteration 1", lambda m: m["iteration"] == 1),
        ("--denoiser nlm --preset romano2017 --iterations 2", lambda m: m["output"] == "image"),
        (f"--method dip {TINY} --no-sigmoid --iterations 2", lambda m: m["sigmoid"] is False),
        (f"--method dip {TINY} --runs 2 --iterations 2", lambda m: m["runs"] == 2),
        (
            f"--method deepred --preset denoise {TINY} --iterations 2",
            lambda m: (m["growth"], m["denoiser"]["kind"], m["network"]["width"]) == (0.03, "nlm", 4),
        ),
        (
            f"--method deepred --preset deblur --denoiser tv --output average {TINY} --iterations 2",
            lambda m: (m["decay"], m["output"]) == (0.9, "average"),
        ),
    ],
)  # fmt: skip
def test_options(words: str, check: Any, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = record(words, capsys)["recipe"]
    assert check(recipe["method"])
    assert recipe["operator"] == {"kind": "identity"}


def test_operator_noise_stop_and_volumes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = f"{WORDS['red']} --operator downsample:scale=2 --noise poisson:gain=2 --stop budget:iterations=1"
    found = record(f"{words} --spatial ZYX --seed 3", capsys, source="stack.tif")
    recipe = Recipe.parse(found["recipe"])
    assert (recipe.spatial, recipe.seed, recipe.stop) == ("ZYX", 3, Budget(iterations=1))
    assert (found["blocks"], found["runs"][0]["iterations"]) == (1, 1)
    assert read_image("out.tif").shape == (6, 32, 40)


def test_a_network_denoises(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = record("--denoiser network --model net.safetensors --iterations 2", capsys)
    assert found["recipe"]["model"]["name"] == "net.safetensors"
    assert len(found["recipe"]["model"]["sha256"]) == 64


def test_start_from_a_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_image(Image(np.full((16, 20), 1000, np.float32), "YX"), "start.tif")
    words = "--operator gaussian_blur:sigma=0.8 --denoiser nlm --output image --strength 1e6 --sigma-start 1e-3"
    words += " --sigma-f 1e-3 --iterations 1 --no-project"
    record(f"{words} --start start.tif", capsys)
    # the start, in the measurement's units, is all that so strong a prior sees
    np.testing.assert_allclose(read_image("out.tif").data, 1000, rtol=0.05)


def test_arrays_of_operators_from_files(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seen = np.ones((16, 20), np.uint8)
    seen[3:6] = 0
    write_image(Image(seen * np.linspace(100, 255, 20).astype(np.uint8), "YX"), "a, b+c.png")
    kernel = np.array([[0, 200, 0], [1, 600, 1], [0, 200, 0]], np.uint16)
    write_image(Image(kernel, "YX"), "psf.tif")
    words = """--denoiser nlm --iterations 1 --operator 'blur:kernel=psf.tif + mask:mask="a, b+c.png"'"""
    operator = Recipe.parse(record(words, capsys)["recipe"]).operator
    assert operator == Compose(operators=(Blur(kernel=kernel), Mask(mask=seen)))


def test_weights_in_a_file_stay_as_they_are(folder: Path) -> None:
    weights = np.linspace(0.1, 1, 16, dtype=np.float32).reshape(4, 4)
    write_image(Image(weights, "YX"), "weights.tif")
    assert read_operator("fourier:mask=weights.tif") == Fourier(mask=weights)


def test_a_mask_in_colour_is_refused(folder: Path) -> None:
    write_image(Image(np.ones((4, 4, 3), np.uint8), "YXS"), "colour.png")
    with pytest.raises(ImageError, match=r"'colour.png' cannot be 'mask'.*colour"):
        read_operator("mask:mask=colour.png")


@pytest.mark.parametrize(("noise", "said"), [("--noise gaussian:sigma=50", True), ("", False)])
def test_the_noise_left_over_is_said(
    noise: str, said: bool, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert reconstruct(f"--denoiser nlm --iterations 2 {noise}") == 0
    text = " ".join(capsys.readouterr().out.split())
    found = re.search(r"The residual has (\d+\.\d\d) of the noise's variance; 1 is to be expected\.", text)
    assert (found is not None) == said
    assert text.startswith("out.tif: ")


@pytest.mark.parametrize(
    ("operator", "axes", "shape"),
    [(Radon(angles=7, size=16), "YX", (16, 16)), (Fourier(mask=np.ones(16), image="real"), "YX", (16, 16))],
)
def test_results_with_axes_of_their_own(operator: Any, axes: str, shape: Any, folder: Path, scene: Scene) -> None:
    y = simulated(Image(scene(*shape), axes), operator)
    write_image(y, "y.tif")
    words = f"{WORDS['red']} --operator {shlex.quote(describe(operator))} --dtype uint8"
    # a PNG holds the result, not the measurement
    assert reconstruct(words, "y.tif", "out.png") == 0
    assert read_image("out.png").shape == shape


def simulated(image: Image, operator: Any) -> Image:
    steps = simulate(image, operator)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            found: Image = end.value
            return found


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--method dip --sigma-f 0.1", "The method dip has no option --sigma-f. It belongs to red and deepred"),
        ("--solver admm --method deepred", "The method deepred has no option --solver. It belongs to red"),
        ("--preset deblur", "RED has no preset 'deblur'. There are: default, romano2017"),
        ("--method dip --preset denoise", "DIP has no preset 'denoise'. There are: default"),
        ("--denoiser median", "There is no denoiser 'median'"),
        ("--denoiser nlm:size=3", "Options of nlm: patch_size"),
        ("--method dip --network unet", "There is no untrained network 'unet'"),
        ("--start noise", "The method red cannot start from noise. Choose measurement, classical, or a file"),
        ("--start nowhere.tif", "There is no file 'nowhere.tif'"),
        (
            "--denoiser nlm --start stack.tif",
            "must have the shape of the result, (16, 20)",
        ),
        ("--denoiser nlm --model net.safetensors", "RED takes no network with this denoiser"),
        ("--method dip --model net.safetensors", "Leave the model out."),
        ("--denoiser nlm --spatial ZYX", "no depth (Z) to work on in 3-D"),
        ("--denoiser nlm --iterations 0", "'iterations' = 0"),
        ("--denoiser nlm --stop never", "There is no stopping rule 'never'"),
        (
            "--denoiser nlm --stop windowed_variance",
            "does not go with RED (found: no score variance)",
        ),
        ("--method dip --stop lr_lpips", "lr_lpips does not go with DIP"),
        ("--denoiser nlm --operator radon:angles=7", "The measurement has 7 rows"),
        ("--operator mask:mask=nowhere.tif", "There is no file 'nowhere.tif'"),
        ("--operator mask:mask=net.safetensors", "'net.safetensors' is not a TIFF, PNG or JPEG image"),
        ("--operator mask:mask=stack.tif", "(3, 16, 20)"),
        ("--noise gaussian", "Leave --noise out to have it estimated, or state its level"),
        ("--noise gaussian:sigma=0", "Leave --noise out to have it estimated, or state its level"),
    ],
)
def test_refused(words: str, message: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert reconstruct(words) == 1
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (folder / "out.tif").exists()


@pytest.mark.parametrize("words", ["--method ridge", "--output best", "--iterations many", "--views 3"])
def test_misused(words: str, folder: Path) -> None:
    assert reconstruct(words) == 2


# -- time left ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stop", "completed", "total", "left"),
    [
        (None, 205, 300, math.inf),
        (Settled(), 205, 300, math.inf),
        (Budget(iterations=9), 25, 30, math.inf),
        (Budget(seconds=60), 205, 300, 40),
        (Budget(seconds=60) | Budget(iterations=999), 205, 300, 40),
    ],
)
def test_budgets_tell_the_time_left(stop: Any, completed: int, total: int, left: float) -> None:
    progress = Progress(TimeLeft(), disable=True)
    show = Display("run", Interrupt(), progress, stop)
    show(Step(4, 100, 1.0, {}, lambda: None, 20.0, block=2, blocks=3))
    task = progress.tasks[0]
    assert (task.completed, task.total, task.fields["seconds_left"]) == (completed, total, left)
    text = TimeLeft().render(task).plain
    assert text == ("0:00:40" if left == 40 else "-:--:--")
    show(Step(4, 100, 1.0, {}, lambda: None, 20.0, block=0, blocks=3))
    assert task.fields["seconds_left"] == (left if math.isinf(left) else 160)


def test_methods_without_a_known_end() -> None:
    progress = Progress(disable=True)
    show = Display("run", Interrupt(), progress, Budget(seconds=5))
    show(Step(4, None, 1.0, {}, lambda: None, 20.0))
    assert (progress.tasks[0].total, progress.tasks[0].fields["seconds_left"]) == (None, 0)


def test_the_same_bits_as_from_python(folder: Path) -> None:
    assert reconstruct(WORDS["red"] + " --noise gaussian:sigma=50") == 0
    method = RED(denoiser=NLM(patch_distance=2), iterations=3)
    noise = GaussianNoise(sigma=50)
    result = napari_fidelity.reconstruct(read_image("in.tif"), method=method, noise=noise, device="cpu")
    assert np.array_equal(result.image.data, read_image("out.tif").data)
