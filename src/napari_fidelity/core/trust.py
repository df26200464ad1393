"""Whose code in model files may run."""

from __future__ import annotations

from collections.abc import Collection

Trust = bool | Collection[str]
"""Whether code in files may run: in all of them, or in those of some contents, named by their SHA-256."""


def is_trusted(trust: Trust, sha256: str) -> bool:
    """Tell whether code in a file of this content may run."""
    return trust if isinstance(trust, bool) else sha256 in (trust if not isinstance(trust, str) else {trust})
