"""Maps of uncertainty judged by the true error: order, coverage, implanted structures.

python benchmarks/uncertainty.py [--data FOLDER] [--out FOLDER] [--threads 1] [--parts dropout ranking ...]

What the results already hold is kept; ``--tables 1`` prints it without measuring anything.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from _common import SET5, Rows, clock, enhancenet_file, is_missing, mean, parse
from _uncertainty import (
    FAINT,
    FOLDS,
    IMPLANT_MAPS,
    INTERVAL_MAPS,
    MAPS,
    PASSES,
    PHOTOS,
    SPOT_HEIGHT,
    SPOT_SIGMA,
    at,
    crop_network,
    crops,
    dropout,
    inner,
    judged,
    per_pixel,
    places,
    plain,
    run,
    spots,
    unseen_spots,
)
from _uncertainty_tables import tables
from scipy.stats import norm

from napari_fidelity.core.step import drain
from napari_fidelity.methods import Apply, Project
from napari_fidelity.metrics import coverage, evaluate_map, width
from napari_fidelity.uncertainty.conformal import Pair, calibrate, intervals
from napari_fidelity.uncertainty.dropout import Dropout

if TYPE_CHECKING:
    from pathlib import Path

LEVEL = 0.9
IMPLANTS = 200
QUANTILE = float(norm.ppf((1 + LEVEL) / 2))
IMPLANTED = ("bird", "butterfly", "head", "woman")  # baby is four times as large
BASES = {"network": "own", "fine-tuned": "image"}


# -- measurements -----------------------------------------------------------------------------------------------


def before_and_after(data: Path, name: str) -> dict[str, Any]:
    """Return the mean variance under dropout before and after fine-tuning, with the same elements dropped."""
    one = judged(data, name)
    started = clock()
    before = run(Dropout(of=Apply(), passes=PASSES), one, one.network)["std"].double()
    spent = clock() - started
    after = dropout(one).double()
    error = (plain(one.own) - plain(one.truth), plain(one.image) - plain(one.truth))
    row = {"before": float(before.square().mean()), "after": float(after.square().mean()), "seconds": spent}
    for label, std, wrong, image in (("before", before, error[0], one.own), ("after", after, error[1], one.image)):
        scores = evaluate_map(per_pixel(plain(std)), per_pixel(wrong), inner(plain(image)))
        row |= {f"{key}_{label}": value for key, value in scores.to_plain().items()}
    return row


def ranked(data: Path, name: str, kind: str) -> dict[str, Any]:
    """Return the scores of one map of the fine-tuned result beside those of the control."""
    one = judged(data, name)
    found = plain(MAPS[kind](one, one.image[0].numpy()))
    error = plain(one.image) - plain(one.truth)
    return evaluate_map(per_pixel(found), per_pixel(error), inner(plain(one.image))).to_plain()


def implanted(
    data: Path, name: str, kind: str, base: str, hidden: bool, height: float = SPOT_HEIGHT
) -> dict[str, Any]:
    """Return the map's values where spots were implanted, and at as many places without."""
    one = judged(data, name)
    image = getattr(one, BASES[base])
    shape = tuple(image.shape[2:])
    both = places(shape, 2 * IMPLANTS // len(IMPLANTED), np.random.default_rng(len(name)))
    with_spot, without = both[::2], both[1::2]
    added = unseen_spots(shape, with_spot, one.case) if hidden else spots(shape, with_spot, SPOT_SIGMA, height)
    found = plain(IMPLANT_MAPS[kind](one, (image + added)[0].numpy()))
    return {"with": at(found, with_spot).tolist(), "without": at(found, without).tolist()}


def covered(data: Path, kind: str) -> dict[str, Any]:
    """Return coverage and width of intervals on the photographs of one fold, calibrated on those of the other."""
    pairs: dict[str, list[Pair]] = {}
    options = INTERVAL_MAPS.get(kind, INTERVAL_MAPS["bootstrap"])
    started = clock()
    for photo in PHOTOS:
        for crop in crops(data, photo):
            pairs.setdefault(photo, []).append(_pair(crop, kind, options))
    spent = clock() - started
    row: dict[str, Any] = {"seconds": spent, "crops": {photo: len(found) for photo, found in pairs.items()}}
    for fold, other in (FOLDS, FOLDS[::-1]):
        known = [pair for photo in other for pair in pairs[photo]]
        calibration = calibrate(known, options)
        for photo in fold:
            ends = [intervals(pair.estimate, pair.std, calibration, LEVEL) for pair in pairs[photo]]
            plain_ends = [(p.estimate - QUANTILE * p.std, p.estimate + QUANTILE * p.std) for p in pairs[photo]]
            row[photo] = {
                "conformal": _coverage(ends, pairs[photo]),
                "plain": _coverage(plain_ends, pairs[photo]),
                "void": mean(float(not calibration.verdict(LEVEL, p.statistics).holds) for p in pairs[photo]),
            }
    return row


def _pair(crop: Any, kind: str, options: Any) -> Pair:
    known = {"noise": crop.noise, "rng": 0}
    estimate = drain(Project().steps(crop.y, crop.operator, crop_network(), **known)).image
    if kind == "constant":
        return Pair(plain(estimate), np.ones_like(crop.truth), crop.truth, {})
    steps = options.replace(image=estimate[0].numpy()).steps(crop.y, crop.operator, crop_network(), **known)
    result = drain(steps)
    return Pair(plain(estimate), plain(result.maps["std"]), crop.truth, result.history[-1].scores)


def _coverage(ends: list[tuple[np.ndarray, np.ndarray]], pairs: list[Pair]) -> list[float]:
    shares = [coverage(*end, pair.truth) for end, pair in zip(ends, pairs, strict=True)]
    return [mean(shares), mean(width(*end) for end in ends)]


# -- the command ------------------------------------------------------------------------------------------------


def main() -> int:
    parts = ("dropout", "ranking", "implants", "faint", "intervals")
    args = parse(__doc__, parts=parts, images=SET5, maps=tuple(MAPS), tables=0)
    if is_missing(args.data / "set5", enhancenet_file(args.data)):
        return 0
    rows = Rows(args.out / "uncertainty.jsonl", fresh=args.fresh)
    if not args.tables:
        for part in args.parts:
            for key, measure in work(part, args):
                rows.make({"part": part, **key}, measure)
    return tables(rows, args.out)


def work(part: str, args: Any) -> Any:
    """Yield what there is to measure: the key of the row, and the function that measures it."""
    if part == "dropout":
        for name in args.images:
            yield {"image": name}, partial(before_and_after, args.data, name)
    elif part == "ranking":
        for name in args.images:
            for kind in args.maps:
                yield {"image": name, "map": kind}, partial(ranked, args.data, name, kind)
    elif part == "implants":
        for name in IMPLANTED:
            for kind in args.maps:
                for hidden in (False, True):
                    for base in ("network", "fine-tuned"):
                        key = {"image": name, "map": kind, "hidden": hidden, "base": base}
                        yield key, partial(implanted, args.data, name, kind, base, hidden)
    elif part == "faint":
        for name in IMPLANTED:
            for kind in args.maps:
                if kind not in ("dropout", "views"):
                    key = {"image": name, "map": kind, "base": "fine-tuned"}
                    yield key, partial(implanted, args.data, name, kind, "fine-tuned", False, FAINT)
    else:
        for kind in (*INTERVAL_MAPS, "constant"):
            yield {"map": kind}, partial(covered, args.data, kind)


if __name__ == "__main__":
    raise SystemExit(main())
