"""The base of every declaration: methods, operators, noise models, stopping rules, recipes.

One frozen pydantic model per variant. The dock widget, the command-line option, the recipe file and the
provenance record are all made from the same declaration.
"""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from typing import TYPE_CHECKING, Annotated, Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer, ValidationError
from pydantic_core import to_jsonable_python

from napari_fidelity.core.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Mapping

_FORMS = {"number", "per axis", "list"}  # tags of how a value was given, which are no part of its name
_NESTED_LIST_LIMIT = 1024  # numbers; larger arrays are written compressed


class Options(BaseModel):
    """Frozen, validated settings; an unknown field is an error.

    Raises
    ------
    OptionError
        If a field is unknown or its value lies outside its declared range.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        arbitrary_types_allowed=True,
        allow_inf_nan=False,
    )

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise option_error(type(self).__name__, error) from None

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> Self:
        """Build from plain values (a JSON or TOML table), with the same errors as the constructor."""
        return cls(**values)

    def replace(self, **changes: Any) -> Self:
        """Return a copy with some fields changed, validated like the constructor."""
        fields = {name: getattr(self, name) for name in self.model_fields_set}
        return type(self)(**{**fields, **changes})

    def to_plain(self) -> dict[str, Any]:
        """Return the settings as plain values that JSON and TOML can hold (``None`` left out)."""
        return self.model_dump(mode="json", exclude_none=True)

    def __eq__(self, other: object) -> bool:
        # Arrays among the fields make pydantic's own comparison ambiguous.
        return type(other) is type(self) and other.to_plain() == self.to_plain()

    def __hash__(self) -> int:
        return hash((type(self), self.model_dump_json()))


def flattened(value: Any, whole: type[Options], field: str) -> Any:
    """Return a list of parts with the parts of those in place of them that are wholes themselves.

    Parameters
    ----------
    value
        What was given for the field: options or plain values; anything but a list is returned as it is.
    whole
        The class that holds such a list.
    field
        Its name there.
    """
    if not isinstance(value, list | tuple):
        return value
    flat: list[Any] = []
    for item in value:
        inner: Any = None
        if isinstance(item, whole):
            inner = getattr(item, field)
        elif isinstance(item, dict) and item.get("kind") == whole.model_fields["kind"].default:
            inner = flattened(item.get(field), whole, field)
        flat.extend(inner if isinstance(inner, tuple) else (item,))
    return tuple(flat)


def fingerprint(options: Options) -> str:
    """Return a hash of options and the name of their class; ``""`` where their values cannot be written out."""
    try:
        said = json.dumps(_by_value(options.model_dump(exclude_none=True)), sort_keys=True)
    except (ValueError, TypeError):  # of a class of the user's own, whose fields may hold anything
        return ""
    return hashlib.sha256(f"{type(options).__qualname__} {said}".encode()).hexdigest()


def _by_value(plain: Any) -> Any:
    """Return what JSON can hold of dumped options, the same for the same values in every process.

    Compressed arrays, whose bytes differ from one zlib to another, are hashed; sets, whose order differs from one
    process to another, are sorted.
    """
    if isinstance(plain, dict):
        if "zlib" in plain:
            return {**plain, "zlib": hashlib.sha256(zlib.decompress(base64.b64decode(plain["zlib"]))).hexdigest()}
        return {name: _by_value(value) for name, value in plain.items()}
    if isinstance(plain, set | frozenset):
        return sorted(map(_by_value, plain), key=lambda value: json.dumps(value, sort_keys=True))
    if isinstance(plain, list | tuple):
        return [_by_value(value) for value in plain]
    return to_jsonable_python(plain)


def option_error(name: str, error: ValidationError) -> OptionError:
    """Turn pydantic's report into one sentence that names field, value and rule."""
    problems = []
    for item in error.errors(include_url=False):
        where = ".".join(str(part) for part in item["loc"] if part not in _FORMS) or "settings"
        if item["type"] == "extra_forbidden":
            problems.append(f"there is no option '{where}'")
        elif item["type"] == "missing":
            problems.append(f"'{where}' is required")
        else:
            problems.append(f"'{where}' = {_short(item.get('input'))}: {item['msg']}")
    return OptionError(f"{name}: " + "; ".join(problems))


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _decode_array(value: Any) -> NDArray[np.floating[Any]]:
    if isinstance(value, dict) and {"shape", "dtype", "zlib"} <= value.keys():
        array = _unpacked(value)
    else:
        array = np.asarray(value)
    if array.dtype.kind not in "fiub":
        raise ValueError(f"expected an array of real numbers, found dtype {array.dtype}")
    array = np.array(array, dtype=np.float64)
    if not np.isfinite(array).all():
        raise ValueError(f"{int((~np.isfinite(array)).sum())} entries are NaN or infinite")
    # The values alone decide on the precision: a list in a document does not say which one it had.
    with np.errstate(over="ignore"):
        single = array.astype(np.float32)
    if (single == array).all():
        array = single
    array.setflags(write=False)
    return array


def _unpacked(value: Mapping[str, Any]) -> NDArray[Any]:
    try:
        raw = zlib.decompress(base64.b64decode(value["zlib"]))
        return np.frombuffer(raw, dtype=np.dtype(value["dtype"])).reshape(value["shape"])
    except (TypeError, ValueError, zlib.error) as error:
        raise ValueError(f"the compressed array is damaged ({error})") from error


def _encode_array(array: NDArray[np.floating[Any]]) -> Any:
    if array.size <= _NESTED_LIST_LIMIT:
        return array.tolist()
    packed = base64.b64encode(zlib.compress(np.ascontiguousarray(array).tobytes(), 6)).decode("ascii")
    return {"shape": list(array.shape), "dtype": array.dtype.str, "zlib": packed}


Array = Annotated[NDArray[np.floating[Any]], BeforeValidator(_decode_array), PlainSerializer(_encode_array)]
"""A read-only array of finite floats as a field of options, float32 where that holds all values exactly.

JSON holds it as nested lists or compressed.
"""
