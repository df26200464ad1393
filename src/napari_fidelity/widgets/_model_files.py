"""Model files in a folder and recently used ones, looked for by a worker: their drives may be slow or gone."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from napari_fidelity.widgets._model_memory import stamp_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from napari_fidelity.widgets._model_memory import Told

_LIMIT = 500  # files of a folder that are listed: a longer list is no help


@dataclass(frozen=True)
class Listing:
    """Model files that were found.

    Attributes
    ----------
    files
        In the order in which they are offered.
    words
        What those tell that have been read before and not been changed since.
    left_out
        How many more there are.
    problem
        Why nothing could be found.
    """

    files: tuple[Path, ...] = ()
    words: Mapping[Path, str] = field(default_factory=dict)
    left_out: int = 0
    problem: str = ""


def in_folder(folder: Path, told: Told) -> Listing:
    """Return the model files of a folder, by name, numbers by their value."""
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if is_model(entry.name) and entry.is_file()]
    except FileNotFoundError:
        return Listing(problem=f"The model folder '{folder}' is not there.")
    except OSError as error:
        return Listing(problem=f"The model folder '{folder}' cannot be read: {error.strerror or error}.")
    names.sort(key=_by_value)
    files = tuple(folder / name for name in names[:_LIMIT])
    return Listing(files, _words(files, told), len(names) - len(files))


def still_there(files: Iterable[Path], told: Told) -> Listing:
    """Return those of some files that have not vanished."""
    found = tuple(path for path in files if _is_file(path))
    return Listing(found, _words(found, told))


def is_model(name: str) -> bool:
    """Return whether a network may be loaded from a file of this name."""
    from napari_fidelity.io._formats import may_be_model

    return may_be_model(name) and not name.startswith(".")


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a drive that does not answer
        return False


def _words(files: Iterable[Path], told: Told) -> dict[Path, str]:
    words = {}
    for path in files:
        entry = told.get(str(path))
        with suppress(OSError):
            if entry is not None and stamp_of(path) == entry[0]:
                words[path] = entry[1]
    return words


def _by_value(name: str) -> list[tuple[bool, int, str]]:
    """Return a key by which ``x2`` comes before ``x10``."""
    parts = re.split(r"(\d+)", name.casefold())
    return [(part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in parts]
