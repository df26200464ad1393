"""Which idea of the default fine-tuning gave what: built up from plain eq. 1, and taken away one at a time.

python benchmarks/finetune_ablation.py [--data FOLDER] [--out FOLDER] [--images butterfly woman] [--measure 0]
"""

from __future__ import annotations

import copy
import itertools
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from _common import (
    Case,
    Rows,
    adam,
    enhancenet,
    enhancenet_file,
    follow,
    is_missing,
    markdown,
    parse,
    publish,
    steps,
)

from napari_fidelity.methods import FineTune, Project, project
from napari_fidelity.methods.views import VIEWS, from_view, to_view
from napari_fidelity.stopping import Budget

if TYPE_CHECKING:
    from collections.abc import Iterator

    from _common import Estimate

DEFAULT = FineTune()
PLAIN = FineTune.lucas2020(optimizer="adam", learning_rate=1e-4, iterations=DEFAULT.iterations)
RIDGE = 0.03  # times scale²: the default weight of the closed form

# Each line adds to the one before it; the last is the default.
ADDED: tuple[tuple[str, dict[str, Any]], ...] = (
    ("eq. 1, Adam 1e-4, float32", {}),
    ("+ bfloat16 where it is faster", {"precision": "auto"}),
    ("+ last layer in closed form", {"last_layer": "solve"}),
    ("+ the image's coarser copy", {"pairs": None}),
    ("+ projection", {"project": True}),
    ("+ eight views", {"views": 8}),
    ("+ average over the iterations", {"average": True}),
    ("+ cosine schedule from 1.5e-4", {"schedule": "cosine", "learning_rate": 1.5e-4}),
    ("+ shorter steps where little is to be learnt (the default)", {"adaptive": True}),
)
TAKEN: tuple[tuple[str, dict[str, Any]], ...] = (
    ("no closed form: last layer moves by steps", {"last_layer": "descend"}),
    ("no coarser copy", {"pairs": 0.0}),
    ("one view", {"views": 1}),
    ("no average", {"average": False}),
    ("neither views nor average", {"views": 1, "average": False}),
    ("no projection", {"project": False}),
    ("float32", {"precision": "float32"}),
    ("steps at full length", {"adaptive": False}),
    ("constant learning rate", {"schedule": "constant"}),
    ("learning rate 0.5e-4", {"learning_rate": 0.5e-4}),
    ("learning rate 3e-4", {"learning_rate": 3e-4}),
    ("7 steps", {"iterations": 7}),
    ("31 steps", {"iterations": 31}),
    ("moving nothing but the closed form, 8 views", {"parameters": "last", "iterations": 7}),
    ("moving the first quarter of the layers", {"parameters": "first"}),
    ("moving norms and biases", {"parameters": "norm_bias"}),
    ("moving a change of rank 4", {"parameters": "low_rank"}),
)
AVERAGED = (0, 11, 40)  # plain steps before the average over the views: what the average alone is worth
FACTORS = (0.1, 1 / 3, 1.0, 3.0, 10.0)


def settings(scale: int) -> dict[str, Any]:
    """Return every variant by name."""
    methods: dict[str, Any] = {"projection": Project()}
    methods |= {f"eq. 1, {n} steps of Adam 1e-4, then eight views, projection": n for n in AVERAGED}
    grown: dict[str, Any] = {}
    for name, change in ADDED:
        grown = grown | change
        methods[name] = PLAIN.replace(**grown)
    methods |= {f"default, {name}": DEFAULT.replace(**change) for name, change in TAKEN}
    for factor in FACTORS:
        ridge = RIDGE * scale**2 * factor
        methods[f"closed form alone, λ × {factor:.2g}"] = DEFAULT.replace(iterations=0, ridge=ridge)
        if factor != 1:
            methods[f"default, λ × {factor:.2g}"] = DEFAULT.replace(ridge=ridge)
    return methods


def tuned_then_averaged(case: Case, network: Any, n_steps: int) -> Iterator[Estimate]:
    """Yield the plain network after ``n_steps`` steps of eq. 1, averaged over the views and projected."""
    network = copy.deepcopy(network).requires_grad_(True)
    optimizer = adam(network.parameters())
    for _ in range(n_steps):
        loss = (case.operator.A(network(case.y)) - case.y).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        images = [from_view(network(to_view(case.y, view)), view) for view in VIEWS]
        image = project(torch.stack(images).mean(0), case.y, case.operator)
    yield lambda: image


def measure(case: Case, network: Any, method: Any) -> dict[str, Any]:
    if isinstance(method, int):
        trace = follow(tuned_then_averaged(case, network, method), case)
    else:
        trace = follow(steps(method, case, network, stop=Budget(iterations=10**6)), case)
    return {"psnr": round(trace.psnr[-1], 3), "seconds": round(trace.seconds[-1], 2), "curve": trace.row()["psnr"]}


def report(store: Rows, scales: tuple[int, ...], images: tuple[str, ...]) -> str:
    """Return the table: two columns per measurement, PSNR with its distance to the default's, and seconds."""
    head, lines = ["variant"], [[name] for name in settings(scales[0])]
    for image, scale in itertools.product(images, scales):
        head += [f"×{scale} {image}", "s"]
        default = store.find(variant=ADDED[-1][0], scale=scale, image=image)
        for line in lines:
            row = next(iter(store.find(variant=line[0], scale=scale, image=image)), None)
            if row is None or not default:
                line += ["", ""]
            else:
                line += [f"{row['psnr']:.2f} ({row['psnr'] - default[0]['psnr']:+.2f})", f"{row['seconds']:.1f}"]
    return markdown(head, lines)


def main() -> int:
    args = parse(__doc__, scales=(4, 2), images=("butterfly", "woman"), measure=1)
    if is_missing(args.data / "set5", enhancenet_file(args.data)):
        return 0
    store = Rows(args.out / "finetune_ablation.jsonl", fresh=args.fresh)
    for image, scale in itertools.product(args.images, args.scales) if args.measure else ():
        case, network = Case.load(args.data, image, scale), enhancenet(args.data, scale)
        for name, method in settings(scale).items():
            key = {"scale": scale, "image": image, "variant": name}
            store.make(key, partial(measure, case, network, method))
    note = (
        "EnhanceNet: PSNR in dB on Y after the last step, in brackets its distance from the default's, and "
        f"seconds; {DEFAULT.iterations} steps, without early stop, where nothing else is said. λ is the ridge of "
        "the closed form, 0.03·scale² by default. The colour matrix belongs to the closed form. Empty: unmeasured."
    )
    parts = [note, report(store, args.scales, args.images)]
    publish(args.out / "finetune_ablation.md", "Which idea gave what", parts)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
