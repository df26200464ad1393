"""What a bioimage.io package says of itself, and what exactly is wrong with it where that cannot be used.

Checked here, before the library sees it: its own errors name neither the file nor what to do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_fidelity.core.errors import ArchitectureError, ModelFileError

if TYPE_CHECKING:
    from collections.abc import Mapping

_WEIGHTS = ("pytorch_state_dict", "torchscript")  # in the order of preference: the first can always learn
_VERSIONS = ("0.4", "0.5")
_TENSORS = ("inputs", "outputs")
_SAID = 3  # problems of a part that are told

_DO = "Get the package again from bioimage.io, or have whoever made it check its description"


def read_description(text: bytes, name: str) -> Mapping[str, Any]:
    """Return a description as plain values: of a model, of a known version, with inputs, outputs and weights.

    Parameters
    ----------
    text
        YAML.
    name
        Of the file that it is or lies in, for messages.

    Raises
    ------
    ModelFileError
        If it is anything else, saying what.
    """
    about = _values(text, name)
    if not isinstance(about, dict):
        raise ModelFileError(
            f"The description of '{name}' is no table of entries with names", found=_kind(about), do=_DO
        )
    if about.get("type") != "model":
        raise ModelFileError(
            f"'{name}' describes no bioimage.io model",
            found=f"type '{about['type']}'" if "type" in about else "no entry 'type'",
            do="Give the .zip of a model from bioimage.io, or the rdf.yaml of one",
        )
    if version_of(about) not in _VERSIONS:
        raise ModelFileError(
            f"The description of '{name}' is of a version that is not known here",
            found=f"format_version {about['format_version']}"
            if "format_version" in about
            else "no format_version",
            do=f"Known: {', '.join(_VERSIONS)}",
        )
    for part, wanted in (*((tensors, list) for tensors in _TENSORS), ("weights", dict)):
        _check_part(about, part, wanted, name)
    return about


def version_of(about: Mapping[str, Any]) -> str:
    """Return the version of a description's format, without its last number."""
    return ".".join(str(about.get("format_version", "")).split(".")[:2])


def weights_kind(about: Mapping[str, Any], name: str) -> str:
    """Return the format of those weights that are to be used.

    Raises
    ------
    ArchitectureError
        If there are none that torch runs.
    """
    held = {kind: entry for kind, entry in about["weights"].items() if entry is not None}
    kind = next((kind for kind in _WEIGHTS if kind in held), None)
    if kind is None:
        raise ArchitectureError(
            f"'{name}' holds no weights that torch runs",
            found=", ".join(sorted(map(str, held))) or "none",
            do=f"Use a package with weights of the format {' or '.join(_WEIGHTS)}",
        )
    if not isinstance(held[kind], dict):
        raise _wrong(f"weights.{kind}", "no table of entries with names", _kind(held[kind]), name)
    return kind


def checked(model: Any, values: Any, part: str, name: str) -> Any:
    """Return what the library makes of a part of a description.

    Parameters
    ----------
    model
        The library's class for it.
    values
        The part.
    part
        Where it is in the description.
    name
        Of the package's file.

    Raises
    ------
    ModelFileError
        If the part is not as the format wants it.
    """
    from pydantic import ValidationError

    try:
        return model.model_validate(values)
    except ValidationError as error:
        found = [_problem(item) for item in error.errors(include_url=False)]
        more = [f"and {len(found) - _SAID} more"] if len(found) > _SAID else []
        raise _wrong(part, "not as the format wants it", "; ".join(found[:_SAID] + more), name) from None


def _values(text: bytes, name: str) -> Any:
    from bioimageio.spec.utils import read_yaml

    try:
        return read_yaml(text.decode())
    except UnicodeDecodeError as error:
        found = f"a byte that is no UTF-8 at position {error.start}"
    except Exception as error:  # of whatever reads YAML for the library
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
        where = f"line {mark.line + 1}: " if mark is not None else ""
        found = where + " ".join(str(problem or error).split())[:200]
    raise ModelFileError(f"The description of '{name}' is no YAML", found=found, do=_DO)


def _check_part(about: Mapping[str, Any], part: str, wanted: type, name: str) -> None:
    """Refuse a description in which a part is missing, of the wrong kind or empty."""
    if about.get(part) is None:
        raise ModelFileError(f"The description of '{name}' has no entry '{part}'", do=_DO)
    if not isinstance(about[part], wanted):
        kind = "no list" if wanted is list else "no table of entries with names"
        raise _wrong(part, kind, _kind(about[part]), name)
    if not about[part]:
        raise ModelFileError(f"The entry '{part}' in the description of '{name}' is empty", do=_DO)


def _wrong(part: str, what: str, found: str, name: str) -> ModelFileError:
    return ModelFileError(f"The entry '{part}' in the description of '{name}' is {what}", found=found, do=_DO)


def _problem(item: Mapping[str, Any]) -> str:
    names = [str(part) for part in item["loc"] if isinstance(part, int) or part.islower()]  # no classes' names
    return ": ".join([".".join(names), item["msg"]] if names else [item["msg"]])[:160]


def _kind(value: Any) -> str:
    """Return what a value of YAML is, in words."""
    return {dict: "a table", list: "a list", str: "a text", type(None): "nothing"}.get(
        type(value), f"{value!r:.40}"
    )
