"""The figure of the demo."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import SubFigure
    from numpy.typing import NDArray

    from napari_fidelity.cli.demo import Demo

_CROP = (slice(62, 134), slice(84, 156))  # rows and columns of the detail that is shown enlarged
_BLUE, _ORANGE, _GRAY = "#1f5fa8", "#d1691b", "#6b6b6b"
_SHOWN = ("bicubic", "network", "projection", "fine-tuned + projection")


def draw(made: Demo, path: Path) -> None:
    """Draw crops with their PSNR, the error maps, and the PSNR-per-iteration curves, and save them."""
    figure = Figure(figsize=(13, 6.4), dpi=110, layout="constrained")
    upper, lower = list(figure.subfigures(2, 1, height_ratios=(1, 1.08)))  # type: ignore[arg-type]
    scores = {row.name: row.psnr for row in made.rows}
    top = upper.subplots(1, 6)
    _show_whole(top[0], made.truth)
    for axes, name in zip(top[1:], _SHOWN, strict=False):
        _show(axes, made.images[name], f"{name}\n{scores[name]:.2f} dB")
    _show(top[5], made.truth, "truth\n")
    left, right = list(lower.subfigures(1, 2, width_ratios=(1, 1.15)))
    _draw_curves(left.subplots(), made, scores)
    _draw_errors(right, made)
    figure.savefig(path, format="png", pil_kwargs={"optimize": True})


def _draw_errors(part: SubFigure, made: Demo) -> None:
    panels = part.subplots(1, 3)
    for axes, name in zip(panels, ("network", "projection", "fine-tuned + projection"), strict=True):
        error = np.abs(made.images[name] - made.truth).mean(axis=-1)
        shown = axes.imshow(error, cmap="magma", vmin=0, vmax=24)
        axes.set_title(name, fontsize=10)
        axes.axis("off")
    part.colorbar(shown, ax=panels, location="bottom", shrink=0.5, aspect=40, label="absolute error (gray levels)")


def _show_whole(axes: Axes, truth: NDArray[Any]) -> None:
    axes.imshow(truth)
    rows, columns = _CROP
    size = rows.stop - rows.start
    axes.add_patch(Rectangle((columns.start, rows.start), size, size, fill=False, color="white", lw=1.5))
    axes.set_title("256 × 256 image\nblur σ 1.6, then ↓2", fontsize=10)
    axes.axis("off")


def _show(axes: Axes, image: NDArray[Any], title: str) -> None:
    axes.imshow(np.clip(image[_CROP] / 255, 0, 1), interpolation="nearest")
    axes.set_title(title, fontsize=10)
    axes.axis("off")


def _draw_curves(axes: Axes, made: Demo, scores: dict[str, float]) -> None:
    for (name, values), colour in zip(made.curves.items(), (_BLUE, _ORANGE), strict=False):
        axes.plot(range(len(values)), values, "o-", ms=3.5, lw=1.6, color=colour, label=name)
    for name, style in (("network", ":"), ("projection", "--")):
        axes.axhline(scores[name], ls=style, lw=1.2, color=_GRAY, label=name)
    axes.set_xlabel("iteration")
    axes.set_ylabel("PSNR on luma (dB)")
    axes.set_title("before projection, iteration by iteration", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    low, high = axes.get_ylim()
    axes.set_ylim(low - 0.3 * (high - low), high)  # room for the legend
    axes.legend(frameon=False, fontsize=9, ncols=2, loc="lower right")
