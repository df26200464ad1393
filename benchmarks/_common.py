"""What the fine-tuning benchmarks share: the protocol, the images, the clock, the tables.

Protocol: the measurement is MATLAB's ``imresize`` of the 8-bit image, rounded between the row and the column
pass and after it; quality is PSNR on Y (BT.601) of the rounded 8-bit output, without a border of ``scale`` pixels.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from skimage.io import imread

from napari_fidelity.core.blocks import to_channel_last
from napari_fidelity.io import load_model
from napari_fidelity.io.convert import convert_enhancenet
from napari_fidelity.metrics import psnr
from napari_fidelity.operators import Compose, Downsample, GaussianBlur, Operator, resize

ROOT = Path(__file__).parents[1]
DATA = ROOT.parent / "shared" / "data"
SET5 = ("bird", "butterfly", "head", "woman", "baby")

Estimate = Callable[[], torch.Tensor]


# -- command line and results -----------------------------------------------------------------------------------


def parse(description: str | None, **defaults: Any) -> argparse.Namespace:
    """Read the options that every benchmark has, and those given here with their default values."""
    parser = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA, help="folder with set5/ and enhancenet/")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results", help="folder for the tables")
    parser.add_argument("--threads", type=int, default=1, help="processor threads")
    parser.add_argument("--fresh", action="store_true", help="measure again what the results already hold")
    for name, value in defaults.items():
        many = {"nargs": "*"} if isinstance(value, tuple) else {}
        kind = type(value[0]) if isinstance(value, tuple) else type(value)
        parser.add_argument(f"--{name}", type=kind, default=value, **many)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    return args


def is_missing(*paths: Path) -> bool:
    """Say which of the files are absent; the benchmark is then left out."""
    absent = [path for path in paths if not path.exists()]
    for path in absent:
        print(f"Left out: there is no {path.name} in {path.parent}. Give the folder of the images with --data.")
    return bool(absent)


class Rows:
    """Rows of a table, kept as JSON lines so that an interrupted benchmark goes on where it was."""

    def __init__(self, path: Path, *, fresh: bool = False) -> None:
        self.path = path
        if fresh:
            path.unlink(missing_ok=True)
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        self.rows: list[dict[str, Any]] = [json.loads(line) for line in lines]

    def find(self, **key: Any) -> list[dict[str, Any]]:
        """Return the rows that hold these values."""
        return [row for row in self.rows if all(row.get(name) == value for name, value in key.items())]

    def make(self, key: dict[str, Any], measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Return the row with this key, measured now if there is none yet."""
        if found := self.find(**key):
            return found[0]
        row = key | measure()
        self.rows.append(row)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        print(json.dumps({k: v for k, v in row.items() if not isinstance(v, list)}), flush=True)
        return row


def markdown(head: list[str], rows: list[list[Any]]) -> str:
    """Return a Markdown table; numbers as given, texts as they are."""
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *[[str(cell) for cell in row] for row in rows]]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def publish(path: Path, title: str, parts: list[str], *, wall: bool = False) -> None:
    """Print a report and write it as Markdown; ``wall`` where its seconds are those of a clock on the wall."""
    text = "\n\n".join([f"# {title}", machine(wall=wall), *parts]) + "\n"
    path.write_text(text, encoding="utf-8")
    print("\n" + text)


def verdicts(checks: list[tuple[str, bool]]) -> str:
    """Return what was asked, each with whether it was met."""
    return "\n".join(f"- {text}: {'met' if good else '**not met**'}" for text, good in checks)


def machine(*, wall: bool = False) -> str:
    """Return processor, threads and versions in one sentence."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        found = dict(line.split(":", 1) for line in info.read_text().splitlines() if ":" in line)
        values = {key.strip(): value.strip() for key, value in found.items()}
        model = (
            f"{values.get('model name', model)} (family {values.get('cpu family')}, model {values.get('model')})"
        )
    bf16 = "with" if torch.cpu._is_avx512_bf16_supported() else "without"
    threads = torch.get_num_threads()
    return (
        f"{model}, {bf16} bfloat16 instructions; threads: {threads}; torch {torch.__version__}; "
        f"seconds are {'processor' if threads == 1 and not wall else 'wall-clock'} seconds."
    )


# -- images -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """One image, its measurement and how the one came from the other."""

    name: str
    scale: int
    truth: np.ndarray
    y: torch.Tensor
    operator: Operator

    @classmethod
    def load(cls, data: Path, name: str, scale: int, blur: float = 0.0) -> Case:
        """Read a Set5 image and make its measurement, blurred before downsampling where asked."""
        image = imread(data / "set5" / f"{name}.png")[..., :3]
        truth = image[: image.shape[0] // scale * scale, : image.shape[1] // scale * scale]
        x = torch.from_numpy(np.moveaxis(truth, -1, 0)[None].astype(np.float64))
        x = GaussianBlur(sigma=blur).A(x) if blur else x
        for axis_scale in ((scale, 1), (1, scale)):
            x = (Downsample(scale=axis_scale).A(x) + 0.5).floor().clamp(0, 255)
        down = Downsample(scale=scale)
        operator = Compose(operators=(GaussianBlur(sigma=blur), down)) if blur else down
        return cls(name, scale, truth, (x / 255).float(), operator)

    def noisy(self, sigma: float) -> Case:
        """Return the case with Gaussian noise added to the measurement, always the same."""
        noise = torch.randn(self.y.shape, generator=torch.Generator().manual_seed(0))
        return Case(self.name, self.scale, self.truth, self.y + sigma * noise, self.operator)

    def psnr(self, x: torch.Tensor) -> float:
        """Return the PSNR of an image ``(1, 3, H, W)`` in [0, 1]."""
        image = 255 * to_channel_last(x.detach().float().cpu())
        return psnr(image, self.truth, data_range=255, channels="y", crop=self.scale, rounded=True)

    def bicubic(self) -> float:
        """Return the PSNR of bicubic enlargement."""
        return self.psnr(resize(self.y, self.truth.shape[:2]))


def enhancenet_file(data: Path) -> Path:
    return data / "enhancenet" / "enhancenet_pat_x4_tf.npz"


def enhancenet(data: Path, scale: int) -> torch.nn.Module:
    return convert_enhancenet(enhancenet_file(data)).to_scale(scale).eval()


def bundled(name: str, scale: int | None = None) -> torch.nn.Module | None:
    """Return a bundled model, or say that there is none."""
    from napari_fidelity.io import list_models

    if name not in {info.id for info in list_models()}:
        print(f"Left out: the model {name} does not come with this version.")
        return None
    return load_model(name, scale=scale)


# -- runs -------------------------------------------------------------------------------------------------------


def clock() -> float:
    """Return seconds: of the processor with one thread, which other work does not stretch, else of the wall."""
    return time.process_time() if torch.get_num_threads() == 1 else time.perf_counter()


@dataclass
class Trace:
    """PSNR after each iteration, and the seconds from the start until that image was there."""

    psnr: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    image: torch.Tensor | None = None

    def reached(self, level: float) -> float:
        """Return the seconds until the PSNR was at least this, or infinity."""
        return next((t for t, p in zip(self.seconds, self.psnr, strict=True) if p >= level), math.inf)

    def row(self) -> dict[str, list[float]]:
        return {"psnr": [round(p, 3) for p in self.psnr], "seconds": [round(t, 3) for t in self.seconds]}


def follow(estimates: Iterator[Estimate], case: Case, *, seconds: float = math.inf, most: int = 10**9) -> Trace:
    """Run an iteration to its end, or until its seconds or number are used up; scoring is not timed."""
    trace, spent = Trace(), 0.0
    while len(trace.psnr) < most and spent < seconds:
        start = clock()
        estimate = next(estimates, None)
        spent += clock() - start
        if estimate is None:
            break
        start = clock()
        trace.image = estimate()
        trace.seconds.append(spent + clock() - start)
        trace.psnr.append(case.psnr(trace.image))
    return trace


def steps(method: Any, case: Case, network: torch.nn.Module, **given: Any) -> Iterator[Estimate]:
    """Yield the estimates of a method of the package."""
    for step in method.steps(case.y, case.operator, network, **given):
        yield step.estimate


def plain(make_optimizer: Callable[..., torch.optim.Optimizer], case: Case, network: torch.nn.Module) -> Any:
    """Yield the estimates of eq. 1 as one would write it down: float32, mean squared error, all parameters."""
    network = copy.deepcopy(network).requires_grad_(True)
    optimizer = make_optimizer(network.parameters())
    while True:
        x = network(case.y)
        loss = (case.operator.A(x) - case.y).square().mean()
        yield x.detach
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def adam(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=1e-4)


def sgd(parameters: Any) -> torch.optim.Optimizer:
    """Return the optimiser of Lucas 2020."""
    return torch.optim.SGD(parameters, lr=0.01, momentum=0.9)


def mean(values: Any) -> float:
    return float(np.mean(list(values)))
