"""What the user set for this plugin in napari's preferences, with defaults wherever that cannot be had."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

PLUGIN = "napari-fidelity"
PAGE = "fidelity"  # the manifest's key of the settings
DEVICES = ("auto", "cpu", "cuda", "mps")
SLOWEST, FASTEST = 0.5, 20.0  # pictures per second
_GIGABYTE = 10**9


@dataclass(frozen=True)
class Settings:
    """Settings that every run reads anew.

    Attributes
    ----------
    device
        Where to compute: ``auto``, ``cpu``, ``cuda`` or ``mps``.
    model_folder
        Folder of the user's own networks.
    display_rate
        Pictures per second at most while a run goes on, 0.5 to 20.
    memory_limit
        Bytes that a run may use, ``None`` for no limit.
    """

    device: str = "auto"
    model_folder: Path | None = None
    display_rate: float = 5.0
    memory_limit: int | None = None


def settings() -> Settings:
    """Return the settings as they are now; never raises.

    napari older than 0.9 has no preferences for plugins: everything is then at its default, and so is each value
    that makes no sense.
    """
    page = _page()
    if page is None:
        return Settings()
    device = getattr(page, "device", "auto")
    limit = _number(getattr(page, "memory_limit_gb", 0), 0.0)
    return Settings(
        device=device if device in DEVICES else "auto",
        model_folder=_folder(getattr(page, "model_folder", "")),
        display_rate=min(max(_number(getattr(page, "display_rate", None), 5.0), SLOWEST), FASTEST),
        memory_limit=int(limit * _GIGABYTE) if limit > 0 else None,
    )


def changes(name: str) -> Any:
    """Return what napari emits when a setting is changed; ``None`` where it has no such thing."""
    return getattr(getattr(_page(), "events", None), name, None)


def _page() -> Any:
    try:
        from napari.settings import get_plugin_settings
    except ImportError:
        return None
    try:
        return getattr(get_plugin_settings(PLUGIN), PAGE)
    except Exception as error:  # a damaged file of settings, of this plugin or another, must not stop a run
        log.warning("napari's settings of this plugin cannot be read, the defaults are used: %s", error)
        return None


def _number(value: Any, default: float) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return default
    return number if math.isfinite(number) else default


def _folder(value: Any) -> Path | None:
    text = value.strip() if isinstance(value, str) else ""
    if not text or "\0" in text:
        return None
    try:
        return Path(text).expanduser()
    except RuntimeError:  # ~name of a user there is none of
        return Path(text)
