"""Seconds of one iteration of the deep image prior: the skip network against the plain one, as the paper has it.

    python benchmarks/dip_speed.py [--data FOLDER] [--out FOLDER] [--threads 1] [--parts speed quality]

The plain loop is what one would write from the paper: torch's own layers, float32, its default layout and Adam.
All kinds take turns, iteration by iteration, so that other work on the machine meets all of them alike.
"""

from __future__ import annotations

import math
import statistics
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from _common import Case, Rows, is_missing, markdown, parse, publish, verdicts
from finetune_speed import peak
from torch import nn
from torch.nn import functional as F

from napari_fidelity.networks.untrained import Skip

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

CHANNELS, SCALES, WIDTH, THIN = 32, 5, 128, 4
SIGMA = 25 / 255
AVERAGE = 0.99
MOST_SHARE, MOST_LOSS = 0.5, 0.3  # of the plain loop's seconds; dB

KINDS = {
    "plain": "plain loop, float32",
    "plain bfloat16": "plain layers, bfloat16, channels-last",
    "float32": "ours, float32",
    "bfloat16": "ours, bfloat16",
}
Checks = list[tuple[str, bool]]


class Layer(nn.Module):
    """Reflection padding, convolution, batch normalisation, LeakyReLU."""

    def __init__(self, inputs: int, outputs: int, size: int, stride: int = 1) -> None:
        super().__init__()
        self.pad = nn.ReflectionPad2d(size // 2)
        self.conv = nn.Conv2d(inputs, outputs, size, stride)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # noqa: D102
        return F.leaky_relu(self.norm(self.conv(self.pad(x))), 0.2)


class Scale(nn.Module):
    """One scale, around the coarser one."""

    def __init__(self, inputs: int, coarser: nn.Module | None) -> None:
        super().__init__()
        self.skip = Layer(inputs, THIN, 1)
        self.halve, self.deepen = Layer(inputs, WIDTH, 3, 2), Layer(WIDTH, WIDTH, 3)
        self.norm = nn.BatchNorm2d(THIN + WIDTH)
        self.join, self.mix = Layer(THIN + WIDTH, WIDTH, 3), Layer(WIDTH, WIDTH, 1)
        self.coarser = [coarser]  # hidden, so that weights keep the names that ours have

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # noqa: D102
        deep = self.deepen(self.halve(x))
        if self.coarser[0] is not None:
            deep = self.coarser[0](deep)
        deep = F.interpolate(deep, scale_factor=2, mode="bilinear")
        return self.mix(self.join(self.norm(torch.cat([self.skip(x), deep], dim=1))))


class Plain(nn.Module):
    """The network of the paper, with the weights of ours."""

    def __init__(self, ours: nn.Module) -> None:
        super().__init__()
        self.scales = nn.ModuleList()
        for i in range(SCALES - 1, -1, -1):
            coarser = self.scales[0] if len(self.scales) else None
            self.scales.insert(0, Scale(WIDTH if i else CHANNELS, coarser))
        self.last = nn.Conv2d(WIDTH, 3, 1)
        unknown = self.load_state_dict(ours.state_dict(), strict=False).unexpected_keys
        if unknown:
            raise SystemExit(f"The networks differ: {unknown}")

    def forward(self, z: torch.Tensor) -> torch.Tensor:  # noqa: D102
        return torch.sigmoid(self.last(self.scales[0](z)))


def network(kind: str, size: int) -> nn.Module:
    ours = Skip().build(CHANNELS, 3, (size, size), torch.Generator().manual_seed(0))
    if not kind.startswith("plain"):
        return ours
    plain = Plain(ours)
    layout = torch.contiguous_format if kind == "plain" else torch.channels_last
    return plain.to(memory_format=layout)


def iterations(kind: str, y: torch.Tensor) -> Callable[[], torch.Tensor]:
    """Return one iteration of denoising as a function that returns the image."""
    size = y.shape[-1]
    fitted = network(kind, size)
    rng = torch.Generator().manual_seed(0)
    # Noise is drawn in the order in which it lies: torch draws into another layout nine times as slowly.
    shape, order = ((1, CHANNELS, size, size), (0, 1, 2, 3))
    if kind != "plain":
        shape, order = ((1, size, size, CHANNELS), (0, 3, 1, 2))
    z = 0.1 * torch.rand(shape, generator=rng).permute(order)
    optimizer = torch.optim.Adam(fitted.parameters(), lr=0.008, fused=None if kind == "plain" else True)

    def step() -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled="bfloat16" in kind):
            x = fitted(z + 0.033 * torch.randn(shape, generator=rng).permute(order)).float()
        loss = (x - y).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return x.detach()

    return step


# -- seconds ----------------------------------------------------------------------------------------------------


def speed(args: argparse.Namespace, store: Rows) -> tuple[str, Checks]:
    """Measure one iteration at 256²."""
    row = store.make({"part": "speed", "size": args.size}, partial(timed, args.size, args.rounds))
    lines = []
    for kind, title in KINDS.items():
        own = row[kind]
        rate = own["gflop"] / own["processor"]
        cells = [f"{own['processor']:.2f}", f"{own['wall']:.2f}", f"{own['share']:.2f}", f"{own['gflop']:.0f}"]
        lines.append(
            [title, *cells, *(f"{100 * rate / row[f'{dtype} peak']:.0f} %" for dtype in ("float32", "bfloat16"))]
        )
    head = ["one iteration", "processor s", "wall-clock s", "share of the plain loop's", "GFLOP"]
    table = markdown([*head, "of the float32 peak", "of the bfloat16 peak"], lines)
    peaks = f"A matrix product of 2048² reaches {row['float32 peak']:.0f} GFLOP/s in float32"
    peaks += (
        f" and {row['bfloat16 peak']:.0f} in bfloat16. Medians of {row['rounds']} rounds; shares are medians of"
    )
    peaks += " the rounds' shares, in processor seconds."
    share = row["bfloat16"]["share"]
    text = f"{args.size}², width {WIDTH}: at most half the seconds of the plain loop: {share:.2f}"
    return f"{table}\n\n{peaks}", [(text, share <= MOST_SHARE)]


def timed(size: int, rounds: int) -> dict[str, Any]:
    from torch.utils.flop_counter import FlopCounterMode

    y = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(1))
    steps = {kind: iterations(kind, y) for kind in KINDS}
    row: dict[str, Any] = {kind: {} for kind in KINDS} | {"rounds": rounds}
    for kind, step in steps.items():
        with FlopCounterMode(display=False) as counter:
            step()  # the first one fills the caches too
        row[kind]["gflop"] = round(counter.get_total_flops() / 1e9, 1)
    seconds: dict[str, list[tuple[float, float]]] = {kind: [] for kind in KINDS}
    for _ in range(rounds):
        for kind, step in steps.items():
            start = time.process_time(), time.perf_counter()
            step()
            seconds[kind].append((time.process_time() - start[0], time.perf_counter() - start[1]))
    for kind, found in seconds.items():
        shares = [own[0] / plain[0] for own, plain in zip(found, seconds["plain"], strict=True)]
        values = {"processor": [s[0] for s in found], "wall": [s[1] for s in found], "share": shares}
        row[kind] |= {name: round(statistics.median(value), 3) for name, value in values.items()}
    for dtype in (torch.float32, torch.bfloat16):
        row[f"{dtype}".removeprefix("torch.") + " peak"] = round(peak(dtype), 1)
    return row


# -- the same images --------------------------------------------------------------------------------------------


def quality(args: argparse.Namespace, store: Rows) -> tuple[str, Checks]:
    """Denoise a part of a photograph, the same iterations with each kind."""
    rows = {
        kind: store.make({"part": "quality", "kind": kind}, partial(denoised, args, kind))
        for kind in KINDS
        if kind != "plain bfloat16"
    }
    lines = [
        [KINDS[kind], f"{r['psnr']:.2f}", f"{r['average']:.2f}", f"{r['noisy']:.2f}"] for kind, r in rows.items()
    ]
    lost = rows["plain"]["average"] - rows["bfloat16"]["average"]
    text = (
        f"bfloat16 at most {MOST_LOSS} dB below the plain loop after {args.iterations} iterations: {-lost:+.2f} dB"
    )
    head = [
        "butterfly, part of 64², σ 25",
        "PSNR of the last output",
        "of the average (0.99)",
        "of the measurement",
    ]
    return markdown(head, lines), [(text, lost <= MOST_LOSS)]


def denoised(args: argparse.Namespace, kind: str) -> dict[str, Any]:
    truth = torch.from_numpy(Case.load(args.data, "butterfly", 1).truth[96:160, 96:160] / 255.0).float()
    truth = truth.movedim(-1, 0)[None]
    y = truth + SIGMA * torch.randn(truth.shape, generator=torch.Generator().manual_seed(2))
    step = iterations(kind, y)
    mean = step()
    for _ in range(args.iterations - 1):
        x = step()
        mean = AVERAGE * mean + (1 - AVERAGE) * x
    return {"psnr": level(x, truth), "average": level(mean, truth), "noisy": level(y, truth)}


def level(x: torch.Tensor, truth: torch.Tensor) -> float:
    """Return the PSNR over all channels, in dB."""
    return round(-10 * math.log10((x - truth).square().mean().item()), 3)


PARTS = {"speed": speed, "quality": quality}
TITLES = {"speed": "Seconds of one iteration", "quality": "The same images"}


def main() -> int:
    args = parse(__doc__, parts=tuple(PARTS), size=256, rounds=9, iterations=500)
    if "quality" in args.parts and is_missing(args.data / "set5"):
        args.parts = [part for part in args.parts if part != "quality"]
    store = Rows(args.out / "dip_speed.jsonl", fresh=args.fresh)
    sections, checks = [], []
    for name in args.parts:
        text, found = PARTS[name](args, store)
        sections += [f"## {TITLES[name]}", text]
        checks += found
    note = f"Skip network, width {WIDTH}, {SCALES} scales, {CHANNELS} → 3 channels; forward, backward, Adam."
    publish(
        args.out / "dip_speed.md", "One iteration of the deep image prior", [note, *sections, verdicts(checks)]
    )
    return 0 if all(good for _, good in checks) else 1


if __name__ == "__main__":
    raise SystemExit(main())
