"""The description in a bioimage.io package, and the files it names, read without the internet."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from napari_fidelity.core.errors import ArchitectureError, MissingDependencyError, ModelFileError
from napari_fidelity.core.lazy import torch
from napari_fidelity.io._formats import opened

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_DESCRIPTIONS = ("rdf.yaml", "bioimageio.yaml")
_WEIGHTS = ("pytorch_state_dict", "torchscript")  # in the order of preference: the first can always learn
_VERSIONS = ("0.4", "0.5")


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
        source = _source(self.weights)
        what = f"'{self.architecture}' of an installed library" if source is None else f"the file '{source}' in it"
        return f"to load it, {what} is executed, with all that you may do on this computer"


def read_package(path: Path, content: bytes, context: Any) -> Package:
    """Return what a package says of itself.

    Parameters
    ----------
    path
        The ``.zip`` file, or the description in a folder.
    content
        Of that file.
    context
        ``bioimageio.spec.ValidationContext`` in which to read it, entered, with the package as its root.

    Raises
    ------
    ModelFileError
        If it is damaged, of an unknown version, or parts of it lie elsewhere.
    ArchitectureError
        If it has no weights that torch runs.
    """
    archive = context.root if isinstance(context.root, zipfile.ZipFile) else None
    text = content if archive is None else opened(lambda: archive.read(_description_in(archive)), path.name)
    about = _described(text, path.name)
    models = _models(str(about.get("format_version", "")), path.name)
    held = about.get("weights")
    kind = _weights_kind(held if isinstance(held, dict) else {}, path.name)
    inputs, outputs, weights = opened(
        lambda: (
            [models.InputTensorDescr.model_validate(tensor) for tensor in about["inputs"]],
            [models.OutputTensorDescr.model_validate(tensor) for tensor in about["outputs"]],
            getattr(models.WeightsDescr.model_validate({kind: _orphaned(about["weights"][kind])}), kind),
        ),
        path.name,
        do="Get the package again, or have whoever made it check its description",
    )
    own = _own_files(weights, path, archive)
    everything = content if archive is not None else b"".join([content, *(file.read_bytes() for file in own)])
    return Package(about, inputs, outputs, weights, kind, everything)


def library() -> Any:
    """Return ``bioimageio.spec``, of which ``bioimageio.core`` is there, too.

    Raises
    ------
    MissingDependencyError
        If one of them is not.
    """
    try:
        import bioimageio.core
        import bioimageio.spec
    except (ImportError, RuntimeError, OSError) as error:  # it makes a folder for its downloads when imported
        raise MissingDependencyError(
            f"bioimage.io packages need the package bioimageio.core ({error})",
            do=f"pip install 'napari-fidelity[bioimageio]', for torch {torch.__version__}",
        ) from error
    return bioimageio.spec


def root_of(path: Path, content: bytes) -> zipfile.ZipFile | Path:
    """Return where the files of a package are: in the archive, or in the folder of its description."""
    if not content.startswith(b"PK"):
        return path.resolve().parent
    archive: zipfile.ZipFile = opened(lambda: zipfile.ZipFile(io.BytesIO(content)), path.name)
    return archive


def _description_in(archive: zipfile.ZipFile) -> str:
    return next(name for name in _DESCRIPTIONS if name in archive.namelist())


def _described(text: bytes, name: str) -> Mapping[str, Any]:
    from bioimageio.spec.utils import read_yaml

    about: Any = opened(lambda: read_yaml(text.decode()), name)
    if not isinstance(about, dict) or about.get("type") != "model":
        found = f"type '{about.get('type')}'" if isinstance(about, dict) else type(about).__name__
        raise ModelFileError(f"'{name}' describes no bioimage.io model", found=found)
    return about


def _models(version: str, name: str) -> Any:
    """Return the module of the library that knows a version of the format."""
    from bioimageio.spec import model

    short = ".".join(version.split(".")[:2])
    if short not in _VERSIONS:
        raise ModelFileError(
            f"The description in '{name}' is of a version that is not known here",
            found=f"format_version {version or 'missing'}",
            do=f"Known: {', '.join(_VERSIONS)}",
        )
    return getattr(model, f"v{short.replace('.', '_')}")


def _weights_kind(held: Mapping[str, Any], name: str) -> str:
    kind = next((kind for kind in _WEIGHTS if held.get(kind)), None)
    if kind is None:
        raise ArchitectureError(
            f"'{name}' holds no weights that torch runs",
            found=", ".join(sorted(map(str, held))) or "none",
            do=f"Use a package with weights of the format {' or '.join(_WEIGHTS)}",
        )
    return kind


def _orphaned(weights: Mapping[str, Any]) -> dict[str, Any]:
    """Return an entry of weights without saying which others it was made from, as these are not read."""
    return {name: value for name, value in weights.items() if name not in ("parent", "dependencies", "authors")}


def _source(weights: Any) -> Any:
    """Return the file of the architecture; ``None`` if it comes from a library."""
    own = getattr(weights, "architecture", None)
    return getattr(own, "source", getattr(own, "source_file", None))


def _own_files(weights: Any, path: Path, archive: zipfile.ZipFile | None) -> list[Path]:
    """Return the files that are used, after making sure that they are there and a part of the package."""
    files = []
    for source in (weights.source, _source(weights)):
        if source is None:
            continue
        where = str(source)
        if "://" in where:
            raise ModelFileError(
                f"'{path.name}' is no whole package: a part of it lies on the internet, where nothing is loaded from",
                found=where,
                do="Download the package as one .zip file from bioimage.io",
            )
        file, folder = path.parent / where, path.resolve().parent
        outside = PurePosixPath(where).is_absolute() or ".." in PurePosixPath(where).parts
        if outside or (archive is None and not file.resolve().is_relative_to(folder)):
            raise ModelFileError(f"'{path.name}' names a file outside of itself", found=where, do="Do not use it")
        if not (where in archive.namelist() if archive is not None else file.is_file()):
            raise ModelFileError(f"'{path.name}' lacks a file that it names", found=where, do="Get it again")
        files.append(file)
    return files
