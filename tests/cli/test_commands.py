"""The command line as a user meets it: outputs, exit codes, and what is said when something is wrong."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import imagecodecs
import numpy as np
import pytest
import tifffile
import torch

import napari_fidelity
from napari_fidelity.cli import main
from napari_fidelity.denoisers import DENOISERS
from napari_fidelity.io import list_models, load_model, read_image, save_model
from napari_fidelity.methods import DIP, FineTune
from napari_fidelity.networks.untrained import UNTRAINED
from napari_fidelity.networks.vsr import VSR
from napari_fidelity.operators import NOISES, OPERATORS, Downsample
from napari_fidelity.pipeline import Recipe
from napari_fidelity.stopping.rules import RULES

if TYPE_CHECKING:
    from conftest import MakeNetwork, Scene

COMMANDS = (
    "demo", "correct", "project", "reconstruct", "uncertainty", "calibrate", "frc", "compare", "models",
    "convert", "train", "run",
)  # fmt: skip
FAST = ("--iterations", "2", "--device", "cpu")


@pytest.fixture
def folder(tmp_path: Path, scene: Scene, model_file: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a measurement, a reference and a model."""
    monkeypatch.chdir(tmp_path)
    reference = scene(24, 28)
    tifffile.imwrite("true.tif", reference)
    y = Downsample(scale=2).A(torch.from_numpy(reference)[None, None])[0, 0].numpy()
    tifffile.imwrite(
        "in.tif", (y * 4000 + 100).astype(np.uint16), imagej=True, resolution=(5, 5), metadata={"unit": "um"}
    )
    (tmp_path / "net.safetensors").write_bytes(model_file.read_bytes())
    return tmp_path


def correct(*more: str, source: str = "in.tif", target: str = "out.tif") -> int:
    return main(["correct", source, target, "--model", "net.safetensors", *FAST, *more])


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


# -- help --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"]])
def test_help(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert all(command in shown for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("word", ["--help", "-h"])
def test_help_of_each_command(command: str, word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, word]) == 0
    assert "Usage: napari-fidelity" in capsys.readouterr().out


def test_every_option_of_fine_tuning_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    main(["correct", "--help"])
    shown = capsys.readouterr().out
    hidden = {"kind", "snapshots"}
    assert all(f"--{name.replace('_', '-')}" in shown for name in set(FineTune.model_fields) - hidden)


@pytest.mark.parametrize(
    ("command", "method", "more"), [("correct", FineTune, ()), ("reconstruct", DIP, (*DENOISERS, *UNTRAINED))]
)
def test_help_names_every_kind(command: str, method: Any, more: Any, capsys: pytest.CaptureFixture[str]) -> None:
    main([command, "--help"])
    words = set(re.findall(r"\w+", capsys.readouterr().out))
    rules = [rule for rule in RULES if rule.needs <= method.offers]
    kinds = {str(cls.model_fields["kind"].default) for cls in (*OPERATORS, *NOISES, *rules, *more)}
    assert kinds - {"compose"} <= words  # which is written as a sum


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == napari_fidelity.__version__


def test_as_a_program() -> None:
    program = [sys.executable, "-m", "napari_fidelity"]
    done = subprocess.run([*program, "correct", "a.tif"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "TARGET" in done.stderr
    assert "Traceback" not in done.stderr


# -- the main job ------------------------------------------------------------------------------------------------


def test_correct(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert correct() == 0
    said = capsys.readouterr()
    assert "out.tif: all 2 gradient steps are done" in said.out
    assert "LR-PSNR" in said.err
    image = read_image("out.tif")
    assert (image.shape, image.dtype, image.unit) == ((24, 28), "float32", "µm")
    assert image.pixel_size["X"] == pytest.approx(0.1)
    found = Downsample(scale=2).A(torch.from_numpy(image.data.copy())[None, None])[0, 0].numpy()
    assert np.abs(found - tifffile.imread("in.tif")).mean() < 10
    assert image.metadata["napari-fidelity"]["recipe"]["method"]["iterations"] == 2


@pytest.mark.parametrize("command", ["correct", "project"])
def test_json_is_one_document(command: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "in.tif", "out.tif", "--model", "net.safetensors", "--json"]) == 0
    said = capsys.readouterr()
    record = json.loads(said.out)
    assert (record["output"], record["interrupted"]) == ("out.tif", False)
    assert record["recipe"]["operator"] == {"kind": "downsample", "scale": 2.0}
    assert said.err == ""


@pytest.mark.parametrize(
    ("words", "check"),
    [
        (["--preset", "lucas2020"], lambda m: (m["optimizer"], m["iterations"]) == ("sgd", 2)),
        (["--last-layer", "descend", "--tv", "0.1"], lambda m: m["last_layer"] == "descend" and m["tv"] == 0.1),
        (["--no-project", "--views", "1"], lambda m: m["project"] is False and m["views"] == 1),
        (["--iteration", "1"], lambda m: (m["iteration"], m["iterations"]) == (1, 2)),
        (["--mask", "edges"], lambda m: m["mask"] == "edges"),
        (["--mask", "true.tif"], lambda m: len(m["mask"]) == 24 and len(m["mask"][0]) == 28),
    ],
)  # fmt: skip
def test_options_of_the_method(words: list[str], check: Any, folder: Path, capsys: Any) -> None:
    assert correct("--json", *words) == 0
    assert check(json.loads(capsys.readouterr().out)["recipe"]["method"])


def test_noise_stop_seed_and_recipe(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "--noise",
        "poisson_gaussian:gain=2,offset=100,sigma=3",
        "--stop",
        "discrepancy + budget:iterations=1",
    ]
    assert correct("--json", "--seed", "3", "--recipe", "recipe.toml", "--dtype", "input", *words) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["runs"][0]["stop_reason"]
    assert record["runs"][0]["iterations"] <= 1
    assert "discrepancy" in record["runs"][0]["scores"]
    assert read_image("out.tif").dtype == "uint16"
    recipe = Recipe.read("recipe.toml")
    assert recipe.to_plain() == record["recipe"]
    assert (recipe.seed, recipe.noise.to_plain()["gain"]) == (3, 2)
    assert recipe.model.sha256 == load_model("net.safetensors").info.sha256


def test_run_replays_bit_by_bit(folder: Path) -> None:
    assert correct("--recipe", "recipe.json", "--parameters", "low_rank", "--seed", "9") == 0
    assert main(["run", "recipe.json", "in.tif", "again.tif", "--device", "cpu"]) == 0
    assert np.array_equal(tifffile.imread("again.tif"), tifffile.imread("out.tif"))


def test_run_refuses_another_model(folder: Path, network: MakeNetwork, capsys: Any) -> None:
    assert correct("--recipe", "recipe.json") == 0
    before = files(folder)
    save_model(network(n_feats=6), "net.safetensors", overwrite=True)
    assert main(["run", "recipe.json", "in.tif", "again.tif"]) == 1
    assert "not the one the recipe was made with" in capsys.readouterr().err
    assert files(folder) == before


def test_png_in_and_out(folder: Path) -> None:
    (folder / "in.png").write_bytes(imagecodecs.png_encode(np.full((9, 9), 77, np.uint8)))
    assert correct("--dtype", "input", source="in.png", target="out.png") == 0
    assert np.abs(imagecodecs.png_decode((folder / "out.png").read_bytes()).astype(float) - 77).max() < 12


# -- nothing is lost or overwritten ------------------------------------------------------------------------------


def test_nothing_is_overwritten_unless_asked(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "out.tif").write_text("precious")
    (folder / "recipe.json").write_text("precious")
    assert correct() == 1
    assert "'out.tif' exists. Choose another name or allow overwriting (--overwrite)" in capsys.readouterr().err
    assert correct("--recipe", "recipe.json", target="new.tif") == 1
    assert (folder / "out.tif").read_text() == (folder / "recipe.json").read_text() == "precious"
    assert not (folder / "new.tif").exists()
    assert correct("--recipe", "recipe.json", "--overwrite") == 0
    assert read_image("out.tif").shape == (24, 28)
    assert Recipe.read("recipe.json").seed == 0


def test_the_measurement_is_never_overwritten(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (folder / "in.tif").read_bytes()
    (folder / "link.tif").symlink_to(folder / "in.tif")
    for target in ("in.tif", "link.tif"):
        assert correct("--overwrite", target=target) == 1
        assert "is the measurement itself" in capsys.readouterr().err
    assert (folder / "in.tif").read_bytes() == before


@pytest.mark.parametrize("where", ["replace", "fsync"])
def test_full_disk(where: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    before = files(folder)
    original = getattr(os, where)

    def full(*arguments: Any) -> Any:
        target = os.readlink(f"/proc/self/fd/{arguments[0]}") if where == "fsync" else str(arguments[1])
        if str(folder) in target:
            raise OSError(errno.ENOSPC, "No space left on device")
        return original(*arguments)

    if where == "fsync" and not os.path.isdir("/proc/self/fd"):
        pytest.skip("needs /proc to tell which file is flushed")
    monkeypatch.setattr(os, where, full)
    assert correct() == 1
    said = capsys.readouterr().err
    assert "'out.tif' could not be written: No space left on device" in said
    assert "Free some space" in said
    assert files(folder) == before


def test_format_that_cannot_hold_the_result_is_refused_before_the_work(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("napari_fidelity.pipeline.run_recipe", lambda *a, **k: pytest.fail("work was done"))
    for target, message in {
        "out.png": "'out.png' can hold uint8 or uint16",
        "out.jpg": "'out.jpg' can hold uint8",
        "out.xyz": "'out.xyz' has no known image extension",
        "no/out.tif": "The folder of 'no/out.tif' does not exist",
    }.items():
        assert correct(target=target) == 1
        assert message in " ".join(capsys.readouterr().err.split())


# -- Ctrl-C ------------------------------------------------------------------------------------------------------


def test_ctrl_c_keeps_the_best_so_far(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    from napari_fidelity.cli._console import Display

    shown = Display.__call__

    def press(self: Display, step: Any) -> Any:
        if step.index == 1:
            signal.raise_signal(signal.SIGINT)
        return shown(self, step)

    monkeypatch.setattr(Display, "__call__", press)
    handler = signal.getsignal(signal.SIGINT)
    words = ["correct", "in.tif", "out.tif", "--model", "net.safetensors", "--iterations", "500"]
    assert main([*words, "--device", "cpu", "--recipe", "recipe.json"]) == 130
    said = capsys.readouterr()
    assert "press Ctrl-C again to abort" in " ".join(said.err.split())
    assert "Interrupted; the best result so far is written. out.tif: stopped by Ctrl-C" in said.out
    assert read_image("out.tif").shape == (24, 28)
    assert signal.getsignal(signal.SIGINT) is handler
    monkeypatch.undo()
    monkeypatch.chdir(folder)
    assert main(["run", "recipe.json", "in.tif", "again.tif", "--device", "cpu"]) == 0
    assert np.array_equal(read_image("again.tif").data, read_image("out.tif").data)


def test_ctrl_c_before_there_is_a_result_aborts(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    steps, done = FineTune.steps, []

    def slow(*args: Any, **kwargs: Any) -> Any:
        signal.raise_signal(signal.SIGINT)
        done.append("prepared all the same")
        return (yield from steps(*args, **kwargs))

    monkeypatch.setattr(FineTune, "steps", slow)
    before = files(folder)
    assert correct() == 130
    assert "Aborted; nothing was written." in capsys.readouterr().err
    assert not done
    assert files(folder) == before


def test_ctrl_c_twice_aborts(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    from napari_fidelity.cli._console import Display

    def press(self: Display, step: Any) -> Any:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Display, "__call__", press)
    before = files(folder)
    assert correct() == 130
    assert "Aborted; nothing was written." in capsys.readouterr().err
    assert correct("--json") == 130
    assert json.loads(capsys.readouterr().out)["error"]["what"] == "Aborted; nothing was written"
    assert files(folder) == before


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for a child alone")
def test_ctrl_c_from_outside(folder: Path) -> None:
    program = [sys.executable, "-c", "import sys; from napari_fidelity.cli import main; sys.exit(main())"]
    words = [
        "correct",
        "in.tif",
        "out.tif",
        "--model",
        "net.safetensors",
        "--iterations",
        "100000",
        "--device",
        "cpu",
    ]
    words += ["--stop", "budget:seconds=100"]
    with subprocess.Popen(
        [*program, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        assert "computing on" in process.stderr.readline()
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
    # Either the first step was done, or nothing was written.
    assert ("best result so far is written" in out) == (folder / "out.tif").exists()


@pytest.mark.parametrize("while_importing", ["cyclopts", "rich", "pydantic", "napari_fidelity.core.errors"])
def test_ctrl_c_in_the_first_second(while_importing: str) -> None:
    code = f"""
import sys
class CtrlC:
    def find_spec(self, name, path=None, target=None):
        if name == {while_importing!r}:
            raise KeyboardInterrupt
sys.meta_path.insert(0, CtrlC())
from napari_fidelity.cli import main
sys.exit(main(['models']))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "Error: Aborted; nothing was written.\n")


def test_a_seed_goes_before_the_recipes(folder: Path) -> None:
    assert correct("--seed", "7", "--recipe", "r.json") == 0
    for words, seed in (([], 7), (["--seed", "0"], 0), (["--seed", "3"], 3)):
        words = ["run", "r.json", "in.tif", "again.tif", "--overwrite", *words, "--device", "cpu"]
        assert main([*words, "--recipe", "kept.json"]) == 0
        assert json.loads((folder / "kept.json").read_text()).get("seed", 0) == seed


# -- wrong input -------------------------------------------------------------------------------------------------


def write_wrong_images(scene: Scene) -> None:
    smooth = scene(8, 8)
    holes = smooth.copy()
    holes[3, 4], holes[5, 6] = np.nan, np.inf
    images: dict[str, Any] = {
        "complex.tif": smooth.astype(np.complex64),
        "five.tif": np.zeros((2, 2, 2, 8, 8), np.float32),
        "holes.tif": holes,
        "bool.tif": smooth > 0.5,
        "negative.tif": -np.ones((24, 28), np.float32),
        "volume.tif": np.ones((2, 24, 28), np.float32),
    }
    for name, image in images.items():
        tifffile.imwrite(name, image, photometric="minisblack")
    rgba = np.zeros((8, 8, 4), np.uint8)
    for name, content in {
        "rgba.png": bytes(imagecodecs.png_encode(rgba)), "empty.tif": b"", "text.tif": b"not an image",
        "cut.tif": b"II*\0\x08\0\0\0", "recipe.json": b"{", "odd.json": b'{"sed": 1}', "model.safetensors": b"",
    }.items():  # fmt: skip
        with open(name, "wb") as file:
            file.write(content)


WRONG = [
    (["empty.tif", "out.tif"], "'empty.tif' is empty"),
    (["text.tif", "out.tif"], "'text.tif' is not a TIFF, PNG or JPEG image"),
    (["cut.tif", "out.tif"], "'cut.tif'"),
    (["missing.tif", "out.tif"], "no file 'missing.tif'"),
    (["complex.tif", "out.tif"], "Complex images are not supported"),
    (["five.tif", "out.tif"], "--axes"),
    (["holes.tif", "out.tif"], "1 NaN and 1 infinite, the first at Y=3, X=4). Mask them out"),
    (["bool.tif", "out.tif"], "bool"),
    (["rgba.png", "out.tif"], "alpha channel (RGBA)"),
    (["in.tif", "out.tif", "--axes", "ZYX"], "'ZYX'"),
    (
        ["in.tif", "out.tif", "--operator", "downsample:scale=0"],
        "'scale' = 0: Input should be greater than or equal",
    ),
    (["in.tif", "out.tif", "--operator", "downsample:scale=-2"], "'scale' = -2"),
    (
        ["in.tif", "out.tif", "--scale", "2", "--operator", "downsample:scale=4"],
        "model's scale and the operator's scale are the same",
    ),
    (["in.tif", "out.tif", "--operator", "downsample:scale=4"], "EDSR ×2 cannot be adapted to ×4"),
    (["in.tif", "out.tif", "--operator", "shrink"], "no operator 'shrink'. There are:"),
    (["in.tif", "out.tif", "--operator", "blur:kernel=[[1,-1]] + downsample:scale=2"], "a sum of 0"),
    (
        ["in.tif", "out.tif", "--operator", f"blur:kernel={[[1] * 99]},border=valid + downsample:scale=2"],
        "larger than the image",
    ),
    (["in.tif", "out.tif", "--scale", "0"], "'scale' = 0"),
    (["in.tif", "out.tif", "--scale", "3"], "cannot be adapted to ×3"),
    (["in.tif", "out.tif", "--iterations", "-1"], "'iterations' = -1"),
    (["in.tif", "out.tif", "--learning-rate", "0"], "'learning_rate' = 0"),
    (["in.tif", "out.tif", "--noise", "loud"], "no noise model 'loud'"),
    (["in.tif", "out.tif", "--noise", "gaussian:sigma=-1"], "'sigma' = -1"),
    (["in.tif", "out.tif", "--stop", "later"], "no stopping rule 'later'. There are:"),
    (["in.tif", "out.tif", "--seed", "-1"], "'seed' = -1"),
    (["in.tif", "out.tif", "--device", "abacus"], "device name is not known (found: 'abacus')"),
    (["in.tif", "out.tif", "--device", "cuda:77"], "no device 'cuda:77'"),
    (["in.tif", "out.tif", "--recipe", "recipe.yaml"], "ends in .json or .toml"),
    (["in.tif", "out.tif", "--mask", "missing.tif"], "no file 'missing.tif'"),
    (["in.tif", "out.tif", "--mask", "in.tif"], "found: (12, 14)"),
    (["in.tif", "out.tif", "--mask", "negative.tif"], "from 0 upward"),
    (["in.tif", "out.tif", "--mask", "volume.tif"], "The mask must have the shape of the result"),
    (["in.tif", "out.tif", "--mask", "bool.tif"], "Convert it to uint8 or float32"),
]


def said(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize(
    ("words", "message"), WRONG, ids=lambda value: "" if isinstance(value, str) else value[-1]
)
def test_wrong_input(
    words: list[str], message: str, folder: Path, scene: Scene, capsys: pytest.CaptureFixture[str]
) -> None:
    write_wrong_images(scene)
    before = files(folder)
    main_words = ["correct", *words, "--model", "net.safetensors", "--quiet"]
    assert main(main_words) == 1
    shown = capsys.readouterr()
    # rich wraps lines, also within words
    assert message.replace(" ", "") in shown.err.replace(" ", "").replace("\n", "")
    assert shown.err.startswith("Error: ")
    assert shown.out == ""
    assert files(folder) == before
    assert main([*main_words, "--json"]) == 1
    shown = capsys.readouterr()
    error = json.loads(shown.out)["error"]
    assert error["what"]
    assert error["kind"].endswith("Error")
    assert shown.err == ""
    assert files(folder) == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["correct", "in.tif", "out.tif", "--model", "none"], "no model 'none'"),
        (["correct", "in.tif", "out.tif", "--model", "model.safetensors"], "'model.safetensors'"),
        (["project", "in.tif", "out.tif", "--model", "none"], "no model 'none'"),
        (["project", "in.tif", "out.tif", "--model", "net.safetensors", "--ridge", "-1"], "'ridge' = -1"),
        (["run", "recipe.json", "in.tif", "out.tif"], "not valid JSON"),
        (["run", "odd.json", "in.tif", "out.tif"], "there is no option 'sed'"),
        (["run", "missing.json", "in.tif", "out.tif"], "Cannot read the recipe"),
        (["compare", "in.tif"], "nothing to compare with"),
        (["compare", "in.tif", "--measurement", "in.tif"], "Give --operator"),
        (["compare", "in.tif", "--reference", "true.tif"], "differ in shape"),
        (["compare", "in.tif", "--reference", "in.tif", "--crop", "-1"], "0 or more pixels"),
        (["compare", "in.tif", "--reference", "in.tif", "--csv", "true.tif"], "'true.tif' exists"),
        (["compare", "volume.tif", "--reference", "in.tif"], "Only gray and RGB 2-D images"),
        (["models", "missing.safetensors"], "no model 'missing.safetensors'"),
        (["models", "model.safetensors"], "empty"),
        (["convert", "text.tif", "out.safetensors"], "not a kind of model file"),
        (["convert", "net.safetensors", "out.pth"], ".safetensors"),
        (["train", "out.pth"], "Models are written as .safetensors"),
        (["train", "net.safetensors"], "exists"),
        (["train", "out.safetensors", "--operator", "shrink"], "no operator 'shrink'"),
        (["train", "out.safetensors", "--n-steps", "0"], "'n_steps' = 0"),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, list) else "",
)
def test_wrong_use_of_the_other_commands(
    words: list[str], message: str, folder: Path, scene: Scene, capsys: pytest.CaptureFixture[str]
) -> None:
    write_wrong_images(scene)
    before = files(folder)
    assert main(words) == 1
    shown = capsys.readouterr().err
    assert message.replace(" ", "") in shown.replace(" ", "").replace("\n", "")
    assert "Traceback" not in shown
    assert files(folder) == before
    assert main([*words, "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["error"]["what"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["corect"], 'Did you mean "correct"?'),
        (["correct", "in.tif"], "TARGET requires an argument. See napari-fidelity correct --help."),
        (["correct", "in.tif", "out.tif"], "--model requires an argument"),
        (["correct", "in.tif", "out.tif", "--model", "a", "--colour", "red"], "--colour"),
        (["correct", "in.tif", "out.tif", "--model", "a", "--iterations", "x"], "'iterations' = 'x'"),
        (["correct", "in.tif", "out.tif", "--model", "a", "--views", "3"], "Input should be 1 or 8"),
        (["correct", "in.tif", "out.tif", "--model", "a", "--scope", "frame"], "frame"),
        (["compare"], "IMAGES"),
        (["train", "out.safetensors", "--n-channels", "7"], "7"),
    ],
)
def test_misuse(words: list[str], message: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = files(folder)
    assert main(words) == 2
    shown = capsys.readouterr()
    assert message.replace(" ", "") in shown.err.replace(" ", "").replace("\n", "")
    assert "pydantic" not in shown.err
    assert shown.out == ""
    assert main([*words, "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["what"]
    assert files(folder) == before


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (5, 1)])
@pytest.mark.parametrize("value", [None, 9])
def test_small_and_constant_images(size: tuple[int, int], value: int | None, folder: Path) -> None:
    data = np.arange(size[0] * size[1], dtype=np.uint8).reshape(size) if value is None else np.full(size, value)
    tifffile.imwrite("small.tif", data.astype(np.uint8), photometric="minisblack")
    assert correct("--axes", "YX", source="small.tif") == 0
    image = read_image("out.tif").data.reshape(2 * size[0], 2 * size[1])
    assert np.isfinite(image).all()


def test_holes_are_masked_on_request(folder: Path, scene: Scene) -> None:
    write_wrong_images(scene)
    assert correct("--nonfinite", "mask", source="holes.tif") == 0
    assert np.isfinite(read_image("out.tif").data).all()
    assert correct("--nonfinite", "mask", "--dtype", "uint8", source="holes.tif", target="out.png") == 0


def test_stack_with_axes_of_the_users(folder: Path, scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    tifffile.imwrite("stack.tif", scene(2, 2, 10, 10), photometric="minisblack")
    words = ["--axes", "TZYX", "--channels", "each", "--scope", "slice", "--json"]
    assert correct(*words, source="stack.tif") == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["blocks"], record["blocks_done"]) == (4, 4)
    assert (read_image("out.tif").axes, read_image("out.tif").shape) == ("TZYX", (2, 2, 20, 20))


# -- the other commands ------------------------------------------------------------------------------------------


def test_project(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["project", "in.tif", "out.tif", "--model", "net.safetensors", "--ridge", "0", "--quiet"]) == 0
    said = capsys.readouterr().out
    assert "projected in closed form" in said
    assert "before the projection" not in said
    found = Downsample(scale=2).A(torch.from_numpy(tifffile.imread("out.tif"))[None, None])[0, 0].numpy()
    assert np.abs(found - tifffile.imread("in.tif")).max() < 1


def test_compare(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tifffile.imwrite("off.tif", tifffile.imread("true.tif") + np.float32(0.1))
    words = ["compare", "off.tif", "true.tif", "--reference", "true.tif", "--csv", "table.csv"]
    assert main(words) == 0
    assert "20.00" in capsys.readouterr().out
    head, first, *_ = (folder / "table.csv").read_text().splitlines()
    assert head.split(",")[:2] == ["name", "psnr"]
    assert float(first.split(",")[1]) == pytest.approx(20, abs=1e-3)
    assert main([*words, "--overwrite", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in rows] == ["off.tif", "true.tif"]
    assert rows[0]["psnr"] == pytest.approx(20, abs=1e-3)


def test_compare_with_the_measurement(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert correct("--quiet") == 0
    capsys.readouterr()
    words = ["compare", "out.tif", "--measurement", "in.tif", "--operator", "downsample:scale=2", "--json"]
    assert main(words) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["lr_psnr"] > 40


def test_compare_series(folder: Path, capsys: pytest.CaptureFixture[str], scene: Scene) -> None:
    rng = np.random.default_rng(0)
    true = np.repeat(100 * scene(1, 48, 48), 6, axis=0)
    series = {"true.tif": true, "off.tif": true + rng.normal(0, 2, true.shape).astype(np.float32)}
    for name, data in series.items():
        tifffile.imwrite(name, data, imagej=True, metadata={"axes": "TYX"})
    words = ["compare", "off.tif", "true.tif", "--reference", "true.tif"]
    assert main([*words, "--json"]) == 0
    noisy, clean = json.loads(capsys.readouterr().out)
    assert noisy["flicker"] == pytest.approx(2, rel=0.03)
    assert clean["flicker"] == 0
    assert "flicker_ratio" not in noisy
    assert noisy["psnr"] == pytest.approx(20 * np.log10(np.ptp(true) / 2), abs=0.3)
    assert main(words) == 0
    assert "flicker" in capsys.readouterr().out
    words = ["compare", "off.tif", "--measurement", "off.tif", "--operator", "identity", "--json"]
    assert main(words) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["flicker_ratio"] == pytest.approx(1)
    tifffile.imwrite("frame.tif", true[0])
    assert main(["compare", "off.tif", "--reference", "frame.tif"]) == 1
    assert "frame by frame" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["correct"], ["project"], ["uncertainty", "--map", "null_space"]])
def test_a_network_follows_the_operator(
    words: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    video = VSR(1, 4, 1, 4, 3).start_as_interpolation(torch.Generator().manual_seed(0))
    save_model(video, "video.safetensors")
    command, *more = words
    more += ["--iterations", "1"] if command == "correct" else []
    end = ["--model", "video.safetensors", "--operator", "downsample:scale=2", "--recipe", "recipe.json", *more]
    assert main([command, "in.tif", "out.tif", *end, "--device", "cpu"]) == 0
    assert capsys.readouterr().err.count("adapted to the operator: ×4 → ×2") == 1
    assert tifffile.imread("out.tif").shape == (24, 28)
    recipe = json.loads(Path("recipe.json").read_text())
    assert recipe["model"]["scale"] == 2
    assert main(["run", "recipe.json", "in.tif", "again.tif", "--device", "cpu"]) == 0
    # a map is the same to rounding: the image has been through the units of the measurement meanwhile
    first, again = tifffile.imread("out.tif"), tifffile.imread("again.tif")
    np.testing.assert_allclose(again, first, rtol=1e-3, atol=1e-4 * first.max())


def test_series_are_adapted_to_as_asked(folder: Path, capsys: pytest.CaptureFixture[str], scene: Scene) -> None:
    tifffile.imwrite("clip.tif", scene(6, 12, 10), imagej=True, metadata={"axes": "TYX"})
    costs = {"auto": "6 runs of 1 frame", "window": "2 runs of up to 5 frames", "whole": "1 run of 6 frames"}
    found = {}
    for series, words in costs.items():
        assert correct("--series", series, source="clip.tif", target=f"{series}.tif") == 0
        assert f"A time series of 6: {words} at once; 6 frame passes an iteration" in said(capsys.readouterr().err)
        found[series] = read_image(f"{series}.tif")
        assert found[series].metadata["napari-fidelity"]["recipe"]["series"] == series
    assert not np.array_equal(found["auto"].data, found["whole"].data)
    (folder / "recipe.json").write_text(json.dumps(found["window"].metadata["napari-fidelity"]))
    assert main(["run", "recipe.json", "clip.tif", "again.tif", "--device", "cpu", "--quiet"]) == 0
    np.testing.assert_array_equal(read_image("again.tif").data, found["window"].data)


def test_models(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "net.safetensors"]) == 0
    shown = capsys.readouterr().out
    assert all(word in shown for word in ("EDSR", "CC0", "sha256"))
    assert main(["models", "--json"]) == 0
    assert isinstance(json.loads(capsys.readouterr().out), list)
    assert main(["models"]) == 0
    listed = capsys.readouterr().out
    assert all(info.id in listed for info in list_models())
    assert main(["models", "drunet-s"]) == 0
    assert "3155936" in capsys.readouterr().out


def test_convert(folder: Path, network: MakeNetwork, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(network().state_dict(), "weights.pth")
    words = ["convert", "weights.pth", "new.safetensors", "--licence", "CC0", "--origin", "here"]
    assert main(words) == 0
    info = load_model("new.safetensors").info
    assert (info.architecture, info.scale, info.licence, info.source) == ("EDSR", 2, "CC0", "here")
    assert main(words) == 1
    assert main([*words, "--overwrite", "--json"]) == 0
    shown = capsys.readouterr().out
    again = json.loads(shown[shown.index("{\n") :])
    assert again["sha256"] == load_model("new.safetensors").info.sha256


def test_train_and_resume(folder: Path, scene: Scene, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    from napari_fidelity import training

    data = training.training_set(n_channels=1, n_synthetic=0, folder=_pictures(folder, scene))
    monkeypatch.setattr(training, "training_set", lambda *a, **k: data)
    monkeypatch.setattr(training, "validation_images", lambda n: (scene(1, 32, 32),))
    words = ["train", "new.safetensors", "--operator", "downsample:scale=2", "--scale", "2", "--n-channels", "1"]
    words += ["--n-feats", "4", "--n-blocks", "1", "--warmup", "0", "--report-every", "1", "--device", "cpu"]
    words += ["--degrade.batch-size", "2", "--degrade.patch-size", "12", "--checkpoint", "state.pt"]
    assert main([*words, "--n-steps", "2", "--licence", "CC0", "--json"]) == 0
    first = json.loads(capsys.readouterr().out)
    assert first["output"] == "new.safetensors"
    weights, info = load_model("new.safetensors").state_dict(), load_model("new.safetensors").info
    assert (info.scale, info.licence, info.sha256) == (2, "CC0", first["sha256"])
    assert info.trained_for == "downsample:scale=2"
    assert info.card["train"]["steps_done"] == 2
    # the same command again goes on from the checkpoint, which is at its end
    assert main([*words, "--n-steps", "2", "--licence", "CC0", "--json", "--overwrite"]) == 0
    again = load_model("new.safetensors").state_dict()
    assert all(torch.equal(value, again[name]) for name, value in weights.items())
    # a model started from keeps its licence
    more = ["--start", "new.safetensors", "--n-steps", "1", "--overwrite", "--json"]
    assert main([*words[:-2], *more]) == 0
    assert load_model("new.safetensors").info.licence == "CC0"


def _pictures(folder: Path, scene: Scene) -> Path:
    pictures = folder / "pictures"
    pictures.mkdir()
    tifffile.imwrite(pictures / "a.tif", (scene(64, 64) * 255).astype(np.uint8))
    return pictures
