"""Reconstruction without training data: DIP, RED and DeepRED against the published presets and plain denoisers.

``python benchmarks/reconstruction.py --tasks denoising --methods red dip`` measures what is missing in the results
and prints the tables of what there is; ``--tables 1`` only prints. The published presets run with bfloat16
convolutions (benchmarks/dip_speed.py: equal PSNR), which is in their favour.
"""

from __future__ import annotations

import csv
import math
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from _common import Rows, clock, markdown, parse, publish
from _reconstruction import SIGMA, TASKS, Problem
from imageio.v3 import imread, imwrite

from napari_fidelity.denoisers import BM3D, NLM, TV, Denoiser, NetworkDenoiser
from napari_fidelity.io import load_model
from napari_fidelity.methods import DIP, RED, DeepRED, Method
from napari_fidelity.methods._start import starting_image
from napari_fidelity.stopping import Budget

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_fidelity.methods.deepred import Task

PLAIN: dict[str, Denoiser] = {"nlm": NLM(), "bm3d": BM3D(), "drunet-s": NetworkDenoiser()}
TV_STRENGTHS = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1)  # the best counts, which no user could know


def published(problem: Problem) -> DeepRED:
    """Return the paper's preset for a problem."""
    kinds: tuple[Task, ...] = ("deblur", "super_resolution", "denoise")
    kind = next((kind for kind in kinds if problem.task.startswith(kind)), "denoise")
    return DeepRED.mataev2019(kind, precision="auto")


METHODS: dict[str, Callable[[Problem], Method]] = {
    # what compression did is no white noise, from which a network could learn
    "red": lambda problem: RED(adapt=0) if problem.task == "jpeg" else RED(),
    "red-nlm": lambda problem: RED(denoiser=NLM()),
    "dip": lambda problem: DIP(),
    "deepred": lambda problem: DeepRED(),
    "deepred-mataev2019": published,
}
SIMPLE = ("start", "classical", "tv", *PLAIN)
SHOWN = ("tomography", "fourier")  # tasks whose images are drawn


def main() -> None:
    args = parse(
        __doc__, tasks=tuple(TASKS), images=("",), methods=(*SIMPLE, *METHODS), iterations=0, budget=0.0, tables=0
    )
    rows = Rows(args.out / "reconstruction.jsonl", fresh=args.fresh)
    wanted = [name for name in args.images if name]
    if not args.tables:
        for task in args.tasks:
            for problem in TASKS[task](args.data):
                if wanted and problem.name not in wanted:
                    continue
                for method in args.methods:
                    key = {"task": problem.task, "image": problem.name, "method": method}
                    if not (method in PLAIN and problem.task not in ("denoise", "microscopy")):
                        rows.make(key, lambda p=problem, m=method: measure(p, m, args))
    tables(rows, args.out)


def measure(problem: Problem, method: str, args: Any) -> dict[str, Any]:
    """Return PSNR and seconds of one method on one problem."""
    row, image = measured(problem, method, args)
    if problem.task in SHOWN:
        keep(image, args.out / "images" / f"{problem.task}_{problem.name}_{method}.png")
    return row


def measured(problem: Problem, method: str, args: Any) -> tuple[dict[str, Any], torch.Tensor]:
    """Return what :func:`measure` does, and the image."""
    if method in METHODS:
        curve = args.out / "curves" / f"{problem.task}_{problem.name}_{method}.csv"
        return follow(problem, METHODS[method](problem), curve, args.iterations, args.budget)
    started = clock()
    if method == "tv":
        image, best = total_variation(problem)
        return {"psnr": round(best, 3), "seconds": round(clock() - started, 2)}, image
    if method in PLAIN:
        sigma = SIGMA if problem.task == "denoise" else estimated(problem)
        network = load_model("drunet-s") if PLAIN[method].needs_network else None
        started = clock()
        image = PLAIN[method].denoise(problem.y, sigma, network)
    else:
        start = "measurement" if method == "start" else method
        image = starting_image(start, problem.y, problem.operator, noise=problem.noise)
    return {"psnr": round(problem.score(image), 3), "seconds": round(clock() - started, 3)}, image


def keep(image: torch.Tensor, file: Path) -> None:
    """Write a gray image, as it is seen in [0, 1]."""
    file.parent.mkdir(parents=True, exist_ok=True)
    imwrite(file, image[0, 0].clamp(0, 1).mul(255).round().byte().cpu().numpy())


def follow(
    problem: Problem, method: Method, file: Path, iterations: int, budget: float
) -> tuple[dict[str, Any], torch.Tensor]:
    """Run a method, writing PSNR over seconds as it goes; scoring is not timed."""
    network = load_model("drunet-s") if method.default_model() else None
    stop = Budget(iterations=iterations - 1) if iterations else None
    noise = problem.noise
    run = method.steps(problem.y, problem.operator, network, noise=noise, stop=stop)
    file.parent.mkdir(parents=True, exist_ok=True)
    spent, best, reply = 0.0, -math.inf, None
    with file.open("w", newline="", encoding="utf-8") as text:
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["iteration", "seconds", "psnr"])
        while True:
            started = clock()
            try:
                step = next(run) if reply is None else run.send(reply)
            except StopIteration as end:
                spent += clock() - started
                result = end.value
                break
            spent += clock() - started
            reply = "the seconds are used up" if budget and spent > budget else None
            if 0 <= step.index < 20 or step.index % 25 == 0:
                score = problem.score(step.estimate())
                best = max(best, score)
                writer.writerow([step.index, round(spent, 2), round(score, 3)])
                text.flush()
    row = {
        "psnr": round(problem.score(result.image), 3),
        "seconds": round(spent, 1),
        "iterations": result.history[-1].index + 1,
        "best": round(best, 3),
        "reason": result.stop_reason,
        "threads": torch.get_num_threads(),
    }
    return row, result.image


def estimated(problem: Problem) -> float:
    """Return the noise level that the data show (Donoho's median)."""
    from napari_fidelity.networks.drunet import noise_level

    return float(noise_level(problem.y).mean())


def total_variation(problem: Problem) -> tuple[torch.Tensor, float]:
    """Return the solution with total variation as prior (FISTA) whose weight gives the best PSNR.

    PSNR rises and falls with the weight once: from the middle one, the search goes on as long as it rises.
    """

    @cache
    def solution(index: int) -> tuple[torch.Tensor, float]:
        x = fista(problem, TV_STRENGTHS[index])
        return x, problem.score(x)

    best = len(TV_STRENGTHS) // 2
    for step in (-1, 1):
        while 0 <= best + step < len(TV_STRENGTHS) and solution(best + step)[1] > solution(best)[1]:
            best += step
    return solution(best)


def fista(problem: Problem, strength: float, iterations: int = 100) -> torch.Tensor:
    """Minimise ``½‖A x − y‖² + λ TV(x)`` (Beck and Teboulle 2009, doi:10.1137/080716542)."""
    A, y = problem.operator, problem.y
    x = z = starting_image("measurement", y, A, noise=problem.noise)
    v = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    for _ in range(20):
        v = A.A_adjoint(A.A(v / v.norm()), x.shape[2:])
    step, t = 1 / (1.02 * float(v.norm())), 1.0
    for _ in range(iterations):
        gradient = A.A_adjoint(A.A(z) - y, x.shape[2:])
        # the weight is per unit of curvature, so that it means the same for every operator
        after = TV(weight=1.0).denoise(z - step * gradient, strength)
        t, before = (1 + math.sqrt(1 + 4 * t * t)) / 2, t
        x, z = after, after + (before - 1) / t * (after - x)
    return x


# -- tables -----------------------------------------------------------------------------------------------------


def tables(rows: Rows, out: Path) -> None:
    """Write what has been measured, one table for each task."""
    parts = []
    for task in dict.fromkeys(row["task"] for row in rows.rows):
        images = list(dict.fromkeys(row["image"] for row in rows.find(task=task)))
        methods = [m for m in (*SIMPLE, *METHODS) if rows.find(task=task, method=m)]
        lines = [[method, *[cell(rows, task, image, method) for image in images]] for method in methods]
        parts.append(f"## {task}\n\n" + markdown(["method", *images], lines))
    publish(out / "reconstruction.md", "Reconstruction without training data", [NOTE, *parts])
    figure(out)
    pictures(rows, out)


def cell(rows: Rows, task: str, image: str, method: str) -> str:
    found = rows.find(task=task, image=image, method=method)
    if not found:
        return ""
    row = found[0]
    digits = 0 if row["seconds"] >= 10 else 1
    return f"{row['psnr']:.2f} ({row['seconds']:.{digits}f} s)"


NOTE = (
    "PSNR in dB (seconds). `start`: the measurement, bicubically enlarged where it is smaller, the scaled adjoint "
    "where it is no picture; `classical`: that, projected onto the data as far as the noise allows; `tv`: total "
    "variation, with the weight that gives the best PSNR; `nlm`, `bm3d`, `drunet-s`: these denoisers alone; "
    "`red`, `dip`, `deepred`: the methods with their defaults; `red-nlm`: RED with non-local means; "
    "`deepred-mataev2019`: the published settings, with bfloat16 convolutions. `dip` and `deepred` of blurs and "
    "super-resolution were ended after 150 s, most of them still rising. They were measured on this processor, "
    "the other rows on an AMD EPYC (family 25, model 17)."
)
COLOURS = {
    "red": "#d62728",
    "red-nlm": "#ff9896",
    "dip": "#1f77b4",
    "deepred": "#2ca02c",
    "deepred-mataev2019": "#7f7f7f",
}


def figure(out: Path) -> None:
    """Draw PSNR over seconds, one panel for each image that has curves."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    curves: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for file in sorted((out / "curves").glob("*.csv")):
        name, _, method = file.stem.rpartition("_")
        with file.open(encoding="utf-8") as text:
            points = [(float(row["seconds"]), float(row["psnr"])) for row in csv.DictReader(text)]
        curves.setdefault(name, {})[method] = points
    # iterations that end in seconds need no curve unless there is another one to compare them with
    curves = {name: found for name, found in curves.items() if set(found) - {"red", "red-nlm"}}
    if not curves:
        return
    columns = min(3, len(curves))
    lines = -(-len(curves) // columns)
    drawing, axes = plt.subplots(lines, columns, figsize=(4.2 * columns, 3.1 * lines), squeeze=False)
    for axis, (name, methods) in zip(axes.flat, curves.items(), strict=False):
        for method, points in methods.items():
            axis.plot(*zip(*points, strict=True), label=method, color=COLOURS[method])
        axis.set(xscale="log", title=name.replace("_", " "), xlabel="seconds", ylabel="PSNR / dB")
        axis.grid(alpha=0.3)
        axis.legend(fontsize="small")
    for axis in list(axes.flat)[len(curves) :]:
        axis.set_visible(False)
    drawing.tight_layout()
    drawing.savefig(out / "reconstruction.png", dpi=110)


def pictures(rows: Rows, out: Path) -> None:
    """Draw what each method makes of the phantom and the slice."""
    import matplotlib.pyplot as plt

    methods = [m for m in ("start", "tv", "red", "dip", "deepred") if list((out / "images").glob(f"*_{m}.png"))]
    lines = [(task, image) for task in SHOWN for image in ("phantom", "slice")]
    if not methods:
        return
    drawing, axes = plt.subplots(4, len(methods), figsize=(2.1 * len(methods), 9), squeeze=False)
    for line, (task, image) in zip(axes, lines, strict=True):
        for axis, method in zip(line, methods, strict=True):
            axis.set_axis_off()
            file = out / "images" / f"{task}_{image}_{method}.png"
            if file.exists():
                axis.imshow(imread(file), cmap="gray", vmin=0, vmax=255)
                psnr = rows.find(task=task, image=image, method=method)[0]["psnr"]
                axis.set_title(f"{NAMES.get(method, method)}, {psnr:.1f} dB", fontsize="small")
        line[0].text(-0.08, 0.5, task, rotation=90, va="center", ha="right", transform=line[0].transAxes)
    drawing.tight_layout()
    drawing.savefig(out / "medical.png", dpi=110)


NAMES = {"start": "adjoint", "tv": "TV", "red": "RED", "dip": "DIP", "deepred": "DeepRED"}


if __name__ == "__main__":
    main()
