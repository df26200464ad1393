"""What is remembered of model files from one session to the next: recent ones, what they told, trust."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_fidelity.networks.info import ModelInfo

    Stamp = tuple[int, int]
    Told = Mapping[str, tuple[Stamp, str]]

_RECENT = 6  # files remembered
_TOLD = 200  # files of which scale and architecture are remembered


def recent_files() -> list[Path]:
    """Return the model files used last, the latest first; they may be gone."""
    return [Path(name) for name in _names("models/recent")]


def remember(path: Path) -> None:
    """Put a model file at the head of the recent ones."""
    names = [str(path), *(str(p) for p in recent_files() if p != path)]
    stored().setValue("models/recent", names[:_RECENT])


def trusted() -> frozenset[str]:
    """Return the SHA-256 of every content that the user lets run code. Names and places count for nothing."""
    return frozenset(_names("models/trusted"))


def trust(sha256: str) -> None:
    """Let files of this content run code from now on."""
    stored().setValue("models/trusted", sorted(trusted() | {sha256}))


def distrust(sha256: str) -> None:
    """Ask again before files of this content run code."""
    stored().setValue("models/trusted", sorted(trusted() - {sha256}))


def stamp_of(path: Path) -> Stamp:
    """Return what tells whether a file has been changed since: its size and time."""
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def told() -> Told:
    """Return what was told in one line of files that have been read: stamp and words by path."""
    try:
        entries = json.loads(str(stored().value("models/told", "")))
        return {str(path): ((int(size), int(time)), str(words)) for path, ((size, time), words) in entries.items()}
    except (ValueError, TypeError, AttributeError):  # nothing yet, or the file of settings is damaged
        return {}


def tell(path: Path, stamp: Stamp, words: str) -> None:
    """Remember what a file that has been read holds."""
    entries = {name: entry for name, entry in told().items() if name != str(path)}
    kept = [*entries.items(), (str(path), (stamp, words))][-_TOLD:]
    stored().setValue("models/told", json.dumps(dict(kept)))


def in_words(info: ModelInfo) -> str:
    """Return what a list tells of a network: scale, channels, architecture."""
    colours = {1: "gray", 3: "RGB"}.get(info.n_channels, f"{info.n_channels} channels")
    frames = [f"{info.frames} frames"] if info.frames > 1 else []
    return ", ".join([f"×{info.scale}", colours, *frames, info.architecture])


def stored() -> QSettings:
    """Return the file of settings that the docks keep for themselves."""
    return QSettings(QSettings.Format.IniFormat, QSettings.Scope.UserScope, "napari-fidelity", "docks")


def _names(key: str) -> list[str]:
    """Return a list of texts; Qt hands over one that was stored with a single text as the text."""
    value: Any = stored().value(key, [])
    return [value] if isinstance(value, str) else [str(name) for name in value or []]
