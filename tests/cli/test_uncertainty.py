"""The commands ``uncertainty``, ``calibrate`` and ``frc`` as a user meets them."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from napari_fidelity import Image, read_image, write_image
from napari_fidelity.cli import main
from napari_fidelity.cli._map_report import print_report
from napari_fidelity.cli._on_file import targets
from napari_fidelity.cli.calibrate import matched
from napari_fidelity.core.errors import ImageError
from napari_fidelity.core.step import Result
from napari_fidelity.io import save_model
from napari_fidelity.methods import Apply
from napari_fidelity.operators import Downsample
from napari_fidelity.pipeline import Recipe
from napari_fidelity.uncertainty import MAPS, Calibration, Dropout
from napari_fidelity.uncertainty.mask import mask_from

if TYPE_CHECKING:
    from conftest import MakeNetwork, Scene

A = Downsample(scale=2)
MODEL = "--model net.safetensors --method apply"
BRIEF = {
    "bootstrap": "--samples 2",
    "dropout": "--passes 3 --p 0.05",
    "ensemble": "--members 2",
    "null_space": "",
    "residual": "",
    "error_map": "",
}


def measured(x: Any) -> Any:
    return A.A(torch.from_numpy(x)[None, None])[0, 0].numpy()


@pytest.fixture
def folder(tmp_path: Path, scene: Scene, network: MakeNetwork, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a measurement, its true image and a network."""
    monkeypatch.chdir(tmp_path)
    x = (scene(24, 28) * 4000 + 100).astype(np.float32)
    write_image(Image(x, "YX", {"Y": 0.25, "X": 0.25}, "µm"), "true.tif")
    write_image(Image(measured(x), "YX", {"Y": 0.5, "X": 0.5}, "µm"), "in.tif")
    save_model(network(n_blocks=2), "net.safetensors", licence="CC0")
    return tmp_path


def run(words: str, command: str = "uncertainty in.tif map.tif") -> int:
    return main([*shlex.split(command), "--device", "cpu", *shlex.split(words)])


def found(words: str, capsys: pytest.CaptureFixture[str], command: str = "uncertainty in.tif map.tif") -> Any:
    assert run(words + " --json", command) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("kind", BRIEF)
def test_every_map(kind: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = found(f"--map {kind} {BRIEF[kind]} {MODEL} --truth true.tif --recipe r.json --seed 3", capsys)
    assert record["recipe"]["method"]["kind"] == kind
    assert record["recipe"]["method"]["of"] == {"kind": "apply"}
    assert set(record["data"]) >= {"residual", "rse", "rsp"}
    image = read_image("map.tif")
    on_image = kind != "residual"
    assert (image.shape, image.pixel_size["X"]) == (((24, 28), 0.25) if on_image else ((12, 14), 0.5))
    assert ("map" in record["truth"]) == on_image
    files = {path.name for path in folder.iterdir()} - {"in.tif", "true.tif", "net.safetensors", "r.json"}
    assert files == set(record["outputs"].values())
    # its recipe makes all of its images again, but for the rounding of the image that was restored before
    assert run("", "run r.json in.tif again.tif") == 0
    for name, path in record["outputs"].items():
        again = read_image("again.tif" if path == "map.tif" else f"again-{name}.tif").data
        expected = read_image(path).data
        np.testing.assert_allclose(again, expected, atol=2e-3 * np.abs(expected).max())


def test_the_kinds_are_those_there_are() -> None:
    assert set(BRIEF) == {cls.model_fields["kind"].default for cls in MAPS}


def test_a_restored_image_knows_how_it_was_made(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = "--model net.safetensors --iterations 1 --views 1 --noise gaussian:sigma=3 --seed 2 --recipe x.json"
    assert run(words, "correct in.tif x.tif") == 0
    capsys.readouterr()
    by_file = found("--map null_space --restored x.tif", capsys)
    assert (by_file["recipe"]["method"]["of"]["iterations"], by_file["recipe"]["seed"]) == (1, 2)
    assert by_file["recipe"]["noise"]["sigma"] == 3
    assert "image" not in by_file["recipe"]["method"]
    same = found("--map null_space --restored x.tif --made-by x.json", capsys, "uncertainty in.tif b.tif")
    made = found("--map null_space --made-by x.json", capsys, "uncertainty in.tif c.tif")
    assert np.array_equal(read_image("map.tif").data, read_image("b.tif").data)
    np.testing.assert_allclose(read_image("c.tif").data, read_image("b.tif").data, atol=0.05)
    assert same["data"] == by_file["data"] == pytest.approx(made["data"], rel=1e-3)
    # an option goes before the recipe
    other = found("--map null_space --restored x.tif --noise gaussian:sigma=9", capsys, "uncertainty in.tif d.tif")
    assert other["recipe"]["noise"]["sigma"] == 9


def test_what_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    true = read_image("true.tif")
    noise = np.random.default_rng(0).normal(0, 20, true.shape).astype(np.float32)
    write_image(true.replace(data=true.data + noise), "x.tif")
    words = "--map error_map --restored x.tif --truth true.tif --operator downsample:scale=2 --quiet"
    assert run(words) == 0
    shown = capsys.readouterr().out
    for word in ("Error map", "RSP", "whiteness", "this map", "control", "Spearman"):
        assert word in shown
    assert max(len(line) for line in shown.splitlines() if "│" in line) <= 80


WRONG = [
    ("", "There is nothing to judge"),
    ("--map null_space --restored true.tif", "names no image formation model"),
    ("--map null_space --passes 3", "null_space has no option --passes. It belongs to dropout"),
    (f"{MODEL} --restored in.tif", "image to judge must have the shape"),
    (f"{MODEL} --map residual --truth in.tif", "truth must have the restored image's shape"),
    (f"{MODEL} --calibration nothing.json", "'nothing.json' cannot be read"),
    ("--method magic --restored true.tif", "There is no method 'magic'"),
    (f"{MODEL} --map dropout --p 3", "p"),
    ("--method apply --operator downsample:scale=2 --scale 2", "--scale says what a model is adapted to"),
]


@pytest.mark.parametrize(("words", "message"), WRONG)
def test_wrong(words: str, message: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(f"{words} --quiet") == 1
    shown = " ".join(capsys.readouterr().err.split())
    assert message.replace(" ", "") in shown.replace(" ", "")
    assert not (folder / "map.tif").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("in true c.tif --model net.safetensors", "A calibration is a .json file"),
        ("in true c.json", "Give how the image is restored: --made-by, --model or --method"),
    ],
)
def test_wrong_calibrations(words: str, message: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("in", "true"):
        (folder / name).mkdir()
        (folder / name / "a.tif").write_bytes((folder / f"{name}.tif").read_bytes())
    assert run("--quiet", f"calibrate {words}") == 1
    shown = " ".join(capsys.readouterr().err.split())
    assert message in shown and "--restored" not in shown


def test_several_models(folder: Path, network: MakeNetwork, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(2):
        model = network()
        with torch.no_grad():
            model.tail.weight.mul_(1.1 + 0.1 * number)
        save_model(model, f"{number}.safetensors", licence="CC0")
    words = f"{MODEL} --map ensemble --models 0.safetensors 1.safetensors --seed 3 --recipe r.json"
    record = found(words, capsys)
    assert record["recipe"]["method"]["models"] == ["0.safetensors", "1.safetensors"]
    # a seed of 0 is one, too
    again = found("--map residual --made-by r.json --seed 0", capsys, "uncertainty in.tif b.tif")
    assert again["recipe"].get("seed", 0) == 0
    same = found("--map residual --made-by r.json", capsys, "uncertainty in.tif c.tif")
    assert same["recipe"]["seed"] == 3


def test_a_network_follows_another_operator(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = "--model edsr-s-x4 --operator downsample:scale=2 --recipe r.json"
    assert run(words, "project in.tif x.tif") == 0
    capsys.readouterr()
    assert json.loads(Path("r.json").read_text())["model"]["scale"] == 2
    quarter = "--map null_space --made-by r.json --operator downsample:scale=4"
    assert found(quarter, capsys)["recipe"].get("model", {}).get("scale") is None
    assert read_image("map.tif").shape == (48, 56)
    assert run(f"{quarter} --model edsr-s-x4 --scale 2", "uncertainty in.tif b.tif") == 1


def test_an_empty_map_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    """A run that was stopped before there was a spread."""
    empty = Image(np.full((4, 4), np.nan, np.float32), "YX")
    stopped = Result(empty, (), "stopped; the map is empty", 0.1, {}, maps={"std": empty})
    print_report(stopped, {"std": Path("map.tif")}, {"data": {}}, Recipe(method=Dropout()), interrupted=True)
    assert "–" in capsys.readouterr().out


def test_files_are_not_overwritten(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = f"--map dropout --passes 2 {MODEL} --quiet"
    write_image(read_image("in.tif"), "map-mean.tif")
    assert run(words) == 1
    assert "'map-mean.tif' exists" in " ".join(capsys.readouterr().err.split())
    assert not (folder / "map.tif").exists()
    assert run(words + " --overwrite") == 0
    assert run(f"--map residual {MODEL} --quiet", "uncertainty in.tif map.png") == 1


@pytest.mark.parametrize(
    ("target", "other"), [("a.tif", "a-mean.tif"), ("a.b.tif", "a.b-mean.tif"), ("a.ome.tif", "a-mean.ome.tif")]
)
def test_names(target: str, other: str, folder: Path) -> None:
    assert targets(folder / target, ["std", "mean"]) == {"std": folder / target, "mean": folder / other}
    assert targets(folder / target, []) == {"": folder / target}


def test_calibrated_intervals(
    folder: Path, scene: Scene, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("low", "true"):
        (folder / name).mkdir()
    for seed in range(4):
        x = (scene(24, 28, seed=seed + 5) * 4000 + 100).astype(np.float32)
        write_image(Image(x, "YX"), f"true/{seed}.tif")
        write_image(Image(measured(x), "YX"), f"low/{seed}.tif")
    words = f"{MODEL} --map dropout --passes 4 --p 0.05 --scaling minmax --level 0.75"
    command = "calibrate low true c.json"
    said = found(words, capsys, command)
    assert (said["images"], said["guaranteed"]) == (4, True)
    assert 0.4 < said["coverage"] <= 1
    kept = Calibration.read("c.json")
    assert (kept.count, kept.map["kind"], kept.map["of"]) == (4, "dropout", {"kind": "apply"})
    assert len(kept.model or "") == 64
    assert run(words, command) == 1  # it exists
    # the map, its options and its method come with the calibration
    words = f"{MODEL} --scaling minmax --truth true.tif --calibration c.json --level 0.75"
    record = found(words, capsys, "uncertainty in.tif i.tif")
    assert 0.3 < record["truth"]["intervals"]["coverage"] <= 1
    lower, upper, std = (read_image(f"i{end}.tif").data for end in ("-lower", "-upper", ""))
    assert (upper > lower).all()
    np.testing.assert_allclose(
        (upper - lower)[std > np.median(std)].min(), 2 * kept.factor(0.75) * np.median(std), rtol=0.2
    )
    with_other = f"{MODEL} --scaling minmax --calibration c.json"
    assert run(f"{with_other} --map residual --quiet") == 1
    assert "belongs to the map dropout" in " ".join(capsys.readouterr().err.split())
    assert run(f"{with_other} --passes 9 --quiet") == 1
    assert "another 'passes'" in " ".join(capsys.readouterr().err.split())
    # neither an image of another method nor one whose method is another by default
    assert run(f"{with_other.replace('apply', 'project')} --quiet") == 1
    assert "another 'of' (the method)" in " ".join(capsys.readouterr().err.split())
    unsaid = found(with_other.replace("--method apply", ""), capsys, "uncertainty in.tif j.tif")
    assert unsaid["recipe"]["method"]["of"] == {"kind": "apply"}
    damaged = json.loads((folder / "c.json").read_text())
    damaged["map"]["kind"] = ["dropout"]
    (folder / "bad.json").write_text(json.dumps(damaged))
    assert run(f"{with_other.replace('c.json', 'bad.json')} --quiet", "uncertainty in.tif k.tif") == 1
    assert "names no map of standard deviations" in " ".join(capsys.readouterr().err.split())
    (folder / "true" / "3.tif").unlink()
    assert run("", "calibrate low true d.json --model net.safetensors --quiet") == 1
    assert "only one of 3" in " ".join(capsys.readouterr().err.split())


def test_pairs_are_told_apart_by_their_whole_names(tmp_path: Path) -> None:
    for name in ("low/a_0.5um.tif", "low/a_0.7um.ome.tif", "true/a_0.5um.png", "true/a_0.7um.tif"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    low, true = tmp_path / "low", tmp_path / "true"
    pairs = [(low / "a_0.5um.tif", true / "a_0.5um.png"), (low / "a_0.7um.ome.tif", true / "a_0.7um.tif")]
    assert matched(low, true) == pairs
    (low / "a_0.5um.png").touch()
    with pytest.raises(ImageError, match="have the same name"):
        matched(low, true)


def test_what_is_read_is_not_replaced(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = f"--map residual {MODEL} --restored true.tif --truth true.tif --overwrite --quiet"
    assert run(words, "uncertainty in.tif true.tif") == 1
    assert "'true.tif' is an image that is read" in " ".join(capsys.readouterr().err.split())
    assert run(words, "uncertainty in.tif in.tif") == 1
    assert "measurement itself" in " ".join(capsys.readouterr().err.split())


def test_a_map_is_no_restored_image(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(f"--map null_space {MODEL} --quiet") == 0
    assert run("--map error_map --restored map.tif --quiet", "uncertainty in.tif other.tif") == 1
    assert "A map is no image that could be judged" in " ".join(capsys.readouterr().err.split())


def test_resolution(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = f"{MODEL} --noise gaussian:sigma=40 --csv c.csv"
    told = found(words, capsys, "frc in.tif")
    assert (told["split"], told["unit"]) == ("noise", "µm")
    assert 1 <= told["resolution"]["restored"] < 10
    assert (folder / "c.csv").read_text().startswith("frequency (1/µm),raw halves")
    assert run(f"{MODEL} --split pixels --quiet", "frc in.tif") == 0
    assert "every second pixel" in capsys.readouterr().out
    assert run(f"{MODEL} --csv in.tif --overwrite --quiet", "frc in.tif") == 1
    assert "measurement itself" in " ".join(capsys.readouterr().err.split())
    write_image(Image(np.zeros((2, 8, 8), np.float32), "ZYX"), "stack.tif")
    assert run(f"{MODEL} --quiet", "frc stack.tif") == 1


def test_a_map_as_the_mask_of_fine_tuning(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(f"--map dropout --passes 3 --p 0.05 {MODEL} --quiet") == 0
    capsys.readouterr()
    words = "--model net.safetensors --iterations 1 --views 1 --mask map.tif"
    record = found(words, capsys, "correct in.tif x.tif")
    weights = np.array(record["recipe"]["method"]["mask"])
    std = read_image("map.tif").data
    assert weights.shape == std.shape
    assert (weights.max(), np.argmax(weights)) == (1, np.argmin(std))
    assert 0 < weights.min() < 0.5
    # a plain image is taken at its word
    write_image(Image(np.full(std.shape, 0.25, np.float32), "YX"), "flat.tif")
    record = found(words.replace("map.tif", "flat.tif"), capsys, "correct in.tif y.tif")
    assert set(np.array(record["recipe"]["method"]["mask"]).ravel()) == {0.25}


def test_masks_of_colour_maps_and_damaged_ones(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from napari_fidelity.cli.correct import _read_mask

    values = np.random.default_rng(0).random((6, 7, 3)).astype(np.float32)
    output = {"name": "std", "title": "Standard deviation", "quantity": "difference"}
    write_image(Image(values, "YXS", metadata={"napari-fidelity": {"output": output}}), "colour.tif")
    np.testing.assert_allclose(_read_mask("colour.tif"), mask_from(np.sqrt((values**2).mean(axis=2))), rtol=1e-5)
    write_image(Image(np.full((24, 28), np.nan, np.float32), "YX"), "nan.tif")
    assert run("--model net.safetensors --mask nan.tif --quiet", "correct in.tif x.tif") == 1
    assert "NaN or infinity in 'nan.tif'" in " ".join(capsys.readouterr().err.split())


def test_python_says_the_same(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import napari_fidelity as nf

    found(f"--map null_space {MODEL}", capsys)
    shown = nf.assess(map=nf.NullSpace(of=Apply()), measurement=read_image("in.tif"), operator=A,
                      model="net.safetensors", device="cpu")  # fmt: skip
    np.testing.assert_allclose(shown.image.data, read_image("map.tif").data, atol=0.02)
    assert Recipe.parse(shown.provenance["recipe"]).method.of == Apply()
