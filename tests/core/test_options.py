from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from pydantic import Field

from napari_fidelity.core.errors import OptionError
from napari_fidelity.core.options import Array, Options, fingerprint


class Sample(Options):
    size: int = Field(3, ge=1, le=9)
    kernel: Array | None = None
    inner: Sample | None = None


class Parts(Options):
    names: frozenset[int | tuple[int, ...]] = frozenset()
    inner: Any = None


KERNELS = {
    "float64": np.linspace(0, 1, 12).reshape(3, 4),
    "float32": np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4),
    "integers": np.arange(12).reshape(3, 4),
    "large": np.random.default_rng(0).random((40, 40)),
    "large float32": np.random.default_rng(0).random((40, 40), dtype=np.float32),
}


def through_json(options: Sample) -> Sample:
    return Sample.parse(json.loads(json.dumps(options.to_plain())))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"siez": 3}, "there is no option 'siez'"),
        ({"size": 0}, "'size' = 0: .*greater than or equal to 1"),
        ({"size": "many"}, "'size' = 'many'"),
        ({"inner": {"size": 10}}, "'size' = 10"),
        ({"size": 0, "other": 1}, "'size' = 0.*; there is no option 'other'"),
        ({"kernel": [[1.0, float("nan")]]}, "1 entries are NaN or infinite"),
        ({"kernel": [["a", "b"]]}, "array of real numbers"),
        ({"kernel": [[1, 2], [3]]}, "'kernel'"),
        ({"kernel": {"shape": [2], "dtype": "<f4", "zlib": "AAAA"}}, "compressed array is damaged"),
        (
            {"kernel": {"shape": [2], "dtype": "no such", "zlib": "eJwDAAAAAAE="}},
            "compressed array is damaged",
        ),
        ({"kernel": {"shape": [7], "dtype": "<f4", "zlib": "eJwDAAAAAAE="}}, "compressed array is damaged"),
        ({"kernel": {"shape": [2], "dtype": "<f4", "zlib": 5}}, "compressed array is damaged"),
    ],
)
def test_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=f"Sample: .*{message}"):
        Sample(**values)


def test_replace_validates_and_keeps_the_rest() -> None:
    first = Sample(size=4, kernel=[1, 2])
    assert first.replace(size=5) == Sample(size=5, kernel=[1, 2])
    assert first.size == 4
    for changes in ({"size": 0}, {"other": 1}):
        with pytest.raises(OptionError):
            first.replace(**changes)


def test_frozen_down_to_the_array() -> None:
    options = Sample(kernel=[1.0, 2.0])
    with pytest.raises(Exception, match="frozen"):
        options.size = 4
    with pytest.raises(ValueError, match="read-only"):
        options.kernel[0] = 3


def test_array_is_a_copy() -> None:
    array = np.ones(3)
    options = Sample(kernel=array)
    array[:] = 7
    assert options.kernel.tolist() == [1, 1, 1]


@pytest.mark.parametrize("name", KERNELS)
def test_arrays_round_trip(name: str) -> None:
    options = Sample(kernel=KERNELS[name])
    assert isinstance(options.to_plain()["kernel"], dict if name.startswith("large") else list)
    again = through_json(options)
    np.testing.assert_array_equal(again.kernel, KERNELS[name])
    assert again == options
    assert hash(again) == hash(options)
    assert (
        again.kernel.dtype
        == options.kernel.dtype
        == (np.float64 if "64" in name or name == "large" else "float32")
    )


@pytest.mark.parametrize("value", [1e300, 2**25 + 1, 0.1])
def test_single_precision_only_where_it_is_exact(value: float) -> None:
    assert Sample(kernel=[value]).kernel.tolist() == [value]
    assert Sample(kernel=[0.5, -3, 2**24]).kernel.dtype == np.float32


def test_equality_and_hash() -> None:
    a, b, c = Sample(kernel=[1, 2]), Sample(kernel=[1, 2]), Sample(kernel=[1, 3])
    assert a == b
    assert hash(a) == hash(b)
    assert a != c
    assert len({a, b, c}) == 2
    assert a != "a"


def test_a_fingerprint_knows_no_order_of_sets() -> None:
    first, second = Parts(names=[0, 8]), Parts(names=[8, 0])
    assert list(first.names) != list(second.names)  # as in two processes
    assert fingerprint(first) == fingerprint(second) != fingerprint(Parts(names=[0, 7]))
    nested = [Parts(inner={"a": ({*numbers, (2, 1)},)}) for numbers in ([0, 8], [8, 0])]
    assert fingerprint(nested[0]) == fingerprint(nested[1]) != ""
    assert fingerprint(Parts(inner=[1, 2])) != fingerprint(Parts(inner=[2, 1]))
    assert fingerprint(Parts(inner={test_equality_and_hash})) == ""
