"""What a model file is, by its name and content, and which loader reads it. Opens nothing that could run."""

from __future__ import annotations

import hashlib
import importlib
import io
import re
import zipfile
from typing import TYPE_CHECKING, Any

from napari_fidelity.core.errors import ModelFileError, UntrustedModelError
from napari_fidelity.core.trust import is_trusted

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_fidelity.core.trust import Trust
    from napari_fidelity.networks.foreign import LoadedNetwork

    Loader = Callable[[Path, bytes, Trust], LoadedNetwork]

SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt", ".bin", ".tar", ".ts", ".pt2", ".zip", ".yaml")
"""Of the model files that can be loaded."""

DESCRIPTIONS = ("rdf.yaml", "bioimageio.yaml")
"""Names that the description of a bioimage.io package may have."""

# Module of this package and its function that loads a kind of file: f(path, content, trust) -> network.
_LOADERS = {
    "safetensors": "_own:load_safetensors",
    "weights": "_own:load_weights",
    "torchscript": "_programs:load_torchscript",
    "exported": "_programs:load_exported",
    "bioimageio": "_bioimageio:load_package",
}

# How archives that torch and others write are told apart: a member of each kind; the first that fits counts.
_MEMBERS = (
    ("bioimageio", re.compile(r"^(rdf|bioimageio)\.yaml$")),
    ("torchscript", re.compile(r"(^|/)code/|(^|/)constants\.pkl$")),
    ("exported", re.compile(r"(^|/)archive_format$|exported_program|(^|/)models/.*\.json$")),
    ("package", re.compile(r"\.py$|\.npy$")),
    ("weights", re.compile(r"(^|/)data\.pkl$")),
)
_NAMED = 3  # members that are named of an archive that holds no model
_OUTSIDE = re.compile(r"^[/\\]|^[A-Za-z]:|(^|[/\\])\.\.([/\\]|$)")
_INFLATION = 100  # times its own size, beyond which an archive is a trap and no model


def loader_of(path: Path, content: bytes) -> Loader:
    """Return the function that loads a file.

    Raises
    ------
    ModelFileError
        If it is an archive of something else, or one made to do harm.
    """
    kind = kind_of(path, content)
    if kind not in _LOADERS:
        raise ModelFileError(
            f"'{path.name}' is a program or a package, not weights alone",
            do="Save its state_dict() from Python, or use a .safetensors file; nothing of it was run",
        )
    module, _, name = _LOADERS[kind].partition(":")
    load: Loader = getattr(importlib.import_module(f"napari_fidelity.io.{module}"), name)
    return load


def may_be_model(name: str) -> bool:
    """Tell whether a file that lies in a folder may be a model; of ``.yaml``, only what describes a package."""
    return name.endswith(DESCRIPTIONS if name.endswith(".yaml") else SUFFIXES)


def check_suffix(path: Path) -> None:
    """Refuse what cannot be a model by its name.

    Raises
    ------
    ModelFileError
        Saying what to do with ``.npz`` files.
    """
    if path.suffix not in SUFFIXES:
        known = f"Known: {', '.join(SUFFIXES)}"
        raise ModelFileError(
            f"'{path.name}' is not a kind of model file that can be loaded",
            do="Convert it first: napari-fidelity convert" if path.suffix == ".npz" else known,
        )


def kind_of(path: Path, content: bytes) -> str:
    """Return what kind of model file this is, by its name in the list of loaders.

    Raises
    ------
    ModelFileError
        If it is an archive without a model, damaged, or made to do harm.
    """
    if path.suffix == ".safetensors":
        return "safetensors"
    if path.suffix == ".yaml":
        return "bioimageio"
    return _archive_kind(path.name, content) if content.startswith(b"PK") else "weights"


def _archive_kind(name: str, content: bytes) -> str:
    try:
        members = zipfile.ZipFile(io.BytesIO(content)).infolist()
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError) as error:
        raise ModelFileError(
            f"'{name}' is damaged: it begins as a zip archive, and cannot be read as one",
            found=f"{len(content)} bytes; {error}",
            do="Copy or download it again; nothing of it was run",
        ) from None
    _refuse_traps(name, content, members)
    names = [member.filename for member in members]
    for kind, sign in _MEMBERS:
        if any(map(sign.search, names)):
            return kind
    raise _no_model(name, [member for member in names if not member.endswith("/")])


def _no_model(name: str, files: list[str]) -> ModelFileError:
    listed = ", ".join(f"'{file[:80]}'" for file in files[:_NAMED])
    more = f" and {len(files) - _NAMED} more" if len(files) > _NAMED else ""
    return ModelFileError(
        f"'{name}' is a zip archive without a model in it",
        found=f"{listed}{more}" if files else "no files",
        do="Give a file of weights as it is, not zipped, or a bioimage.io package, which has its "
        f"{DESCRIPTIONS[0]} at the top and in no folder",
    )


def _refuse_traps(name: str, content: bytes, members: list[zipfile.ZipInfo]) -> None:
    culprit = next((member.filename for member in members if _OUTSIDE.search(member.filename)), None)
    if culprit is not None:
        raise ModelFileError(
            f"'{name}' would write outside of its own folder when unpacked",
            found=f"'{culprit[:80]}' in the archive",
            do="Do not use it; nothing of it was unpacked",
        )
    unpacked = sum(member.file_size for member in members)
    if unpacked > _INFLATION * len(content):
        raise ModelFileError(
            f"'{name}' would grow out of all proportion when unpacked",
            found=f"{len(content)} bytes that claim to hold {unpacked}",
            do="Do not use it; nothing of it was unpacked",
        )


def demand_trust(path: Path, content: bytes, trust: Trust, *, what: str, runs: str) -> None:
    """Refuse a file that would run code, unless somebody said that it may.

    Parameters
    ----------
    path, content
        The file.
    trust
        Whether somebody did, or the hashes of the contents for which somebody did.
    what
        What it is: ``"a TorchScript program"``.
    runs
        What of it would run, and when.

    Raises
    ------
    UntrustedModelError
        With the file's hash.
    """
    sha256 = hashlib.sha256(content).hexdigest()
    if is_trusted(trust, sha256):
        return
    raise UntrustedModelError(
        f"'{path.name}' is {what}: {runs}",
        found=f"SHA-256 {sha256}",
        do="If you trust whoever made it, say so (--trust, trust=True); nothing of it was run",
        path=str(path),
        sha256=sha256,
    )


def opened(
    action: Callable[[], Any],
    name: str,
    do: str = "Copy or download it again, or export it again with this version",
) -> Any:
    """Return what a library makes of a file; whatever it raises becomes a :class:`ModelFileError`."""
    try:
        return action()
    except Exception as error:  # whatever the broken or hostile file provokes
        lines = str(error).strip().splitlines()
        raise ModelFileError(
            f"'{name}' is damaged, or made for another version of torch",
            found=f"{type(error).__name__}: {lines[0][:200] if lines else ''}",
            do=do,
        ) from None
