"""``models`` and ``convert``: what there is to restore with."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from rich.table import Table

from napari_fidelity.cli._console import OK, out, print_json
from napari_fidelity.cli._options import Own
from napari_fidelity.networks.info import FORMATS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_fidelity.core.errors import FidelityError
    from napari_fidelity.networks import ModelInfo


def models(
    names: Annotated[list[str] | None, Parameter(negative="")] = None,
    /,
    *,
    trust: Annotated[bool, Parameter(negative="")] = False,
    json: Annotated[bool, Parameter(negative="")] = False,
    own: Own = Own(),
) -> int:
    """List bundled models and your own, or those of a folder, or tell all about models: sizes, licence, hash.

    Parameters
    ----------
    names
        Ids of models, model files, or folders, of which every model file is listed with what it is or why it
        cannot be used; left out, all models with an id are listed.
    trust
        Let code in the files run (TorchScript, exported programs, packages): only from those you trust.
    json
        Print one JSON document.
    """
    from napari_fidelity.io import list_models, load_model

    names = [_file_of(name) for name in names or ()]
    folders = [Path(name) for name in names if Path(name).expanduser().is_dir()]
    if folders:
        listed = [row for folder in folders for row in _in_folder(folder, trust=trust)]
        alone = [name for name in names if Path(name) not in folders]
        listed += [(name, load_model(name, trust=trust).info) for name in alone]
        if json:
            print_json([_plain(name, found) for name, found in listed])
        else:
            _print_files(listed)
        return OK
    infos = [load_model(name, trust=trust).info for name in names] if names else list_models()
    if json:
        print_json([asdict(info) for info in infos])
    elif names:
        for info in infos:
            _print_card(info)
    else:
        _print_list(infos)
    return OK


def convert(
    source: Path,
    target: Path,
    /,
    *,
    licence: str | None = None,
    origin: str | None = None,
    overwrite: Annotated[bool, Parameter(negative="")] = False,
    json: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Convert a model to safetensors: weights-only .pth files, and the published EnhanceNet weights (.npz).

    Parameters
    ----------
    source
        The file to convert; nothing in it is executed.
    target
        The .safetensors file to write.
    licence
        Licence of the weights, kept in the file.
    origin
        Where the weights come from, kept in the file.
    overwrite
        Replace the target if it exists.
    json
        Print one JSON document.
    """
    from napari_fidelity.io import convert_model

    card = {name: text for name, text in (("licence", licence), ("source", origin)) if text}
    info = convert_model(source, target, overwrite=overwrite, **card)
    if json:
        print_json({"output": str(target), **asdict(info)})
    else:
        out.print(f"{target}:", markup=False)
        _print_card(info)
    return OK


def _file_of(name: str) -> str:
    """Return the name of a model; of the folder of an unpacked package that of its description."""
    from napari_fidelity.io._formats import DESCRIPTIONS

    found = (Path(name, description) for description in DESCRIPTIONS)
    return next((str(path) for path in found if path.expanduser().is_file()), name)


def _in_folder(folder: Path, *, trust: bool) -> list[tuple[str, ModelInfo | FidelityError]]:
    """Return what is known of each model file in a folder, or why it cannot be used."""
    from napari_fidelity.core.errors import FidelityError, ModelFileError
    from napari_fidelity.io import load_model
    from napari_fidelity.io.models import is_model_file

    try:
        paths = sorted(path for path in folder.expanduser().iterdir() if is_model_file(path))
    except OSError as error:
        raise ModelFileError(f"The folder '{folder}' cannot be read", found=str(error.strerror)) from error
    found: list[tuple[str, ModelInfo | FidelityError]] = []
    for path in paths:
        try:
            found.append((str(folder / path.name), load_model(path, trust=trust).info))
        except FidelityError as error:
            found.append((str(folder / path.name), error))
    return found


def _plain(name: str, found: ModelInfo | FidelityError) -> dict[str, Any]:
    if isinstance(found, Exception):
        return {"file": name, "error": type(found).__name__, "message": str(found)}
    return {"file": name, **asdict(found)}


def _print_files(listed: Sequence[tuple[str, ModelInfo | FidelityError]]) -> None:
    if not listed:
        out.print("No model files there.")
        return
    table = Table(show_edge=False, pad_edge=False)
    for head in ("file", "network", "scale", "channels", "what to know"):
        table.add_column(head, overflow="fold", no_wrap=head in ("scale", "channels"))
    for name, found in listed:
        if isinstance(found, Exception):
            table.add_row(name, "–", "–", "–", str(found))
            continue
        known = "; ".join(_in_words(found)) or found.trained_for
        table.add_row(name, found.architecture, f"×{found.scale}", str(found.n_channels), known)
    out.print(table)


def _in_words(info: ModelInfo) -> list[str]:
    """Return what there is to know before one uses a network: frames, sizes, training."""
    said = []
    if info.frames > 1:
        said.append(f"restores each frame of a video from {info.frames}")
    if info.size_multiple > 1:
        said.append(f"pads images to multiples of {info.size_multiple} pixels")
    if info.smallest > 1:
        said.append(f"pads images to {info.smallest} pixels at least")
    if info.untrainable:
        said.append(f"cannot be fine-tuned: {info.untrainable}")
    return said


def _print_list(infos: Sequence[ModelInfo]) -> None:
    table = Table(show_edge=False, pad_edge=False)
    for head in ("id", "network", "scale", "channels", "trained for", "licence"):
        table.add_column(head, overflow="fold", no_wrap=head not in ("trained for", "licence"))
    for info in infos:
        table.add_row(
            info.id, info.architecture, f"×{info.scale}", str(info.n_channels), info.trained_for, info.licence
        )
    out.print(table)


_WORDED = {"frames", "size_multiple", "smallest", "untrainable", "format"}


def _print_card(info: ModelInfo) -> None:
    table = Table(show_header=False, show_edge=False, box=None, pad_edge=False)
    for name, value in asdict(info).items():
        if name not in _WORDED and value not in ("", None, {}):
            table.add_row(name.replace("_", " "), str(value))
    if info.format:
        table.add_row("file", FORMATS.get(info.format, info.format))
    for words in _in_words(info):
        table.add_row("", words)
    out.print(table)
