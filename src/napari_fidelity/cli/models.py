"""``models`` and ``convert``: what there is to restore with."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.table import Table

from napari_fidelity.cli._console import OK, out, print_json
from napari_fidelity.cli._options import Own

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_fidelity.networks import ModelInfo


def models(
    names: Annotated[list[str] | None, Parameter(negative="")] = None,
    /,
    *,
    json: Annotated[bool, Parameter(negative="")] = False,
    own: Own = Own(),
) -> int:
    """List bundled models and your own, or tell all about models: architecture, size, training, licence, hash.

    Parameters
    ----------
    names
        Ids of models, or model files; left out, all models with an id are listed.
    json
        Print one JSON document.
    """
    from napari_fidelity.io import list_models, load_model

    infos = [load_model(name).info for name in names] if names else list_models()
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


def _print_list(infos: Sequence[ModelInfo]) -> None:
    table = Table(show_edge=False, pad_edge=False)
    for head in ("id", "network", "scale", "channels", "trained for", "licence"):
        table.add_column(head, overflow="fold", no_wrap=head not in ("trained for", "licence"))
    for info in infos:
        table.add_row(
            info.id, info.architecture, f"×{info.scale}", str(info.n_channels), info.trained_for, info.licence
        )
    out.print(table)


def _print_card(info: ModelInfo) -> None:
    table = Table(show_header=False, show_edge=False, box=None, pad_edge=False)
    for name, value in asdict(info).items():
        if value not in ("", None, {}):
            table.add_row(name.replace("_", " "), str(value))
    out.print(table)
