"""What dropout passes cost: against plain passes of the same network, and whether memory grows with their number.

    python benchmarks/uncertainty_speed.py [--data FOLDER] [--out FOLDER] [--threads 1] [--parts passes map memory]

Plain and dropped passes take turns, so that other work on the machine meets both alike; the share is the median of
that of all pairs. A plain pass is the network alone, in the same arithmetic and layout.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from _common import (
    Case,
    Rows,
    bundled,
    clock,
    enhancenet,
    enhancenet_file,
    is_missing,
    markdown,
    parse,
    publish,
    verdicts,
)

from napari_fidelity.core.precision import autocast
from napari_fidelity.core.step import drain
from napari_fidelity.methods import Apply
from napari_fidelity.networks.dropout import dropout, places_of
from napari_fidelity.operators import Downsample
from napari_fidelity.uncertainty import Dropout

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

P, PASSES = 0.0005, 50
MOST = 1.2  # times the seconds of plain passes
MOST_GROWTH = 0.02  # of the resident memory, from few passes to many
NUMBERS = (50, 400)  # of passes whose memory is compared

CASES = {
    "EnhanceNet ×4, blocks": ("enhancenet", 4, "blocks"),
    "EnhanceNet ×4, convolutions": ("enhancenet", 4, "convolutions"),
    "edsr-s-x2, blocks": ("edsr-s-x2", 2, "blocks"),
}
Checks = list[tuple[str, bool]]


def loaded(data: Path, name: str, scale: int) -> torch.nn.Module | None:
    network = enhancenet(data, scale) if name == "enhancenet" else bundled(name)
    return None if network is None else network.to(memory_format=torch.channels_last)


# -- one pass ---------------------------------------------------------------------------------------------------


def passes(args: argparse.Namespace, store: Rows) -> tuple[str, Checks]:
    """Measure single passes in pairs."""
    lines, checks = [], []
    for title in CASES:
        for precision in ("float32", "bfloat16"):
            key = {"part": "passes", "case": title, "precision": precision}
            row = store.make(key, partial(paired, args.data, title, precision, args.rounds))
            cells = [f"{1000 * row[kind]:.0f}" for kind in ("plain", "dropped")]
            lines.append([f"{title}, {precision}", str(row["places"]), *cells, f"{row['share']:.3f}"])
            checks.append((f"{title}, {precision}: at most {MOST} times a plain pass: {row['share']:.3f}",
                           row["share"] <= MOST))  # fmt: skip
    head = ["butterfly", "places", "plain pass, ms", "with dropout, ms", "share"]
    return markdown(head, lines), checks


@torch.no_grad()
def paired(data: Path, title: str, precision: str, rounds: int) -> dict[str, Any]:
    name, scale, place = CASES[title]
    case, network = Case.load(data, "butterfly", scale), loaded(data, name, scale)
    if network is None:
        raise SystemExit(f"{name} is missing")
    y, rng = case.y.contiguous(memory_format=torch.channels_last), torch.Generator().manual_seed(0)
    places = places_of(network, place, lambda: network(y))

    def plain() -> None:
        with autocast(precision, y.device):
            network(y)

    def dropped() -> None:
        with dropout(places, P, rng):
            plain()

    seconds: dict[str, list[float]] = {"plain": [], "dropped": []}
    for number in range(rounds + 1):
        for kind, run in (("plain", plain), ("dropped", dropped)):
            start = clock()
            run()
            seconds[kind].append(clock() - start)
        if not number:  # the first fills the caches
            seconds = {"plain": [], "dropped": []}
    shares = [b / a for a, b in zip(*seconds.values(), strict=True)]
    medians = {kind: round(statistics.median(values), 4) for kind, values in seconds.items()}
    return {**medians, "share": round(statistics.median(shares), 4), "places": len(places), "rounds": rounds}


# -- the whole map ----------------------------------------------------------------------------------------------


def whole(args: argparse.Namespace, store: Rows) -> tuple[str, Checks]:
    """Measure the map of 50 passes against 50 plain passes, everything included."""
    row = store.make({"part": "map", "passes": PASSES}, partial(whole_map, args.data))
    text = f"{PASSES} passes as a map at most {MOST} times {PASSES} plain passes: {row['share']:.3f}"
    cells = [f"{row[kind]:.2f}" for kind in ("plain", "map")]
    table = markdown(["butterfly ×4, EnhanceNet", f"{PASSES} plain passes, s", "map, s", "share"],
                     [["float32", *cells, f"{row['share']:.3f}"]])  # fmt: skip
    return table, [(text, row["share"] <= MOST)]


def whole_map(data: Path) -> dict[str, Any]:
    case, network = Case.load(data, "butterfly", 4), loaded(data, "enhancenet", 4)
    y = case.y.contiguous(memory_format=torch.channels_last)
    options = Dropout(of=Apply(), p=P, passes=PASSES, precision="float32")
    steps = options.steps(case.y, case.operator, network)
    before = clock()
    next(steps), next(steps)  # the copy of the network, the judged result, and the first pass
    seconds = {"map": clock() - before, "plain": 0.0}
    for number in range(PASSES):
        start = clock()
        with torch.no_grad():
            network(y)
        between = clock()
        if number + 1 < PASSES:
            next(steps)
        else:
            drain(steps)
        seconds["plain"] += between - start
        seconds["map"] += clock() - between
    return {kind: round(value, 3) for kind, value in seconds.items()} | {
        "share": round(seconds["map"] / seconds["plain"], 4)
    }


# -- memory -----------------------------------------------------------------------------------------------------


def memory(args: argparse.Namespace, store: Rows) -> tuple[str, Checks]:
    """Compare the largest resident memory of few passes and of many, each in a process of its own."""
    row = store.make({"part": "memory"}, partial(resident, args.data))
    few, many = (row[str(number)] for number in NUMBERS)
    text = f"resident memory after {NUMBERS[1]} passes as after {NUMBERS[0]}: {few:.0f} MB and {many:.0f} MB"
    lines = [[str(number), f"{row[str(number)]:.0f}"] for number in NUMBERS]
    return markdown(["passes", "largest resident memory, MB"], lines), [(text, many <= (1 + MOST_GROWTH) * few)]


def resident(data: Path) -> dict[str, Any]:
    row = {}
    for number in NUMBERS:
        command = [sys.executable, __file__, "--data", str(data), "--parts", "child", "--rounds", str(number)]
        row[str(number)] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return row


def child(args: argparse.Namespace) -> float:
    """Return the largest resident memory of this process in MB after a map."""
    import resource

    torch.manual_seed(0)
    network = bundled("edsr-s-x2")
    y = torch.rand(1, 3, 128, 128)
    drain(Dropout(of=Apply(), passes=args.rounds).steps(y, Downsample(scale=2), network))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


PARTS = {"passes": passes, "map": whole, "memory": memory}
TITLES = {"passes": "Single passes", "map": "The whole map", "memory": "Memory"}


def main() -> int:
    args = parse(__doc__, parts=tuple(PARTS), rounds=25)
    if args.parts == ["child"]:
        print(json.dumps(child(args)))
        return 0
    if is_missing(args.data / "set5", enhancenet_file(args.data)):
        return 0
    store = Rows(args.out / "uncertainty_speed.jsonl", fresh=args.fresh)
    sections, checks = [], []
    for name in args.parts:
        text, found = PARTS[name](args, store)
        sections += [f"## {TITLES[name]}", text]
        checks += found
    note = f"Dropout with p = {P} behind every place, one image, elements drawn as positions instead of a mask."
    publish(args.out / "uncertainty_speed.md", "What dropout passes cost", [note, *sections, verdicts(checks)])
    return 0 if all(good for _, good in checks) else 1


if __name__ == "__main__":
    raise SystemExit(main())
