"""Every architecture that spandrel knows, small and with random weights: loads, runs, learns, projects.

``python benchmarks/architectures.py`` builds each network with spandrel's own class, saves its weights, and loads
the file as any user would. Each is looked at in a process of its own, of bounded time and memory.
"""

from __future__ import annotations

import multiprocessing
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _architectures import CASES, build, label
from _common import Rows, markdown, parse, publish, verdicts
from safetensors.torch import save_file

import napari_fidelity as nf
from napari_fidelity.core.errors import FidelityError
from napari_fidelity.io import load_model
from napari_fidelity.operators import Downsample, GaussianBlur, Operator

SIZE = (33, 29)  # pixels of the measurement: odd, and a multiple of nothing
SECONDS = 40  # of processor time for each network
MEMORY = 6 * 2**30  # bytes beyond what the process has mapped before
STEPS = nf.FineTune(
    iterations=2, learning_rate=1e-5, schedule="constant", last_layer="descend", adaptive=False, pairs=0, views=1,
    average=False, reads="measurement", precision="float32", project=False,
)  # fmt: skip


def measure(architecture: str, name: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Return what became of one network, measured in a process that may die."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_measure_within_limits, args=(sender, architecture, name, settings))
    child.start()
    sender.close()
    try:
        return receiver.recv()
    except EOFError:
        child.join()
        return {"loads": f"no: the process ended with code {child.exitcode} (more than {SECONDS} s?)"}
    finally:
        child.join()


def _measure_within_limits(sender: Any, *case: Any) -> None:
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + MEMORY, mapped + MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time()) + SECONDS,) * 2)
    sender.send(look(*case))


def look(architecture: str, name: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Return a row: loaded as what, and what works with it."""
    weights = {k: v.contiguous().clone() for k, v in build(architecture, name, settings).state_dict().items()}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.safetensors"
        save_file(weights, path)
        started = time.process_time()
        try:
            network = load_model(path)
        except FidelityError as error:
            return {"loads": f"no: {error}"}
    info = network.info
    row: dict[str, Any] = {
        "loads": "yes", "seconds": round(time.process_time() - started, 2), "detected": info.architecture,
        "by": info.format, "scale": info.scale, "channels": info.n_channels, "multiple": info.size_multiple,
        "smallest": info.smallest, "square": getattr(network, "square", False), "parameters": info.n_parameters,
        "closed_form": network.last_layer is not None,
    }  # fmt: skip
    operator = Downsample(scale=info.scale) if info.scale > 1 else GaussianBlur(sigma=1.0)
    y = _measurement(info.n_channels, operator, info.scale)
    row |= _runs(network, y)
    row["projects"] = _projects(network, y, operator)
    row["learns"] = _learns(network, y, operator)
    return row


def _measurement(channels: int, operator: Operator, scale: int) -> torch.Tensor:
    rows, columns = (np.linspace(0, 9, n * scale) for n in SIZE)
    waves = [np.sin(rows[:, None] * (1 + c)) * np.cos(columns * (2 - c / 2)) for c in range(channels)]
    return operator.A(torch.from_numpy(0.5 + 0.3 * np.stack(waves)[None]).float())


def _runs(network: Any, y: torch.Tensor) -> dict[str, Any]:
    try:
        with torch.no_grad():
            x = network(torch.cat([y, y.flip(-1)]))  # two at once, as each image's own result
            apart = network(y)
    except (FidelityError, RuntimeError) as error:
        return {"runs": f"no: {error}"}
    wanted = (2, y.shape[1], *(network.scale * n for n in y.shape[2:]))
    if tuple(x.shape) != wanted or not bool(x.isfinite().all()):
        return {"runs": f"no: {tuple(x.shape)} instead of {wanted}, or not finite"}
    return {"runs": "yes", "batch": round(float((x[:1] - apart).abs().max()), 6)}


def _projects(network: Any, y: torch.Tensor, operator: Operator) -> str:
    levels = []
    for method in (nf.Apply(), nf.Project(ridge=0)):
        try:
            result = _drained(method.steps(y, operator, network))
        except FidelityError as error:
            return f"no: {error}"
        levels.append(result.history[-1].scores["lr_psnr"])
    return f"{levels[0]:.1f} → {levels[1]:.1f}" if levels[1] > levels[0] else f"no: {levels}"


def _learns(network: Any, y: torch.Tensor, operator: Operator) -> str:
    try:
        losses = [record.loss for record in _drained(STEPS.steps(y, operator, network)).history]
    except FidelityError as error:
        return f"no: {error.found or error}"
    change = 100 * (losses[-1] / losses[0] - 1)
    return f"{change:+.2g} %" if losses[-1] < losses[0] else f"no: the loss grew, {change:+.2g} %"


def _drained(steps: Any) -> Any:
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def table(rows: list[dict[str, Any]]) -> str:
    """Return the table of those that load."""
    head = ["network", "loaded as", "scale", "channels", "sizes", "runs 33 × 29", "closed form", "loss in 2 steps",
            "data term, dB", "load, s"]  # fmt: skip
    cells = []
    for row in rows:
        if row["loads"] != "yes":
            continue
        sizes = [f"multiples of {row['multiple']}"] * (row["multiple"] > 1)
        sizes += [f"≥ {row['smallest']}"] * (row["smallest"] > 1) + ["square"] * row["square"]
        cells.append(
            [row["case"], f"{row['detected']} ({row['by']})", f"×{row['scale']}", row["channels"],
             ", ".join(sizes) or "any", row["runs"], "yes" if row["closed_form"] else "no", row["learns"],
             row["projects"], f"{row['seconds']:.2f}"]
        )  # fmt: skip
    return markdown(head, cells)


def main() -> None:
    args = parse(__doc__)
    rows = Rows(args.out / "architectures.jsonl", fresh=args.fresh)
    found = []
    for architecture, name, settings in CASES:
        key = {"architecture": architecture, "case": label(architecture, name, settings)}
        found.append(rows.make(key, lambda case=(architecture, name, settings): measure(*case)))
    good = [row for row in found if row["loads"] == "yes"]
    refused = [f"- {row['case']}: {row['loads'].removeprefix('no: ')}" for row in found if row not in good]
    missing = _not_covered()
    checks = [
        (
            f"every architecture of spandrel's list is here ({len({row['architecture'] for row in found})})",
            not missing,
        ),
        ("every one that loads runs at 33 × 29 pixels", all(row["runs"] == "yes" for row in good)),
        ("projection brings every one nearer to its data", all("→" in row["projects"] for row in good)),
    ]
    learn = sum("%" in row["learns"] and "no" not in row["learns"] for row in good)
    note = (
        "Small networks with random weights, saved as .safetensors and loaded by `load_model`. Loss in 2 steps: "
        "of fine-tuning with Adam, 1e-5. Data term: LR-PSNR of the network's output, and after projection. Sizes: "
        f"what images are padded to. {len(good)} of {len(found)} networks load, {learn} of these learn."
    )
    parts = [note, table(found), "Refused, with the error that says so:", "\n".join(refused), verdicts(checks)]
    publish(args.out / "architectures.md", "Architectures", parts)
    if not all(met for _, met in checks):
        raise SystemExit(1)


def _not_covered() -> set[str]:
    from spandrel import MAIN_REGISTRY

    return {entry.architecture.id for entry in MAIN_REGISTRY} - {architecture for architecture, _, _ in CASES}


if __name__ == "__main__":
    main()
