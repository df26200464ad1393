"""Every denoiser by itself on Gaussian noise of 25 of 255, clipped: PSNR over RGB and seconds.

``python benchmarks/denoisers.py`` measures what is missing in the results and prints the table.
"""

from __future__ import annotations

from typing import Any

from _common import Rows, bundled, clock, markdown, mean, parse, publish
from _reconstruction import SIGMA, Problem, denoising

from napari_fidelity.denoisers import DENOISERS, NLM, Denoiser, NetworkDenoiser, Wavelet, describe

NETWORKS = ("drunet-s", "edsr-s-x1")


def contenders() -> list[tuple[str, Denoiser, Any]]:
    """Return name, denoiser and network of each row."""
    found = [(cls.title, cls(), None) for cls in DENOISERS if not cls.needs_network]
    found.append(("non-local means, each channel by itself", NLM(joint=False), None))
    found.append(("wavelet shrinkage without shifts", Wavelet(shifts=1), None))
    networks = ((name, bundled(name)) for name in NETWORKS)
    return found + [(f"network {name}", NetworkDenoiser(), network) for name, network in networks if network]


def measure(problem: Problem, denoiser: Denoiser, network: Any) -> dict[str, Any]:
    """Return PSNR and seconds of the second run; the first one imports and fills caches."""
    for _ in range(2):
        start = clock()
        image = denoiser.denoise(problem.y, SIGMA, network)
        seconds = clock() - start
    return {"psnr": round(problem.score(image), 2), "seconds": round(seconds, 3)}


def main() -> None:
    args = parse(__doc__)
    rows = Rows(args.out / "denoisers.jsonl", fresh=args.fresh)
    problems = list(denoising(args.data))
    table = []
    for name, denoiser, network in contenders():
        found = [
            rows.make(
                {"denoiser": name, "options": describe(denoiser), "image": problem.name},
                lambda p=problem, d=denoiser, n=network: measure(p, d, n),
            )
            for problem in problems
        ]
        scores = [row["psnr"] for row in found]
        seconds = mean(row["seconds"] for row in found)
        table.append([name, *(f"{value:.2f}" for value in (*scores, mean(scores))), f"{seconds:.2f}"])
    table.sort(key=lambda row: -float(row[-2]))
    head = ["denoiser", *(problem.name for problem in problems), "mean", "seconds"]
    noisy = [f"{problem.score(problem.y):.2f}" for problem in problems]
    note = "PSNR in dB over RGB, 256 × 256 pixels; as measured " + ", ".join(noisy) + "."
    publish(args.out / "denoisers.md", "Denoisers alone", [note, markdown(head, table)])


if __name__ == "__main__":
    main()
