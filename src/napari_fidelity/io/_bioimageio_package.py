"""What a bioimage.io package holds: its description and the files it names, read without the internet."""

from __future__ import annotations

import io
import re
import zipfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from napari_fidelity.core.errors import MissingDependencyError, ModelFileError
from napari_fidelity.core.lazy import torch
from napari_fidelity.io._bioimageio_description import checked, read_description, version_of, weights_kind
from napari_fidelity.io._formats import DESCRIPTIONS, opened

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

_ELSEWHERE = ("parent", "dependencies", "authors", "attachments")  # of weights: what is not read


@dataclass(frozen=True)
class Package:
    """What is read of a package before anything of it may run.

    Attributes
    ----------
    about
        Its description as plain values.
    inputs, outputs, weights
        Those parts of it that matter, as the library describes them.
    kind
        Format of the weights.
    content
        Of all files that are used, one after the other: what is hashed.
    """

    about: Mapping[str, Any]
    inputs: Sequence[Any]
    outputs: Sequence[Any]
    weights: Any
    kind: str
    content: bytes

    @property
    def architecture(self) -> str:
        """Name of the network's class or function; empty where a program is all there is."""
        own = getattr(self.weights, "architecture", None)
        return str(getattr(own, "callable", getattr(own, "callable_name", "")))

    @property
    def runs(self) -> str:
        """What of it would run, in words."""
        if self.kind == "torchscript":
            return "its TorchScript program runs whenever the model is used"
        own = self.weights.architecture
        source = getattr(own, "source", getattr(own, "source_file", None))
        what = f"'{self.architecture}' of an installed library" if source is None else f"the file '{source}' in it"
        return f"to load it, {what} is executed, with all that you may do on this computer"


@contextmanager
def read_package(path: Path, content: bytes) -> Iterator[Package]:
    """Yield what a package says of itself, while the library can read its files and ask the internet nothing.

    Parameters
    ----------
    path
        The ``.zip`` file, or the description in a folder.
    content
        Of that file.

    Raises
    ------
    MissingDependencyError
        If the library is missing.
    ModelFileError
        If the package is damaged, of an unknown version, or parts of it lie elsewhere.
    ArchitectureError
        If it has no weights that torch runs.
    """
    spec, name = _library(), path.name
    zipped = content.startswith(b"PK")
    archive: zipfile.ZipFile | None = (
        opened(lambda: zipfile.ZipFile(io.BytesIO(content)), name) if zipped else None
    )
    about = read_description(content if archive is None else opened(lambda: _description(archive), name), name)
    models, kind = _models(about), weights_kind(about, name)
    entry = {key: value for key, value in about["weights"][kind].items() if key not in _ELSEWHERE}
    files = _files(entry, path, archive)
    everything = content if archive is not None else _one_after_the_other({name: content, **files})
    # a folder is read once: what is hashed is what runs
    root = _archived(files) if archive is None else archive
    with spec.ValidationContext(root=root, perform_io_checks=False, disable_cache=True, log_warnings=False):
        inputs, outputs = (
            [checked(model, tensor, f"{part}.{number}", name) for number, tensor in enumerate(about[part])]
            for part, model in (("inputs", models.InputTensorDescr), ("outputs", models.OutputTensorDescr))
        )
        weights = checked(models.WeightsDescr, {kind: entry}, "weights", name)
        yield Package(about, inputs, outputs, getattr(weights, kind), kind, everything)


def _library() -> Any:
    try:
        import bioimageio.core
        import bioimageio.spec
    except (ImportError, RuntimeError, OSError) as error:  # it makes a folder for its downloads when imported
        raise MissingDependencyError(
            f"bioimage.io packages need the package bioimageio.core ({error})",
            do=f"pip install 'napari-fidelity[bioimageio]', for torch {torch.__version__}",
        ) from error
    return bioimageio.spec


def _description(archive: zipfile.ZipFile) -> bytes:
    return archive.read(next(name for name in DESCRIPTIONS if name in archive.namelist()))


def _models(about: Mapping[str, Any]) -> Any:
    """Return the module of the library that knows the version of a description's format."""
    from bioimageio.spec import model

    return getattr(model, f"v{version_of(about).replace('.', '_')}")


def _files(entry: Mapping[str, Any], path: Path, archive: zipfile.ZipFile | None) -> dict[str, bytes]:
    """Return the files that an entry of weights names, after making sure that they are parts of the package."""
    architecture = entry.get("architecture")
    if isinstance(architecture, dict):
        architecture = architecture.get("source")
    elif architecture is not None:  # format 0.4: "file.py:Class", or "library.module.Class"
        architecture = str(architecture).rpartition(":")[0] or None
    found = {}
    for source in (entry.get("source"), architecture):
        if source is None:
            continue
        where = PurePosixPath(str(source))
        if re.match(r"\w+://", str(source)):
            raise ModelFileError(
                f"'{path.name}' is no whole package: parts of it lie on the internet, and nothing is downloaded",
                found=str(source),
                do="Download the package as one .zip file from bioimage.io",
            )
        file = path.parent / where
        outside = where.is_absolute() or ".." in where.parts
        if outside or (archive is None and not file.resolve().is_relative_to(path.parent.resolve())):
            raise ModelFileError(
                f"'{path.name}' names a file outside of itself", found=str(source), do="Do not use it"
            )
        if not (str(where) in archive.namelist() if archive is not None else file.is_file()):
            raise ModelFileError(f"'{path.name}' lacks a file that it names", found=str(source), do="Get it again")
        found[str(where)] = b"" if archive is not None else file.read_bytes()
    return found


def _one_after_the_other(files: Mapping[str, bytes]) -> bytes:
    """Return files as bytes of which only these files are made: each says where it ends."""
    heads = {name: f"{name} {len(content)}\n".encode() for name, content in files.items()}
    return b"".join(part for name, content in files.items() for part in (heads[name], content))


def _archived(files: Mapping[str, bytes]) -> zipfile.ZipFile:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return zipfile.ZipFile(written)
