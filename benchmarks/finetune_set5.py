"""EnhanceNet with the published weights on Set5: from the network's own output to the fine-tuned image.

python benchmarks/finetune_set5.py [--data FOLDER] [--out FOLDER] [--threads 1] [--scales 4 2 3]
"""

from __future__ import annotations

from functools import partial
from typing import Any

from _common import (
    SET5,
    Case,
    Rows,
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

from napari_fidelity.methods import FineTune, Project

METHODS = {
    "projection": Project(),
    "start": FineTune(iterations=0),
    "views": FineTune(parameters="last", iterations=7),
    "default": FineTune(),
}
HEAD = [
    "image", "bicubic", "network", "projection", "s", "closed form", "s", "8 views, no steps", "s", "default", "s",
    "best iteration", "gap",
]  # fmt: skip
ENDS = {4: 30.0, 2: 35.8}


def measure(data: Any, name: str, scale: int) -> dict[str, Any]:
    case, network = Case.load(data, name, scale), enhancenet(data, scale)
    row: dict[str, Any] = {"bicubic": case.bicubic(), "network": case.psnr(network(case.y))}
    follow(steps(METHODS["start"], case, network), case)  # fills caches
    for method, settings in METHODS.items():
        trace = follow(steps(settings, case, network), case)
        row |= {method: trace.psnr[-1], f"{method}_seconds": trace.seconds[-1]}
    row |= {"best": max(trace.psnr), "best_at": trace.psnr.index(max(trace.psnr)), "curve": trace.row()["psnr"]}
    return {key: round(value, 3) if isinstance(value, float) else value for key, value in row.items()}


def table(rows: list[dict[str, Any]]) -> str:
    columns = ["bicubic", "network"]
    for method in METHODS:
        columns += [method, f"{method}_seconds"]
    lines = [[row["image"], *[f"{row[c]:.2f}" for c in columns], *best(row)] for row in rows]
    middle = [f"{mean(row[c] for row in rows):.2f}" for c in columns]
    lines.append(["**mean**", *middle, f"{mean(row['best'] for row in rows):.2f}", ""])
    return markdown(HEAD, lines)


def best(row: dict[str, Any]) -> list[str]:
    return [f"{row['best']:.2f} ({row['best_at'] + 1})", f"{row['best'] - row['default']:.2f}"]


def main() -> int:
    args = parse(__doc__, scales=(4, 2, 3), images=SET5)
    if is_missing(args.data / "set5", enhancenet_file(args.data)):
        return 0
    store = Rows(args.out / "finetune_set5.jsonl", fresh=args.fresh)
    parts, checks = [], []
    for scale in args.scales:
        rows = []
        for name in args.images:
            key = {"scale": scale, "image": name}
            rows.append(store.make(key, partial(measure, args.data, name, scale)))
        parts += [f"## ×{scale}", table(rows)]
        begin, end, projected = (mean(row[c] for row in rows) for c in ("network", "default", "projection"))
        if scale == 4:
            checks.append((f"×4 begins at 28.85 ± 0.03 dB: {begin:.2f}", abs(begin - 28.85) <= 0.03))
        if scale in ENDS:
            text = (
                f"×{scale} ends at {ENDS[scale]} dB or better: {end:.2f} ({end - projected:+.2f} over projection)"
            )
            checks.append((text, end >= ENDS[scale]))
        gap = max(row["best"] - row["default"] for row in rows)
        checks.append((f"×{scale} ends within 0.1 dB of the best iteration on every image: {gap:.2f}", gap <= 0.1))
    note = (
        "PSNR in dB on Y, seconds (s) until the image was there; best iteration: its PSNR and number of those the "
        "default ran, and how far the end lies below it."
    )
    publish(args.out / "finetune_set5.md", "EnhanceNet on Set5", [note, *parts, verdicts(checks)])
    return 0 if all(good for _, good in checks) else 1


if __name__ == "__main__":
    raise SystemExit(main())
