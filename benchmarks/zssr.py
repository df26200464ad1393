"""Super-resolution learned from the image alone, beside a denoiser as prior and trained networks, on Set5.

python benchmarks/zssr.py [--data FOLDER] [--out FOLDER] [--threads 1] [--tasks …] [--images …] [--methods …]
[--published butterfly bird] [--tables 1]
"""

from __future__ import annotations

from functools import cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from _common import (
    SET5,
    Case,
    Rows,
    bundled,
    clock,
    enhancenet,
    enhancenet_file,
    is_missing,
    markdown,
    mean,
    parse,
    publish,
    verdicts,
)

from napari_fidelity.core.step import drain
from napari_fidelity.methods import RED, ZSSR, FineTune, Method
from napari_fidelity.methods._start import starting_image
from napari_fidelity.operators import resize

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Task(NamedTuple):
    """How the measurement comes about."""

    scale: int
    blur: float = 0.0


TASKS = {"x2": Task(2), "blur_x2": Task(2, 1.6), "x3": Task(3), "x4": Task(4)}

Image = tuple[torch.Tensor, str]


def run(method: Method, network: torch.nn.Module | None, case: Case) -> Image:
    """Return the image of a method, and why it ended."""
    result = drain(method.steps(case.y, case.operator, network))
    return result.image, result.stop_reason


def tuned(name: str, case: Case, data: Path) -> Image | None:
    """Fine-tune a bundled network of that scale; nothing where there is none."""
    if name.rpartition("-x")[2].isdigit() and not name.endswith(f"-x{case.scale}"):
        return None
    network = network_of(name, case.scale)
    return None if network is None else run(FineTune(), network, case)


@cache
def network_of(name: str, scale: int) -> torch.nn.Module | None:
    return bundled(name, scale)


def published(case: Case, data: Path) -> Image:
    return run(ZSSR.shocher2018("kernel" if case.operator.kind == "compose" else "ideal"), None, case)


def adapted(case: Case, data: Path) -> Image | None:
    """Fine-tune the published EnhanceNet ×4, adapted to the scale."""
    return run(FineTune(), enhancenet(data, case.scale), case) if enhancenet_file(data).exists() else None


METHODS: dict[str, Callable[[Case, Path], Image | None]] = {
    "bicubic": lambda case, data: (resize(case.y, case.truth.shape[:2]), ""),
    "projection": lambda case, data: (starting_image("classical", case.y, case.operator), ""),
    "zssr": lambda case, data: run(ZSSR(), None, case),
    "red": lambda case, data: run(RED(), network_of("drunet-s", 1), case),
    "edsr-s-x2": partial(tuned, "edsr-s-x2"),
    "edsr-s-x4": partial(tuned, "edsr-s-x4"),
    "enhancenet": adapted,
    "vsr-s": partial(tuned, "vsr-s"),
    "zssr-shocher2018": published,
}
"""What is compared; a network that does not come with this version is left out."""

NOTE = """PSNR in dB on Y (seconds until the image was there). `projection`: bicubic enlargement, projected onto
the data as far as the noise allows; `zssr`: the default; `zssr-shocher2018`: the published settings, in one size;
`red`: RED with the bundled denoiser; `edsr-s-…`, `enhancenet` (published ×4, adapted to the scale), `vsr-s`: these
networks fine-tuned with the default of `FineTune`. `blur_x2`: a Gaussian blur of 1.6 px, known, before
downsampling.

Published, on Set5: 37.37 (×2), 33.42 (×3), 31.13 (×4) (Shocher 2018, table 1). BSD100 ×2 after random blurs:
25.52 with the kernel, 24.88 with an estimated one, beside 25.80 and 24.48 of fine-tuned EDSR (Lucas 2020, table
II); these images are not among the data here."""


def main() -> int:
    args = parse(
        __doc__, tasks=tuple(TASKS), images=SET5, methods=tuple(METHODS), published=("butterfly", "bird"), tables=0
    )
    if is_missing(args.data / "set5"):
        return 0
    rows = Rows(args.out / "zssr.jsonl", fresh=args.fresh)
    for task in () if args.tables else args.tasks:
        for method in args.methods:
            for name in args.images:
                if method != "zssr-shocher2018" or (task == "x2" and name in args.published):
                    measure(rows, task, name, method, args.data)
    parts = [f"## {task}\n\n{table(rows, task)}" for task in TASKS if rows.find(task=task)]
    checks = asked(rows)
    publish(
        args.out / "zssr.md", "Super-resolution learned from the image alone", [NOTE, *parts, verdicts(checks)]
    )
    return 0 if all(good for _, good in checks) else 1


def measure(rows: Rows, task: str, name: str, method: str, data: Path) -> None:
    """Measure one method on one image, unless that is done or there is no such network."""
    key = {"task": task, "image": name, "method": method}
    if rows.find(**key):
        return
    case = Case.load(data, name, *TASKS[task])
    started = clock()
    made = METHODS[method](case, data)
    seconds = clock() - started
    if made is not None:
        image, reason = made
        row = {"psnr": round(case.psnr(image), 3), "seconds": round(seconds, 2), "reason": reason}
        rows.make(key, lambda: row)


def table(rows: Rows, task: str) -> str:
    """Return the table of one task."""
    images = [name for name in SET5 if rows.find(task=task, image=name)]
    lines = []
    for method in METHODS:
        found = {row["image"]: row for row in rows.find(task=task, method=method)}
        if found:
            middle = f"{mean(row['psnr'] for row in found.values()):.2f}" if len(found) == len(images) else ""
            lines.append([method, *[cell(found.get(name)) for name in images], middle])
    return markdown(["method", *images, "mean"], lines)


def cell(row: dict[str, Any] | None) -> str:
    if row is None:
        return ""
    return f"{row['psnr']:.2f} ({row['seconds']:.{0 if row['seconds'] >= 10 else 1}f} s)"


def asked(rows: Rows) -> list[tuple[str, bool]]:
    """Return what the default must reach: more than projection everywhere, the published settings in less time."""
    checks = []
    for task in TASKS:
        own = {row["image"]: row for row in rows.find(task=task, method="zssr")}
        plain = {row["image"]: row for row in rows.find(task=task, method="projection")}
        gains = [own[name]["psnr"] - plain[name]["psnr"] for name in own if name in plain]
        if gains:
            checks.append(
                (f"{task}: above projection on every image, by {min(gains):.2f} dB or more", min(gains) > 0)
            )
        for row in rows.find(task=task, method="zssr-shocher2018"):
            here = own.get(row["image"])
            if here is not None:
                gain, times = here["psnr"] - row["psnr"], row["seconds"] / here["seconds"]
                text = (
                    f"{task}, {row['image']}: {gain:+.2f} dB to the published settings, {times:.0f} times faster"
                )
                checks.append((text, gain > -0.05 and times > 1))
    return checks


if __name__ == "__main__":
    raise SystemExit(main())
