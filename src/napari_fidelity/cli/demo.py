"""``demo``: the main job on a real image, with a table, a figure and the images; no display, no network."""

from __future__ import annotations

import csv
import math
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from napari_fidelity.cli._console import INTERRUPTED, OK, display, out, print_json, set_up_logging
from napari_fidelity.cli._options import Computing
from napari_fidelity.cli.compare import print_rows

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from napari_fidelity.cli._console import Display
    from napari_fidelity.core.step import Step
    from napari_fidelity.metrics import Row
    from napari_fidelity.networks.foreign import LoadedNetwork
    from napari_fidelity.operators import Operator

MODEL = "edsr-s-x2"
OPERATOR = "gaussian_blur:sigma=1.6 + downsample:scale=2"
# A part of scikit-image's astronaut (NASA, public domain) that the bundled models were not trained on.
TRUTH = ("astronaut.png", slice(0, 256), slice(96, 352))
_FILES = ("truth", "measurement", "bicubic", "network", "projection", "fine-tuned", "fine-tuned-projected")


@dataclass
class Demo:
    """What the demo makes: images ``(H, W, 3)`` uint8 or float in [0, 255], scores, and curves."""

    truth: NDArray[Any]
    measurement: NDArray[Any]
    images: dict[str, NDArray[Any]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    curves: dict[str, list[float]] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    nothing_left: bool = False


def demo(
    *,
    out_folder: Annotated[Path, Parameter(name="--out")] = Path("fidelity-demo"),
    running: Computing = Computing(),
    overwrite: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Restore a real photograph whose blur the bundled network never saw, and show what each step changes.

    The measurement is a 256 × 256 part of a photograph, blurred by a Gaussian (sigma 1.6 pixels) and downsampled
    by 2; the network was trained for downsampling without blur. Compared are bicubic interpolation, the network,
    its range-space projection, fine-tuning, and fine-tuning with projection.

    Parameters
    ----------
    out_folder
        Folder for the table, the figure and the images.
    overwrite
        Replace the files of an earlier demo.
    """
    from napari_fidelity.cli._demo_figure import draw
    from napari_fidelity.core.device import processor_threads
    from napari_fidelity.io import atomic_write, check_output

    set_up_logging(quiet=running.silent)
    out_folder.mkdir(parents=True, exist_ok=True)
    paths = {name: out_folder / f"{name}.tif" for name in _FILES}
    table, figure = out_folder / "table.csv", out_folder / "figure.png"
    for path in (*paths.values(), table, figure):
        check_output(path, overwrite=overwrite)
    with processor_threads(running.threads), display("demo", quiet=running.silent) as show:
        made = make(show, running)
    interrupted = show.interrupt.requested
    _write_images(made, paths, overwrite=overwrite)
    with atomic_write(table, overwrite=overwrite) as temporary:
        _write_table(made, temporary)
    with atomic_write(figure, overwrite=overwrite) as temporary:
        draw(made, temporary)
    if running.json:
        rows = [{**row.to_plain(), "seconds": made.seconds[row.name]} for row in made.rows]
        print_json({"output": str(out_folder), "interrupted": interrupted, "table": rows})
    else:
        print_rows(made.rows, {"seconds": [f"{made.seconds[row.name]:.2f}" for row in made.rows]})
        out.print("\nPSNR and SSIM on luma against the truth; residual: root mean square in gray levels of 255.")
        if made.nothing_left:
            out.print("Fine-tuning explains the measurement to within its noise: projection leaves it as it is.")
        out.print(f"Figure: {figure}", markup=False)
    return INTERRUPTED if interrupted else OK


def make(show: Display, running: Computing) -> Demo:
    """Run the demo's restorations and score them."""
    from napari_fidelity.core.device import choose_device
    from napari_fidelity.io import load_model
    from napari_fidelity.methods import FineTune, project, ridge_for
    from napari_fidelity.metrics import compare
    from napari_fidelity.operators import parse_operator, resize

    operator, seed = parse_operator(OPERATOR), running.seed or 0
    device = choose_device(running.device)
    network = load_model(MODEL, device=device)
    made = _measure(operator)
    y = _tensor(made.measurement).to(device)

    def keep(name: str, image: torch.Tensor, started: float) -> None:
        made.images[name] = _array(image)
        made.seconds[name] = time.perf_counter() - started

    started = time.perf_counter()
    keep("bicubic", resize(y, made.truth.shape[:2]), started)
    started = time.perf_counter()
    first = _output(network, y)
    keep("network", first, started)
    ridge = ridge_for(first, y, operator, rng=seed)
    keep("projection", project(first, y, operator, ridge=ridge), started)
    started = time.perf_counter()
    tuned, scoring = _tuned(FineTune(project=False), made, y, operator, network, "fine-tuning", show, seed)
    keep("fine-tuned", tuned, started + scoring)
    ridge = ridge_for(tuned, y, operator, before_fit=ridge, rng=seed)
    made.nothing_left = math.isinf(ridge)
    keep("fine-tuned + projection", project(tuned, y, operator, ridge=ridge), started + scoring)
    plain = FineTune.lucas2020(optimizer="adam", learning_rate=1e-4, iterations=FineTune().iterations)
    _tuned(plain, made, y, operator, network, "eq. 1 alone, Adam", show, seed)
    made.rows = compare(
        made.images,
        made.truth,
        data_range=255,
        channels="y",
        measurement=made.measurement,
        operator=operator,
    )
    return made


def _measure(operator: Operator) -> Demo:
    import numpy as np
    import skimage.data
    import skimage.io

    name, rows, columns = TRUTH
    truth = np.asarray(skimage.io.imread(Path(skimage.data.__file__).parent / name))[rows, columns]
    blurred = operator.A(_tensor(truth).double())
    measurement = (255 * blurred[0].movedim(0, -1)).round().clamp(0, 255).byte().numpy()
    return Demo(truth, measurement)


def _tuned(
    method: Any,
    made: Demo,
    y: torch.Tensor,
    operator: Operator,
    network: LoadedNetwork,
    curve: str,
    show: Display,
    seed: int,
) -> tuple[torch.Tensor, float]:
    """Fine-tune; return the image and the seconds that went into scoring, which are not the method's."""
    from napari_fidelity.core.step import drain
    from napari_fidelity.metrics import psnr
    from napari_fidelity.stopping import Budget

    made.curves[curve] = []
    scoring = 0.0

    def look(step: Step[torch.Tensor]) -> str | None:
        nonlocal scoring
        started = time.perf_counter()
        score = psnr(_array(step.estimate()), made.truth, data_range=255, channels="y")
        made.curves[curve].append(score)
        scoring += time.perf_counter() - started
        return show(step)

    stop = Budget(iterations=method.iterations + 1) if not method.average else None
    result = drain(method.steps(y, operator, network, stop=stop, rng=seed), look)
    return result.image, scoring


def _output(network: LoadedNetwork, y: torch.Tensor) -> torch.Tensor:
    import torch

    with torch.no_grad():
        image: torch.Tensor = network(y)
    return image


def _tensor(image: NDArray[Any]) -> torch.Tensor:
    import torch

    return torch.from_numpy(image.copy()).movedim(-1, 0)[None].float() / 255


def _array(image: torch.Tensor) -> NDArray[Any]:
    array: NDArray[Any] = (255 * image[0]).movedim(0, -1).double().cpu().numpy()
    return array


def _write_images(made: Demo, paths: dict[str, Path], *, overwrite: bool) -> None:
    import numpy as np

    from napari_fidelity.core.arrays import Image
    from napari_fidelity.io import write_image

    images = [made.truth, made.measurement, *made.images.values()]
    for path, image in zip(paths.values(), images, strict=True):
        data = image if image.dtype == np.uint8 else image.astype(np.float32)
        write_image(Image(data, "YXS"), path, overwrite=overwrite)


def _write_table(made: Demo, path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "psnr", "ssim", "residual", "lr_psnr", "seconds"])
        for row in made.rows:
            values = asdict(row)
            numbers = [values[name] for name in ("psnr", "ssim", "residual", "lr_psnr")]
            writer.writerow([row.name, *(f"{n:.4f}" for n in numbers), f"{made.seconds[row.name]:.3f}"])
