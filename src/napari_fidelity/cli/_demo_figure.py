"""The figure of the demo."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from napari_fidelity.cli.demo import Demo

_CROP = (slice(62, 134), slice(84, 156))  # rows and columns of the detail that is shown enlarged
_BLUE, _ORANGE, _GRAY = "#1f5fa8", "#d1691b", "#6b6b6b"
_SHOWN = ("bicubic", "network", "projection", "fine-tuned + projection")


def draw(made: Demo, path: Path) -> None:
    """Draw crops with their PSNR, the error maps, and the PSNR-per-iteration curves, and save them."""
    figure = Figure(figsize=(13.2, 7.6), dpi=110, layout="constrained")
    grid = figure.add_gridspec(2, 6, height_ratios=(1, 0.92))
    scores = {row.name: row.psnr for row in made.rows}
    top = [figure.add_subplot(grid[0, i]) for i in range(6)]
    _show_whole(top[0], made.truth)
    for axes, name in zip(top[1:], _SHOWN, strict=False):
        _show(axes, made.images[name], f"{name}\n{scores[name]:.2f} dB")
    _show(top[5], made.truth, "truth\n")
    _draw_curves(figure.add_subplot(grid[1, :3]), made, scores)
    largest = 24.0
    for i, name in enumerate(("network", "projection", "fine-tuned + projection")):
        axes = figure.add_subplot(grid[1, 3 + i])
        error = np.abs(made.images[name] - made.truth).mean(axis=-1)
        shown = axes.imshow(error, cmap="magma", vmin=0, vmax=largest)
        axes.set_title(f"|error|, {name}", fontsize=10)
        axes.axis("off")
    figure.colorbar(shown, ax=axes, shrink=0.7, label="gray levels")
    figure.savefig(path, format="png")


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
    axes.set_ylabel("PSNR on luma (dB), before projection")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=9)
