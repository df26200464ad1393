"""Networks of different origin through the same command line and the same dock, on the demo's image.

``LIBGL_ALWAYS_SOFTWARE=1 xvfb-run -a python benchmarks/any_network.py`` (``--dock 0`` leaves the dock out, which
needs a screen; a virtual one will do). The published EnhanceNet and the bundled VSR are adapted from ×4, and the
network that spandrel detects, a small Compact, is trained here, once, for downsampling without blur.
"""

from __future__ import annotations

import contextlib
import io
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _common import Rows, enhancenet_file, is_missing, markdown, parse, publish, verdicts

from napari_fidelity.cli import main as command
from napari_fidelity.cli.demo import OPERATOR, _measure
from napari_fidelity.core.arrays import Image
from napari_fidelity.io import convert_model, read_image, write_image
from napari_fidelity.methods import Apply
from napari_fidelity.metrics import compare
from napari_fidelity.operators import Downsample, parse_operator, resize
from napari_fidelity.pipeline import ModelReference, Recipe
from napari_fidelity.training import Degrade, Train, training_set

SCALE = 2
STAGES = ("network", "projection", "fine-tuned", "fine-tuned + projection")
NOTE = (
    "The demo's measurement: a 256 × 256 part of a photograph, blurred by a Gaussian of 1.6 px and downsampled "
    "by 2. PSNR in dB on Y; residual: root mean square of A x − y in gray levels of 255; s: seconds "
    "of fine-tuning with projection. Dock: largest difference between the layer that the "
    "Correct dock makes and the file that the command line writes, in gray levels of 255 (they may compute on "
    "different numbers of threads, on which the rounding depends)."
)


@dataclass(frozen=True)
class Candidate:
    """A network: how it is called, and the model as command line and dock are told of it."""

    name: str
    model: str


def candidates(data: Path, folder: Path, steps: int) -> list[Candidate]:
    """Return the networks, made or converted where they are not there yet."""
    published, compact = folder / "enhancenet-pat-x4.safetensors", folder / "compact-x2.pth"
    if not published.exists():
        convert_model(enhancenet_file(data), published)
    if not compact.exists():
        train_compact(compact, steps)
    return [
        Candidate("EnhanceNet, published ×4 weights", str(published)),
        Candidate("edsr-s-x2, bundled", "edsr-s-x2"),
        Candidate("vsr-s, bundled, a still image", "vsr-s"),
        Candidate("Compact, a file that spandrel detects", str(compact)),
    ]


def train_compact(file: Path, steps: int) -> None:
    """Train a small Compact (Real-ESRGAN's light network) and save its weights alone, as such files come."""
    from spandrel.architectures.Compact import Compact

    torch.manual_seed(0)
    network = Compact(num_in_ch=3, num_out_ch=3, num_feat=32, num_conv=8, upscale=SCALE, act_type="prelu")
    network.scale = SCALE
    settings = Train(
        n_steps=steps, learning_rate=1e-3, precision="bfloat16", degrade=Degrade(batch_size=16, patch_size=32)
    )
    for step in settings.steps(network, training_set(0), Downsample(scale=SCALE)):
        if (step.index + 1) % settings.report_every == 0:
            print(f"Compact: step {step.index}, loss {step.loss:.4f}", flush=True)
    torch.save({"params": network.state_dict()}, file)


def on_command_line(candidate: Candidate, folder: Path) -> dict[str, Path]:
    """Run every stage as a user would; return the images' files by stage."""
    y = folder / "measurement.tif"
    recipe = folder / "apply.json"
    plain = Recipe(
        operator=parse_operator(OPERATOR),
        method=Apply(),
        model=ModelReference(name=candidate.model),
    )
    recipe.write_text(plain.to_json(), encoding="utf-8")
    files = {stage: folder / f"{stage.replace(' ', '')}.tif" for stage in STAGES}
    common = ["--operator", OPERATOR, "--model", candidate.model]
    calls = {
        "network": ["run", str(recipe), str(y), str(files["network"])],
        "projection": ["project", str(y), str(files["projection"]), *common],
        "fine-tuned": ["correct", str(y), str(files["fine-tuned"]), *common, "--no-project"],
        "fine-tuned + projection": ["correct", str(y), str(files["fine-tuned + projection"]), *common],
    }
    for words in calls.values():
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            code = command([*words, "--overwrite", "--json", "--quiet"])
        if code:
            raise SystemExit(f"napari-fidelity {' '.join(words)}: exit code {code}\n{said.getvalue()}")
    return files


def measure(candidate: Candidate, folder: Path) -> dict[str, Any]:
    """Return the demo's table of one network."""
    demo = _measure(parse_operator(OPERATOR))
    write_image(Image(demo.measurement, "YXS"), folder / "measurement.tif", overwrite=True)
    files = on_command_line(candidate, folder)
    row: dict[str, Any] = {}
    images = {stage: read_image(file) for stage, file in files.items()}
    scored = compare(
        {stage: image.data.astype(np.float64) for stage, image in images.items()},
        demo.truth,
        data_range=255,
        channels="y",
        measurement=demo.measurement,
        operator=parse_operator(OPERATOR),
    )
    for score in scored:
        record = images[score.name].metadata["napari-fidelity"]
        row[score.name] = {
            "psnr": round(score.psnr, 3),
            "ssim": round(score.ssim, 4),
            "residual": round(score.residual, 3),
            "seconds": round(float(record["seconds"]), 2),
        }
    return row


def bicubic() -> float:
    """Return the PSNR of the measurement, enlarged: the simplest alternative."""
    demo = _measure(parse_operator(OPERATOR))
    y = torch.from_numpy(demo.measurement.copy()).movedim(-1, 0)[None].float()
    enlarged = resize(y, demo.truth.shape[:2])[0].movedim(0, -1).double().numpy()
    (row,) = compare({"bicubic": enlarged}, demo.truth, data_range=255, channels="y")
    return row.psnr


# -- the dock -----------------------------------------------------------------------------------------------------


def in_the_dock(candidate: Candidate, folder: Path) -> dict[str, Any]:
    """Correct the same measurement in the Correct dock; return how far its layer is from the file."""
    import napari

    viewer = napari.Viewer(show=True)
    try:
        y = read_image(folder / "measurement.tif")
        viewer.add_image(y.data, rgb=True, name="measurement")
        _, dock = viewer.window.add_plugin_dock_widget("napari-fidelity", "Correct")
        # as by hand: a bundled network that nobody chose would make way for one of the operator's scale
        dock.model.set_reference(ModelReference(name=candidate.model))
        until(lambda: dock.model.info is not None or dock.model.error is not None)
        dock.formation.set_formation(parse_operator(OPERATOR), None)
        dock.start()
        until(lambda: dock.run is not None)
        outcomes: list[Any] = []
        dock.run.finished.connect(outcomes.append)
        until(lambda: bool(outcomes))
        layer = viewer.layers[-1]
        viewer.screenshot(str(folder / "dock.png"), canvas_only=False, flash=False)
        made, file = np.asarray(layer.data, np.float64), read_image(folder / "fine-tuned+projection.tif").data
        return {"dock": round(float(np.abs(made - file).max()), 3), "layer": layer.name}
    finally:
        viewer.close()


def until(true: Any, seconds: float = 300) -> None:
    """Let the window work until something is true."""
    from qtpy.QtWidgets import QApplication

    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            raise SystemExit("The dock did not come to its end in time")
        QApplication.processEvents()
        time.sleep(0.01)


# -- the table ----------------------------------------------------------------------------------------------------


def table(rows: list[dict[str, Any]]) -> str:
    head = ["network", *[f"{stage}: {column}" for stage in STAGES for column in ("PSNR", "residual")], "s", "dock"]
    lines = []
    for row in rows:
        numbers = [f"{row[stage][column]:.2f}" for stage in STAGES for column in ("psnr", "residual")]
        seconds = f"{row['fine-tuned + projection']['seconds']:.1f}"
        lines.append([row["network_name"], *numbers, seconds, f"{row['dock']:.2f}" if "dock" in row else ""])
    return markdown(head, lines)


def main() -> int:
    args = parse(__doc__, dock=1, steps=1500, work="")
    if is_missing(enhancenet_file(args.data)):
        return 0
    work = Path(args.work) if args.work else args.out.parent / "checkpoints"
    work.mkdir(parents=True, exist_ok=True)
    scores = Rows(args.out / "any_network.jsonl", fresh=args.fresh)
    rows = []
    for candidate in candidates(args.data, work, args.steps):
        folder = work / candidate.name.partition(",")[0]
        folder.mkdir(exist_ok=True)
        row = scores.make({"network_name": candidate.name, "face": "cli"}, partial(measure, candidate, folder))
        if args.dock:
            key = {"network_name": candidate.name, "face": "dock"}
            row = row | scores.make(key, partial(in_the_dock, candidate, folder))
        rows.append(row)
    gains = [
        (
            f"{row['network_name']}: fine-tuning gains over projection "
            f"{row['fine-tuned + projection']['psnr'] - row['projection']['psnr']:+.2f} dB",
            row["fine-tuned + projection"]["psnr"] > row["projection"]["psnr"],
        )
        for row in rows
    ]
    note = f"{NOTE} Bicubic enlargement: {bicubic():.2f} dB."
    publish(args.out / "any_network.md", "Any network", [note, table(rows), verdicts(gains)], wall=True)
    return 0 if all(good for _, good in gains) else 1


if __name__ == "__main__":
    raise SystemExit(main())
