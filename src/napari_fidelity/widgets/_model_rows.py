"""What is known of a model, in words: the rows of its card."""

from __future__ import annotations

import re
from html import escape
from typing import TYPE_CHECKING, Any

from napari_fidelity.widgets._dock import breakable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from napari_fidelity.networks.info import ModelInfo

_LINKS = re.compile(
    r"(https?://[^\s<>\"']+)|\bdoi:\s*(10\.\d{4,}/[^\s<>\"']+)|\barXiv:\s*([\w.\-/]+)", re.IGNORECASE
)
_INDENT = "    "
_CLOSING = ".,;:)]}"  # at the end of an address they belong to the sentence around it


def rows(info: ModelInfo) -> dict[str, str]:
    """Return what is known of a model: plain words by heading."""
    from napari_fidelity.networks.info import FORMATS

    return {
        "architecture": info.architecture,
        "parameters": f"{info.n_parameters:,}" if info.n_parameters else "",
        "scale": f"×{info.scale}" if info.scale > 1 else "×1: it keeps the size of the image",
        "channels": {1: "1 (gray)", 3: "3 (RGB)"}.get(info.n_channels, str(info.n_channels)),
        "intensities": "{:g} to {:g}".format(*info.value_range),
        "frames": _frames(info.frames),
        "size": _size(info.size_multiple, info.smallest),
        "fine-tuning": f"impossible: {info.untrainable}" if info.untrainable else "possible",
        "random numbers": info.random_numbers,
        "trained for": info.trained_for or "not told",
        "licence": info.licence or "not told: ask who made it before you publish results",
        "source": info.source or "not told",
        "format": FORMATS.get(info.format, info.format),
    }


def further(card: Mapping[str, Any]) -> dict[str, str]:
    """Return everything else that a file says of its making: plain words by heading."""
    return {str(name).replace("_", " "): _nested(value) for name, value in card.items() if value not in (None, "")}


def linked(text: str, colour: str) -> str:
    """Return plain text as HTML, with links where it names addresses, DOIs or arXiv numbers.

    A link shows where it leads, whatever the file would rather have it called.
    """
    shown = [(escape(breakable(part)), target) for part, target in _parts(text)]
    return "".join(_anchor(part, target, colour) if target else part for part, target in shown)


def _parts(text: str) -> Iterator[tuple[str, str]]:
    """Cut a text into pieces, each with the address it leads to, if any."""
    end = 0
    for found in _LINKS.finditer(text):
        address, doi, arxiv = found.groups()
        kept = found[0].rstrip(_CLOSING)
        cut = len(found[0]) - len(kept)
        target = address or (f"https://doi.org/{doi}" if doi else f"https://arxiv.org/abs/{arxiv}")
        yield text[end : found.start()], ""
        yield kept, target[: len(target) - cut]
        end = found.end() - cut
    yield text[end:], ""


def _anchor(html: str, target: str, colour: str) -> str:
    return f'<a href="{escape(target)}" style="color: {colour}">{html}</a>'


def _frames(frames: int) -> str:
    return "1: each image by itself" if frames == 1 else f"{frames}: each is made from the {frames} around it"


def _size(multiple: int, smallest: int) -> str:
    wanted = [f"multiples of {multiple} pixels"] if multiple > 1 else []
    wanted += [f"at least {smallest} pixels"] if smallest > 1 else []
    return f"any; padded to {' and '.join(wanted)}, then cropped" if wanted else "any"


def _nested(value: Any, depth: int = 0) -> str:
    """Return a value of a card as lines of text, what is inside of it indented."""
    if isinstance(value, dict):
        inside = {str(name).replace("_", " "): _nested(inner, depth + 1) for name, inner in value.items()}
        lines = [f"{_INDENT * depth}{name}:{_before(text)}{text}" for name, text in inside.items()]
        return "\n" * bool(depth) + "\n".join(lines)
    if isinstance(value, list | tuple):
        return ", ".join(_nested(inner, depth) for inner in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _before(text: str) -> str:
    return "" if text.startswith("\n") else " "
