"""The tables of the uncertainty benchmark."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from _common import Rows, markdown, mean, publish, verdicts
from _uncertainty import CROP, CROP_PASSES, FOLDS, HIDDEN_SIGMA, MAPS, PASSES, PHOTOS, QUICK, SPOT_SIGMA
from scipy.stats import rankdata

if TYPE_CHECKING:
    from pathlib import Path

NOTE = """\
EnhanceNet with the published weights, Set5 ×4, fine-tuned by the default, in [0, 1]; a border of 4 px is left
out. A map's numbers stand beside those of the control, the local gradient magnitude (σ = 1 px) of the same
image, which knows nothing but edges."""
NOTES = {
    "dropout": f"""\
Element-wise dropout, p = 0.0005, {PASSES} passes, the same elements dropped in both. Spearman with the absolute
error of the network's own output (before) and of the fine-tuned image (after). s: processor seconds of one
map.""",
    "ranking": f"""\
Of the fine-tuned image. Higher rank correlation and lower area (AUSE, of the mean absolute error) are better.
Bootstrap: {PASSES} samples, restored by the network as it was tuned, and projected.""",
    "implants": f"""\
Gaussian spots of σ = {SPOT_SIGMA:g} px and a height of 51 gray levels, added to the network's own output or to
the fine-tuned image: each map's mean within 3 px of the spots against that at as many other places of the same
map, image by image. Null space: the part of narrower spots (σ = {HIDDEN_SIGMA:g} px) that the measurement does
not depend on, scaled to the same height. No data can tell that these are wrong, and they are reported apart: of
the null-space map a high number means that it says of these places "cannot be verified", of the error map a
number near 0.5 means that it says nothing, not that they are safe. Dropout and views look at the network, not
at the image, and cannot see what was added afterwards. Bootstrap: of the tuned network with projection, {QUICK}
samples.""",
    "faint": "The same with a height of 5 gray levels, less than the error of most results.",
    "intervals": f"""\
Crops of {CROP}² px of nine photographs, ×2 smaller, noise of 2 gray levels, edsr-s-x2
and projection, {CROP_PASSES} samples or passes. Split by photograph in two folds, each calibrated on all
crops of the other: {", ".join(FOLDS[0])} | {", ".join(FOLDS[1])}. Every photograph is held out once.
Plain: ± 1.645 standard deviations as they are; constant: the same width everywhere; photographs: lowest
and highest mean coverage; guarantee void: share of the crops that are said to be unlike those calibrated
on.""",
}


Report = tuple[str, list[tuple[str, bool]]]


def dropout_table(rows: list[dict[str, Any]]) -> Report:
    head = ["image", "variance before", "after", "ratio", "Spearman before", "after", "8 × 8 before", "after", "s"]
    lines = [
        [
            row["image"],
            *(f"{row[key]:.2e}" for key in ("before", "after")),
            f"{row['after'] / row['before']:.2f}",
            *(
                f"{row[f'{key}_{when}']:.2f}"
                for key in ("spearman", "spearman_block")
                for when in ("before", "after")
            ),
            f"{row['seconds']:.0f}",
        ]
        for row in rows
    ]
    fallen = sum(row["after"] < row["before"] for row in rows)
    text = f"mean variance falls after fine-tuning on most images: {fallen} of {len(rows)}"
    return "## Dropout before and after fine-tuning\n\n" + markdown(head, lines), [(text, 2 * fallen > len(rows))]


def ranking_table(rows: list[dict[str, Any]]) -> Report:
    kinds = kinds_of(rows)
    images = list(dict.fromkeys(row["image"] for row in rows))
    parts, best = ["## Order: maps of the fine-tuned result beside the control"], []
    for key, title in (
        ("spearman", "Spearman, per pixel"),
        ("spearman_block", "Spearman, 8 × 8 blocks"),
        ("ause", "AUSE"),
    ):
        lines = []
        for image in images:
            found = {row["map"]: row for row in rows if row["image"] == image}
            control = next(iter(found.values()))[f"control_{key}"]
            lines.append([image, f"{control:.3f}", *(number(found.get(kind, {}).get(key)) for kind in kinds)])
            if key == "ause":
                best.append(min(row["ause"] for row in found.values() if row["ause"] is not None) < control)
        parts.append(f"{title}\n\n" + markdown(["image", "control", *kinds], lines))
    lines = [
        [
            kind,
            *(f"{mean(row[key] for row in rows if row['map'] == kind):.2f}" for key in ("alike", "beyond")),
        ]
        for kind in kinds
    ]
    head = [
        "map, mean of the images",
        "rank correlation with the control",
        "with the error, control held fixed",
        "s",
    ]
    parts.append(markdown(head, lines))
    text = f"AUSE below the control's for at least one map: {sum(best)} of {len(best)} images"
    return "\n\n".join(parts), [(text, all(best))]


def implant_table(rows: list[dict[str, Any]]) -> Report:
    kinds = kinds_of(rows)
    columns = {
        "seen, network": (False, "network"), "seen, fine-tuned": (False, "fine-tuned"),
        "null space, network": (True, "network"), "null space, fine-tuned": (True, "fine-tuned"),
    }  # fmt: skip
    table = {
        kind: [
            auroc([r for r in rows if (r["map"], r["hidden"], r["base"]) == (kind, *which)])
            for which in columns.values()
        ]
        for kind in kinds
    }
    lines = [[kind, *(number(value) for value in values)] for kind, values in table.items()]
    best = {
        base: max(((v[i] or 0.0), kind) for kind, v in table.items())
        for i, base in ((0, "network"), (1, "fine-tuned"))
    }
    checks = [
        (f"AUROC of the best map at least 0.9, spots in the {base} image: {value:.3f} ({kind})", value >= 0.9)
        for base, (value, kind) in best.items()
    ]
    first = [
        row for row in rows if (row["map"], row["hidden"], row["base"]) == (kinds[0], *columns["seen, network"])
    ]
    count = sum(len(row["with"]) for row in first)
    return f"## {count} implanted spots: AUROC\n\n" + markdown(["map", *columns], lines), checks


def faint_table(rows: list[dict[str, Any]]) -> Report:
    kinds = kinds_of(rows)
    lines = [[kind, number(auroc([row for row in rows if row["map"] == kind]))] for kind in kinds]
    return markdown(["map", "spots ten times fainter, fine-tuned"], lines), []


def auroc(rows: list[dict[str, Any]]) -> float | None:
    """Return the mean over the images of the probability that an implant has a higher value than another place."""
    if not rows:
        return None
    areas = []
    for row in rows:
        ranks = rankdata(row["with"] + row["without"])[: len(row["with"])]
        n, m = len(row["with"]), len(row["without"])
        areas.append((ranks.sum() - n * (n + 1) / 2) / (n * m))
    return mean(areas)


def interval_table(rows: list[dict[str, Any]]) -> Report:
    lines, checks = [], []
    for row in rows:
        for kind in ("conformal", "plain"):
            if kind == "plain" and row["map"] == "constant":
                continue
            # every crop counts alike, as in the calibration
            weights = row["crops"]
            total = sum(weights.values())
            share, wide = (sum(weights[p] * row[p][kind][i] for p in PHOTOS) / total for i in (0, 1))
            void = sum(weights[p] * row[p]["void"] for p in PHOTOS) / total
            worst = [f"{min(row[p][kind][0] for p in PHOTOS):.3f} … {max(row[p][kind][0] for p in PHOTOS):.3f}"]
            lines.append([
                f"{row['map']}, {kind}", f"{share:.3f}", *worst, f"{255 * wide:.1f}",
                f"{100 * void:.0f} %" if kind == "conformal" and row["map"] != "constant" else "",
            ])  # fmt: skip
            if kind == "conformal" and row["map"] != "constant":
                checks.append(
                    (
                        f"90 % intervals ({row['map']}, conformal) cover 88 … 92 %: {100 * share:.1f} %",
                        0.88 <= share <= 0.92,
                    )
                )
    head = ["intervals", "coverage", "photographs", "mean width (gray levels)", "guarantee void"]
    return "## 90 % intervals\n\n" + markdown(head, lines), checks


def kinds_of(rows: list[dict[str, Any]]) -> list[str]:
    """Return the maps of which there are rows, always in the same order."""
    return [kind for kind in MAPS if any(row["map"] == kind for row in rows)]


def number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def tables(rows: Rows, out: Path) -> int:
    """Write what has been measured; return 1 if a figure that was asked for is not reached."""
    makers = {
        "dropout": dropout_table,
        "ranking": ranking_table,
        "implants": implant_table,
        "faint": faint_table,
        "intervals": interval_table,
    }
    parts, checks = [], []
    for part, make in makers.items():
        if found := rows.find(part=part):
            text, asked = make(found)
            parts += [text, NOTES[part]]
            checks += asked
    publish(out / "uncertainty.md", "Maps of uncertainty", [NOTE, *parts, verdicts(checks)])
    return 0 if all(good for _, good in checks) else 1
