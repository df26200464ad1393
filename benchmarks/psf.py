"""Blur estimated from the measurement alone: kernels, what fine-tuning makes of them, beads, micrographs.

python benchmarks/psf.py [--data FOLDER] [--out FOLDER] [--parts kernels finetune range beads micrographs]

Blurs: Gaussians whose two variances are uniform in [0.35, 5] px² of the true image (0.59 to 2.24 px) at a uniform
angle, seeds 0 to 9; then bicubic downsampling by 2 and Gaussian noise of 1/255. The method was set up on the
images of color9_part, ncsr_part/leaves.png and synthetic scenes (seeds 1000 to 1009); the tables are of Set5.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from _common import (
    SET5,
    Case,
    Rows,
    bundled,
    clock,
    follow,
    is_missing,
    markdown,
    mean,
    parse,
    publish,
    steps,
    verdicts,
)
from skimage.io import imread

from napari_fidelity.core.blocks import to_channel_last
from napari_fidelity.core.errors import ImageError
from napari_fidelity.methods import FineTune
from napari_fidelity.operators import AiryBlur, Blur, Downsample, Operator
from napari_fidelity.operators.estimation import correlation, estimate_psf
from napari_fidelity.operators.psf import defocus, fwhm, gaussian_of

if TYPE_CHECKING:
    from pathlib import Path

SEEDS = range(10)
NOISE = 1 / 255
KINDS = ("gaussian", "free")
MODELS = ("true", "none", *KINDS)
PIXEL, WAVELENGTH, APERTURE = 65.0, 520.0, 1.4  # nm, nm, of the simulated beads
MICROGRAPHS = ("w2s_020_1_{}_u8.tif", "w2s_044_0_{}_u8.tif", "fmd_bpae_{}_u8.png", "bacteria_{}_u16.png")
AVERAGED = {"w2s": "avg400", "fmd": "avg50", "bac": "clean"}

Checks = list[tuple[str, bool]]


def covariance(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    variances, angle = rng.uniform(0.35, 5.0, 2), rng.uniform(0, np.pi)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return turn * variances @ turn.T


def blurred(data: Path, name: str, blur: Operator, seed: int, noise: float = NOISE, scale: int = 2) -> Case:
    """Return a Set5 image seen through a blur, sampled more coarsely, with noise."""
    image = imread(data / "set5" / f"{name}.png")[..., :3]
    truth = image[: image.shape[0] // scale * scale, : image.shape[1] // scale * scale]
    operator = Downsample(scale=scale) @ blur if scale > 1 else blur
    x = torch.from_numpy(np.moveaxis(truth, -1, 0)[None] / 255)
    y = operator.A(x)
    y = y + noise * torch.randn(y.shape, generator=torch.Generator().manual_seed(seed), dtype=y.dtype)
    return Case(name, scale, truth, y.float(), operator)


def as_array(case: Case) -> np.ndarray:
    return np.asarray(to_channel_last(case.y), np.float64)


# -- parts ------------------------------------------------------------------------------------------------------


def kernels(args: Any, store: Rows) -> tuple[str, Checks]:
    """Measure the correlation of estimated with true kernels."""
    lines, found = [], {kind: [] for kind in KINDS}
    for seed in SEEDS:
        rows = []
        for i, name in enumerate(args.images):
            kinds = KINDS if i == seed % len(args.images) else ("gaussian",)  # the free kernel takes its time
            key = {"part": "kernels", "seed": seed, "image": name}
            rows.append(store.make(key, partial(kernel, args.data, name, seed, kinds)))
        values = {kind: [row[kind] for row in rows if kind in row] for kind in KINDS}
        for kind in KINDS:
            found[kind] += values[kind]
        sigma = np.sqrt(np.linalg.eigvalsh(covariance(seed)))
        widths, scores = ([row[c] for row in rows] for c in ("width", "score"))
        numbers = [mean(values["gaussian"]), min(values["gaussian"]), mean(widths), mean(scores), *values["free"]]
        lines.append([str(seed), f"{sigma[1]:.2f} × {sigma[0]:.2f}", *(f"{n:.3f}" for n in numbers)])
    head = ["seed", "σ in px", "Gaussian", "least", "width over true width", "its own score", "free, one image"]
    seconds = {
        kind: mean(row[f"{kind}_seconds"] for row in store.rows if f"{kind}_seconds" in row) for kind in KINDS
    }
    text = (
        f"Correlation with the true kernel, mean over {len(args.images)} images; Gaussian "
        f"{seconds['gaussian']:.1f} s, free {seconds['free']:.1f} s an image.\n\n"
    )
    good = mean(found["gaussian"])
    checks = [(f"correlation of the Gaussian at least 0.9 on average: {good:.3f}", good >= 0.9)]
    lines.append(
        ["**mean**", "", f"{good:.3f}", f"{min(found['gaussian']):.3f}", "", "", f"{mean(found['free']):.3f}"]
    )
    return text + markdown(head, lines), checks


def kernel(data: Path, name: str, seed: int, kinds: tuple[str, ...]) -> dict[str, Any]:
    true = gaussian_of(covariance(seed))
    image = as_array(blurred(data, name, Blur(kernel=true), seed))
    row: dict[str, Any] = {}
    for kind in kinds:
        start = clock()
        estimate = estimate_psf(image, kind, scale=2)  # type: ignore[arg-type]
        row |= {f"{kind}_seconds": round(clock() - start, 2), kind: round(correlation(estimate.kernel, true), 4)}
        if kind == "gaussian":
            p = estimate.parameters
            ratio = np.sqrt(p["sigma_major"] * p["sigma_minor"]) / np.linalg.det(covariance(seed)) ** 0.25
            row |= {"width": round(float(ratio), 3), "score": round(estimate.score, 3)}
    return row


def finetune(args: Any, store: Rows) -> tuple[str, Checks]:
    """Fine-tune with the true blur, with the estimated ones, and with none."""
    network = bundled("edsr-s-x2")
    lines, gains = [], {model: [] for model in MODELS}
    for seed in SEEDS:
        name = args.images[seed % len(args.images)]
        key = {"part": "finetune", "seed": seed, "image": name}
        rows = {
            m: store.make(key | {"model": m}, partial(tuned, args.data, name, seed, m, network)) for m in MODELS
        }
        gain = {model: row["psnr"] - row["network"] for model, row in rows.items()}
        for model in MODELS:
            gains[model].append(gain[model])
        shares = [f"{100 * gain[kind] / gain['true']:.0f} %" for kind in KINDS]
        before = rows["true"]["network"]
        lines.append(
            [f"{seed}, {name}", *(f"{n:.2f}" for n in (before, *(before + gain[m] for m in MODELS))), *shares]
        )
    kept = {kind: mean(gains[kind]) / mean(gains["true"]) for kind in KINDS}
    means = [f"{mean(gains[model]):+.2f}" for model in MODELS]
    lines.append(["**mean gain**", "", *means, *(f"{100 * kept[kind]:.0f} %" for kind in KINDS)])
    head = ["seed, image", "network", "true", "blur not known", "Gaussian", "free", "Gaussian keeps", "free keeps"]
    text = "PSNR in dB on Y after the default fine-tuning; kept: share of the gain with the true kernel.\n\n"
    checks = [
        (f"the Gaussian keeps at least 70 % of the gain: {100 * kept['gaussian']:.0f} %", kept["gaussian"] >= 0.7)
    ]
    return text + markdown(head, lines), checks


def tuned(data: Path, name: str, seed: int, model: str, network: Any) -> dict[str, float]:
    case = blurred(data, name, Blur(kernel=gaussian_of(covariance(seed))), seed)
    if model in KINDS:
        operator = estimate_psf(as_array(case), model, scale=2).operator  # type: ignore[arg-type]
    else:
        operator = case.operator if model == "true" else Downsample(scale=2)
    told = Case(name, 2, case.truth, case.y, operator)
    final = follow(steps(FineTune(), told, network), told).psnr[-1]
    return {"network": round(case.psnr(network(case.y)), 3), "psnr": round(final, 3)}


def range_of_blurs(args: Any, store: Rows) -> tuple[str, Checks]:
    """Go beyond what was asked for: other families, widths, scales and noise levels."""
    blurs = {
        "Gaussian, σ = 1 × 2 px": (gaussian_of(np.diag([1.0, 4.0])), "gaussian"),
        "Gaussian, σ = 3 × 4.5 px": (gaussian_of(np.diag([9.0, 20.25])), "gaussian"),
        "Airy, λ/NA = 6 px": (
            AiryBlur(wavelength=600, numerical_aperture=1, pixel_size=100).kernel_array(2),
            "airy",
        ),
        "defocus, radius 3 px": (defocus(3.0), "defocus"),
    }
    lines = []
    for label, (true, kind) in blurs.items():
        for scale in (1, 2):
            cells = []
            for noise in (0, 1, 5, 10):
                key = {"part": "range", "blur": label, "scale": scale, "noise": noise}
                cells.append(store.make(key, partial(correlations, args, true, kind, scale, noise / 255)))
            lines.append([f"{label}, ×{scale}", *(cell(c) for c in cells)])
    head = ["blur, scale", *(f"σ = {n}/255" for n in (0, 1, 5, 10))]
    return "Correlation with the true kernel, mean (least) over the images, by noise.\n\n" + markdown(
        head, lines
    ), []


def correlations(args: Any, true: np.ndarray, kind: Any, scale: int, noise: float) -> dict[str, Any]:
    values, refused = [], 0
    for i, name in enumerate(args.images):
        image = as_array(blurred(args.data, name, Blur(kernel=true), i, noise, scale))
        try:
            values.append(correlation(estimate_psf(image, kind, scale=scale).kernel, true))
        except ImageError:
            refused += 1
    found = {"mean": round(mean(values), 3), "least": round(min(values), 3)} if values else {}
    return found | {"refused": refused}


def cell(row: dict[str, Any]) -> str:
    text = f"{row['mean']:.3f} ({row['least']:.3f})" if "mean" in row else "–"
    return f"{text}, {row['refused']} refused" if row["refused"] else text


def beads(args: Any, store: Rows) -> tuple[str, Checks]:
    """Estimate the width of simulated beads, in nm."""
    true = AiryBlur(wavelength=WAVELENGTH, numerical_aperture=APERTURE, pixel_size=PIXEL)
    width = fwhm(true.kernel_array(2))[0] * PIXEL
    lines, ratios = [], []
    for noise in (0.002, 0.02, 0.05):
        row = store.make({"part": "beads", "noise": noise}, partial(bead_widths, true, noise))
        ratios += [row["gaussian"] / width, row["airy"] / width]
        lines.append([f"{noise:.3f} of the brightest", f"{row['gaussian']:.0f}", f"{row['airy']:.0f}",
                      f"{row['aperture']:.2f}", str(row["count"])])  # fmt: skip
    head = ["noise", "Gaussian: FWHM in nm", "Airy: FWHM in nm", "NA found", "beads used"]
    text = f"True FWHM {width:.0f} nm: λ = {WAVELENGTH:.0f} nm, NA {APERTURE}, pixels of {PIXEL:.0f} nm.\n\n"
    far = max(abs(r - 1) for r in ratios)
    return text + markdown(head, lines), [(f"bead widths within 10 %: {100 * far:.0f} %", far <= 0.1)]


def bead_widths(true: AiryBlur, noise: float) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    scene = np.zeros((256, 256))
    scene[rng.integers(10, 246, 40), rng.integers(10, 246, 40)] = rng.uniform(0.5, 1, 40)
    image = true.A(torch.from_numpy(scene)[None, None])[0, 0].numpy()
    image = image / image.max() + noise * rng.standard_normal(image.shape)
    plain = estimate_psf(image, pixel_size=PIXEL)
    airy = estimate_psf(image, "airy", pixel_size=PIXEL, wavelength=WAVELENGTH)
    assert plain.fwhm_nm is not None and airy.fwhm_nm is not None
    return {
        "gaussian": round(float(np.mean(plain.fwhm_nm)), 1),
        "airy": round(float(np.mean(airy.fwhm_nm)), 1),
        "aperture": round(airy.parameters["numerical_aperture"], 3),
        "count": plain.count,
    }


def micrographs(args: Any, store: Rows) -> tuple[str, Checks]:
    """Compare what a noisy frame and the average of many show of the same blur."""
    lines = []
    for pattern in MICROGRAPHS:
        rows = [store.make({"part": "micrographs", "file": name}, partial(micrograph, args.data, name))
                for name in (pattern.format("noisy"), pattern.format(AVERAGED[pattern[:3]]))]  # fmt: skip
        lines.append([pattern.split("_{}")[0], *(row["words"] for row in rows)])
    head = ["image", "single frame", "average of many"]
    note = "The true width is not known; their files hold no pixel size, so nm are those of 100 nm pixels.\n\n"
    return note + markdown(head, lines), []


def micrograph(data: Path, name: str) -> dict[str, Any]:
    try:
        estimate = estimate_psf(imread(data / "microscopy" / name), pixel_size=100.0)
    except ImageError as error:
        return {"words": f"refused: {error.what.lower()}"}
    return {"words": f"{estimate.widths()}, score {estimate.score:.2f}, {estimate.count} {estimate.source}"}


TITLES = {
    "kernels": "Ten random anisotropic Gaussians, ×2, noise 1/255",
    "finetune": "Fine-tuning of edsr-s-x2 with the estimate",
    "range": "Other blurs, scales and noise",
    "beads": "Simulated beads",
    "micrographs": "Real micrographs",
}
PARTS = {
    "kernels": kernels,
    "finetune": finetune,
    "range": range_of_blurs,
    "beads": beads,
    "micrographs": micrographs,
}


def main() -> int:
    args = parse(__doc__, parts=tuple(PARTS), images=SET5)
    if is_missing(args.data / "set5", args.data / "microscopy"):
        return 0
    store = Rows(args.out / "psf.jsonl", fresh=args.fresh)
    parts, checks = [], []
    for name in args.parts:
        text, found = PARTS[name](args, store)
        parts += [f"## {TITLES[name]}", text]
        checks += found
    note = " ".join((__doc__ or "").split("\n\n", 2)[2].split())
    publish(args.out / "psf.md", "Blind image formation", [note, *parts, verdicts(checks)])
    return 0 if all(good for _, good in checks) else 1


if __name__ == "__main__":
    raise SystemExit(main())
