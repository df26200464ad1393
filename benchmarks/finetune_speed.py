"""Seconds to quality: the default against the published settings, and against plain Adam at equal seconds.

    python benchmarks/finetune_speed.py [--data FOLDER] [--out FOLDER] [--threads 1] [--parts start published adam]

The published settings are those of Lucas 2020: SGD with learning rate 0.01 and momentum 0.9, 200 iterations, no
stop; once by ``FineTune.lucas2020`` and once as a plain PyTorch loop. Scoring is not timed.
"""

from __future__ import annotations

import csv
import itertools
import os
import statistics
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from _common import (
    SET5,
    Case,
    Rows,
    adam,
    clock,
    enhancenet,
    enhancenet_file,
    follow,
    is_missing,
    markdown,
    parse,
    plain,
    publish,
    sgd,
    steps,
    verdicts,
)

from napari_fidelity.methods import FineTune
from napari_fidelity.stopping import Budget

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

PUBLISHED_STEPS = 200
NEVER = Budget(iterations=10**6)
LEAST_RATIO = 50

Checks = list[tuple[str, bool]]
Traces = dict[str, list[float]]


def warmed(case: Case, network: torch.nn.Module) -> None:
    """Run one step of each kind, so that nobody pays for filling the caches."""
    follow(steps(FineTune(), case, network), case, most=2)
    follow(plain(adam, case, network), case, most=2)


# -- against the published settings -----------------------------------------------------------------------------


def against_published(args: argparse.Namespace, store: Rows) -> tuple[str, Checks]:
    """Measure how many times fewer seconds the default needs for the PSNR of the published settings."""
    lines, checks = [], []
    for scale in args.scales:
        for name in args.published:
            key = {"part": "published", "scale": scale, "image": name}
            row = store.make(key, partial(published, args.data, name, scale))
            lines.append(published_line(row))
            text = f"×{scale} {name}: PSNR of the published settings in {LEAST_RATIO} times fewer seconds"
            ratio = min(row["loop_ratio"], row["preset_ratio"])
            checks.append((f"{text}: {ratio:.0f} times", ratio >= LEAST_RATIO))
    head = ["image", "network", "loop: PSNR", "s", "lucas2020: PSNR", "s"]
    head += ["default there after s", "with PSNR", "times fewer than loop", "than lucas2020"]
    return markdown(head, lines), checks


def published(data: Path, name: str, scale: int) -> dict[str, Any]:
    case, network = Case.load(data, name, scale), enhancenet(data, scale)
    warmed(case, network)
    own = follow(steps(FineTune(), case, network), case)
    loop = follow(plain(sgd, case, network), case, most=PUBLISHED_STEPS + 1)
    preset = FineTune.lucas2020(iterations=PUBLISHED_STEPS)
    there = follow(steps(preset, case, network, stop=NEVER), case)
    row: dict[str, Any] = {"network": loop.psnr[0], "own": own.psnr[0]}
    for label, trace in (("loop", loop), ("preset", there)):
        level = max(trace.psnr)  # the best it has been, not where it ended
        row |= {label: level, f"{label}_seconds": trace.seconds[-1]}
        row |= {f"{label}_reached": own.reached(level), f"{label}_ratio": trace.seconds[-1] / own.reached(level)}
    row = {key: round(value, 3) for key, value in row.items()}
    return row | {"curve": own.row(), "loop_curve": loop.row(), "preset_curve": there.row()}


def published_line(row: dict[str, Any]) -> list[str]:
    values = ("network", "loop", "loop_seconds", "preset", "preset_seconds", "preset_reached", "own")
    cells = [f"{row[value]:.2f}" for value in values]
    return [f"×{row['scale']} {row['image']}", *cells, f"{row['loop_ratio']:.0f}", f"{row['preset_ratio']:.0f}"]


# -- the closed form alone ----------------------------------------------------------------------------------


def start(args: argparse.Namespace, store: Rows) -> tuple[str, Checks]:
    """Measure the first image: one look, the last layer in closed form, projection."""
    lines, checks = [], []
    for scale in args.scales:
        row = store.make({"part": "start", "scale": scale, "image": "butterfly"}, partial(first, args.data, scale))
        text = f"×{scale}, 256²: less than 1 s on all {row['cores']} cores: {row['wall']:.2f} s by the wall clock"
        checks.append((text, row["wall"] < 1))
        cells = [f"{row[value]:.2f}" for value in ("network", "psnr", "seconds", "wall")]
        lines.append([f"×{scale} butterfly, 256²", *cells])
    head = ["image", "network", "closed form alone", "s", "wall-clock s, all cores"]
    return markdown(head, lines), checks


def first(data: Path, scale: int) -> dict[str, Any]:
    case, network = Case.load(data, "butterfly", scale), enhancenet(data, scale)
    row: dict[str, Any] = {"network": case.psnr(network(case.y)), "cores": os.cpu_count() or 1}
    threads = torch.get_num_threads()
    for label, count in (("seconds", threads), ("wall", row["cores"])):
        torch.set_num_threads(count)
        traces = [follow(steps(FineTune(iterations=0), case, network), case) for _ in range(8)]
        row[label] = statistics.median(trace.seconds[-1] for trace in traces[1:])
    torch.set_num_threads(threads)
    row["psnr"] = traces[-1].psnr[-1]
    return {key: round(value, 3) for key, value in row.items()}


# -- against plain Adam -----------------------------------------------------------------------------------------


def against_adam(args: argparse.Namespace, store: Rows) -> tuple[str, Checks]:
    """Measure PSNR by second of the default and of plain Adam, learning rate 1e-4."""
    lines, checks, traces = [], [], {}
    for scale, name in itertools.product(args.scales, args.images):
        key = {"part": "adam", "scale": scale, "image": name}
        row = store.make(key, partial(adam_and_default, args.data, name, scale))
        traces[scale, name] = row
        end = row["default"]["seconds"][-1]
        plainly = [p for p, t in zip(row["adam"]["psnr"], row["adam"]["seconds"], strict=True) if t <= end]
        own, other, n = row["default"]["psnr"][-1], max(plainly), len(plainly)
        views = at(row["views"], end)
        cells = [f"{end:.1f}", f"{own:.2f}", f"{other:.2f}", str(n), f"{own - other:+.2f}", f"{views:.2f}"]
        lines.append([f"×{scale} {name}", f"{row['adam']['psnr'][0]:.2f}", *cells])
        checks.append(
            (f"×{scale} {name}: ahead of plain Adam after {end:.1f} s: {own - other:+.2f} dB", own > other)
        )
    head = ["image", "network", "s", "default", "plain Adam, best so far", "its images", "difference"]
    write_curves(args.out, traces)
    return markdown([*head, "8 views, no steps"], lines), checks


def at(trace: Traces, seconds: float) -> float:
    """Return the PSNR that a curve had at a time; its first one if it had none yet."""
    reached = [p for p, t in zip(trace["psnr"], trace["seconds"], strict=True) if t <= seconds]
    return reached[-1] if reached else trace["psnr"][0]


def adam_and_default(data: Path, name: str, scale: int) -> dict[str, Any]:
    case, network = Case.load(data, name, scale), enhancenet(data, scale)
    warmed(case, network)
    default = follow(steps(FineTune(), case, network), case)
    views = follow(steps(FineTune(parameters="last", iterations=7), case, network), case)
    plainly = follow(plain(adam, case, network), case, seconds=1.02 * default.seconds[-1])
    return {"default": default.row(), "views": views.row(), "adam": plainly.row()}


def write_curves(out: Path, rows: dict[tuple[int, str], dict[str, Any]]) -> None:
    with (out / "finetune_speed_curves.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["scale", "image", "method", "iteration", "seconds", "psnr"])
        for (scale, name), row in rows.items():
            for method in ("default", "views", "adam"):
                for i, (t, p) in enumerate(zip(row[method]["seconds"], row[method]["psnr"], strict=True)):
                    writer.writerow([scale, name, method, i, t, p])
    draw(out, rows)


def draw(out: Path, rows: dict[tuple[int, str], dict[str, Any]]) -> None:
    """Draw the curves: one row of panels per scale, one column per image."""
    import matplotlib.pyplot as plt

    scales, names = (list(dict.fromkeys(key[i] for key in rows)) for i in (0, 1))
    size = (2.2 * len(names) + 0.4, 2.1 * len(scales) + 0.5)
    figure, axes = plt.subplots(len(scales), len(names), figsize=size, squeeze=False, layout="constrained")
    styles = {"default": ("#0b6e99", "o", "default"), "adam": ("#c1440e", "s", "plain Adam 1e-4")}
    for (i, scale), (j, name) in itertools.product(enumerate(scales), enumerate(names)):
        axis = axes[i, j]
        for method, (colour, marker, label) in styles.items():
            trace = rows[scale, name][method]
            axis.plot(trace["seconds"], trace["psnr"], color=colour, marker=marker, ms=3, lw=1.4, label=label)
        axis.set_xlim(left=0)
        axis.grid(color="#dddddd", lw=0.6)
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8)
        axis.set_title(f"{name} ×{scale}", fontsize=9, loc="left")
        if i == len(scales) - 1:
            axis.set_xlabel("seconds", fontsize=9)
        if j == 0:
            axis.set_ylabel("PSNR (dB, Y)", fontsize=9)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, fontsize=9, frameon=False, loc="outside upper center", ncols=2)
    figure.savefig(out / "finetune_speed.png", dpi=130)
    plt.close(figure)


# -- how much of the processor ----------------------------------------------------------------------------------


def floating_point(args: argparse.Namespace, store: Rows) -> tuple[str, Checks]:
    """Measure floating-point operations per iteration, and their share of what a matrix product reaches."""
    lines = []
    for scale in args.scales:
        key = {"part": "flops", "scale": scale, "image": "butterfly"}
        row = store.make(key, partial(operations, args.data, scale))
        for label in ("default", "adam"):
            rate = row[f"{label}_gflop"] / row[f"{label}_seconds"]
            shares = [f"{100 * rate / row[peak]:.0f} %" for peak in ("float32", "bfloat16")]
            cells = [f"{row[f'{label}_gflop']:.0f}", f"{row[f'{label}_seconds']:.2f}", f"{rate:.0f}"]
            lines.append([f"×{scale} butterfly, {'plain Adam' if label == 'adam' else label}", *cells, *shares])
        peaks = f"A matrix product of 2048² reaches {row['float32']:.0f} GFLOP/s in float32"
        peaks += f" and {row['bfloat16']:.0f} in bfloat16."
    head = ["one iteration", "GFLOP", "s", "GFLOP/s", "of the float32 peak", "of the bfloat16 peak"]
    return f"{markdown(head, lines)}\n\n{peaks}", []


def operations(data: Path, scale: int) -> dict[str, Any]:
    from torch.utils.flop_counter import FlopCounterMode

    case, network = Case.load(data, "butterfly", scale), enhancenet(data, scale)
    row: dict[str, Any] = {"float32": peak(torch.float32), "bfloat16": peak(torch.bfloat16)}
    for label in ("default", "adam"):
        run = (
            (lambda: steps(FineTune(), case, network))
            if label == "default"
            else lambda: plain(adam, case, network)
        )
        counted = run()
        next(counted)  # from here on, one call is a backward and a forward pass
        with FlopCounterMode(display=False) as counter:
            next(counted)
        timed = run()
        next(timed)
        seconds = []
        for _ in range(5):
            start = clock()
            next(timed)
            seconds.append(clock() - start)
        row |= {f"{label}_gflop": counter.get_total_flops() / 1e9, f"{label}_seconds": statistics.median(seconds)}
    return {key: round(value, 3) for key, value in row.items()}


def peak(dtype: torch.dtype) -> float:
    """Return the GFLOP/s of a matrix product."""
    n = 2048
    a, b = (torch.randn(n, n).to(dtype) for _ in range(2))
    seconds = []
    for _ in range(6):
        start = clock()
        a @ b
        seconds.append(clock() - start)
    return 2 * n**3 / min(seconds) / 1e9


PARTS = {"start": start, "published": against_published, "adam": against_adam, "flops": floating_point}
TITLES = {
    "start": "The closed form alone",
    "published": "Against the published settings (200 iterations)",
    "adam": "Against plain Adam at equal seconds",
    "flops": "Floating-point operations",
}


def main() -> int:
    args = parse(__doc__, parts=tuple(PARTS), scales=(4, 2), images=SET5, published=("butterfly",))
    if is_missing(args.data / "set5", enhancenet_file(args.data)):
        return 0
    store = Rows(args.out / "finetune_speed.jsonl", fresh=args.fresh)
    sections, checks = [], []
    for name in args.parts:
        text, found = PARTS[name](args, store)
        sections += [f"## {TITLES[name]}", text]
        checks += found
    note = "EnhanceNet on Set5. PSNR in dB on Y; seconds (s) until the image was there."
    publish(args.out / "finetune_speed.md", "Seconds to quality", [note, *sections, verdicts(checks)])
    return 0 if all(good for _, good in checks) else 1


if __name__ == "__main__":
    raise SystemExit(main())
