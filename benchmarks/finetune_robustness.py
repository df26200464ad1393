"""Fine-tuning where it was not tuned: other networks, blur, a failed training, noise; determinism and memory.

python benchmarks/finetune_robustness.py [--data FOLDER] [--out FOLDER] [--parts models blur failed noise same]
"""

from __future__ import annotations

import gc
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from _common import (
    SET5,
    Case,
    Rows,
    bundled,
    enhancenet,
    enhancenet_file,
    follow,
    is_missing,
    markdown,
    mean,
    parse,
    publish,
    steps,
    verdicts,
)

from napari_fidelity.core.step import drain
from napari_fidelity.methods import FineTune, Project
from napari_fidelity.operators import GaussianNoise
from napari_fidelity.stopping import Budget

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator

METHODS = {"projection": Project(), "default": FineTune()}
SIGMAS = (0.0, 2.0, 10.0, 25.0)  # on the scale of 8 bits
BLUR = 1.6
FAILED = 0.8

Checks = list[tuple[str, bool]]


class Darkened(torch.nn.Module):
    """A network whose output came out too dark."""

    def __init__(self, network: torch.nn.Module, factor: float) -> None:
        super().__init__()
        self.network, self.factor = network, factor

    def forward(self, y: torch.Tensor) -> torch.Tensor:
        """Return the network's output, darkened."""
        return self.factor * self.network(y)


def measure(case: Case, network: torch.nn.Module, **given: Any) -> dict[str, Any]:
    """Return the PSNR of bicubic enlargement, network, projection and default, and how it went for the last."""
    row: dict[str, Any] = {"bicubic": case.bicubic(), "network": case.psnr(network(case.y))}
    for name, method in METHODS.items():
        trace = follow(steps(method, case, network, **given), case)
        row |= {name: trace.psnr[-1], "seconds": trace.seconds[-1], "best": max(trace.psnr)}
    row = {key: round(value, 3) for key, value in row.items()}
    return row | {"steps": len(trace.psnr), "curve": trace.row()["psnr"]}


def compare(store: Rows, part: str, label: str, cases: Iterator[tuple[Case, Any]]) -> list[dict[str, Any]]:
    rows = []
    for case, network in cases:
        key = {"part": part, "network_name": label, "scale": case.scale, "image": case.name}
        rows.append(store.make(key, partial(measure, case, network)))
    return rows


def on_set5(args: argparse.Namespace, network: Any, scale: int, blur: float = 0.0) -> Iterator[tuple[Case, Any]]:
    for name in args.images:
        yield Case.load(args.data, name, scale, blur), network


COLUMNS = ("bicubic", "network", "projection", "default", "seconds")


def table(groups: dict[str, list[dict[str, Any]]]) -> str:
    """Return one line per group: means over its images, and the smallest gains."""
    lines = []
    for label, rows in groups.items():
        values = [f"{mean(row[c] for row in rows):.2f}" for c in COLUMNS]
        gains = [f"{gain(rows, over):+.2f} ({least(rows, over):+.2f})" for over in ("network", "projection")]
        lines.append([label, *values, *gains, f"{gap(rows):.2f}"])
    head = ["mean over Set5", *COLUMNS[:4], "s", "gain over network (least)", "over projection (least)"]
    head.append("largest gap to the best iteration")
    return markdown(head, lines)


def least(rows: list[dict[str, Any]], over: str) -> float:
    return min(row["default"] - row[over] for row in rows)


def gap(rows: list[dict[str, Any]]) -> float:
    return max(row["best"] - row["default"] for row in rows)


def gain(rows: list[dict[str, Any]], over: str) -> float:
    return mean(row["default"] - row[over] for row in rows)


# -- the parts --------------------------------------------------------------------------------------------------


def models(args: argparse.Namespace, store: Rows) -> tuple[str, Checks]:
    """Run the bundled models under the formation model they were trained for."""
    groups, checks = {}, []
    for name, scale, asked in (("edsr-s-x4", 4, 30.0), ("edsr-s-x2", 2, None)):
        network = bundled(name)
        if network is None:
            continue
        groups[f"{name}"] = rows = compare(store, "models", name, on_set5(args, network, scale))
        if asked is not None:
            own = mean(row["network"] for row in rows)
            checks.append((f"{name} on Set5 ×{scale}, {asked} dB or better: {own:.2f}", own >= asked))
        text = f"{name}: end within 0.1 dB of the best iteration on every image: {gap(rows):.2f}"
        checks.append((text, gap(rows) <= 0.1))
    return table(groups), checks


def blur(args: argparse.Namespace, store: Rows) -> tuple[str, Checks]:
    """Put a Gaussian blur, which no network saw in training, before downsampling by 2."""
    groups, checks = {}, []
    for name, label in (("edsr-s-x2", "edsr-s-x2"), ("edsr-s-x4", "edsr-s-x4 adapted to ×2")):
        network = bundled(name, 2)
        if network is None:
            continue
        groups[label] = rows = compare(store, "blur", label, on_set5(args, network, 2, BLUR))
        for over, asked in (("network", 2), ("projection", 1)):
            value = gain(rows, over)
            checks.append((f"{label} after blur: {asked} dB over {over}: {value:+.2f}", value >= asked))
    return table(groups), checks


def failed(args: argparse.Namespace, store: Rows) -> tuple[str, Checks]:
    """Take networks that darken or shift colour: output scaled, and scale surgery."""
    made: dict[str, tuple[int, Callable[[], Any]]] = {
        "EnhanceNet ×4, output × 0.8": (4, lambda: Darkened(enhancenet(args.data, 4), FAILED)),
        "edsr-s-x4, output × 0.8": (4, lambda: Darkened(bundled("edsr-s-x4"), FAILED)),
        "edsr-s-x4 adapted to ×2": (2, lambda: bundled("edsr-s-x4", 2)),
    }
    groups, checks = {}, []
    for label, (scale, make) in made.items():
        groups[label] = rows = compare(store, "failed", label, on_set5(args, make(), scale))
        value = gain(rows, "network")
        checks.append((f"{label}: 1.25 dB over the network: {value:+.2f}", value >= 1.25))
    return table(groups), checks


def noise(args: argparse.Namespace, store: Rows) -> tuple[str, Checks]:
    """Add Gaussian noise, its level told or not."""
    lines, checks = [], []
    for scale in (4, 2):
        network = enhancenet(args.data, scale)
        for sigma in SIGMAS:
            known, unknown = (noisy(args, store, network, scale, sigma, told) for told in (True, False))
            values = [mean(row[c] for row in known) for c in ("network", "projection", "default")]
            values += [mean(row[c] for row in unknown) for c in ("projection", "default")]
            lines.append([f"×{scale}, σ = {sigma:g}/255", *[f"{v:.2f}" for v in values]])
            text = f"×{scale}, σ = {sigma:g}/255: default no worse than the noise-aware projection by 0.1 dB"
            for told, rows in (("known", known), ("unknown", unknown)):
                worst = min(row["default"] - k["projection"] for row, k in zip(rows, known, strict=True))
                checks.append((f"{text}, level {told}: {worst:+.2f} on the worst image", worst >= -0.1))
    head = ["EnhanceNet", "network", "projection, σ told", "default, σ told", "projection", "default"]
    return markdown(head, lines), checks


def noisy(
    args: argparse.Namespace, store: Rows, network: Any, scale: int, sigma: float, told: bool
) -> list[dict[str, Any]]:
    rows = []
    told = told and sigma > 0
    given = {"noise": GaussianNoise(sigma=sigma / 255)} if told else {}
    for name in args.noisy:
        key = {"part": "noise", "scale": scale, "image": name, "sigma": sigma, "told": told}
        case = Case.load(args.data, name, scale).noisy(sigma / 255)
        rows.append(store.make(key, partial(measure, case, network, **given)))
    return rows


def same(args: argparse.Namespace, store: Rows) -> tuple[str, Checks]:
    """Run twice and compare the bits; compare the memory after 20 and 200 iterations."""
    row = store.make({"part": "same"}, partial(measure_sameness, args))
    checks = [
        ("Two runs of the default are bit-equal", row["equal"]),
        (f"Memory after 200 iterations beside 20: {row['grown']:+.1f} MB", row["grown"] < 10),
    ]
    line = [row["equal"], f"{row['memory'][0]:.0f}", f"{row['memory'][1]:.0f}"]
    return markdown(["bit-equal", "MB resident after 20 iterations", "after 200"], [line]), checks


def measure_sameness(args: argparse.Namespace) -> dict[str, Any]:
    case, network = Case.load(args.data, "butterfly", 4), enhancenet(args.data, 4)
    first, second = (drain(FineTune().steps(case.y, case.operator, network, rng=0)).image for _ in range(2))
    sizes = {}
    method = FineTune(iterations=200)
    for step in method.steps(case.y, case.operator, network, stop=Budget(iterations=10**6)):
        if step.index in (20, 200):
            gc.collect()
            sizes[step.index] = resident()
    return {
        "equal": torch.equal(first, second),
        "memory": [sizes[20], sizes[200]],
        "grown": sizes[200] - sizes[20],
    }


def resident() -> float:
    """Return the memory of this process that is in RAM, in MB."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["VmRSS"].split()[0]) / 1024


TITLES = {
    "models": "Bundled models, formation model as in training",
    "blur": f"Gaussian blur (σ = {BLUR}) before downsampling by 2, not seen in training",
    "failed": "Networks that darken or shift colour",
    "noise": "Gaussian noise, its level told or not",
    "same": "Same bits, same memory",
}
PARTS: dict[str, Callable[[argparse.Namespace, Rows], tuple[str, Checks]]] = {
    "models": models,
    "blur": blur,
    "failed": failed,
    "noise": noise,
    "same": same,
}


def main() -> int:
    args = parse(__doc__, parts=tuple(PARTS), images=SET5, noisy=("butterfly", "woman"))
    if is_missing(args.data / "set5", enhancenet_file(args.data)):
        return 0
    store = Rows(args.out / "finetune_robustness.jsonl", fresh=args.fresh)
    sections, checks = [], []
    for name in args.parts:
        text, found = PARTS[name](args, store)
        sections += [f"## {TITLES[name]}", text]
        checks += found
    note = (
        "PSNR in dB on Y, default settings throughout; projection is the one that knows of the rounding to 8 bits."
    )
    publish(args.out / "finetune_robustness.md", "Robustness", [note, *sections, verdicts(checks)])
    return 0 if all(good for _, good in checks) else 1


if __name__ == "__main__":
    raise SystemExit(main())
