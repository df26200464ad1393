from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pytest
from pydantic import Field

from napari_fidelity.core.errors import OptionError
from napari_fidelity.core.options import Array, Options
from napari_fidelity.core.spec import number_text, parse_one, parse_sum, parse_table, write_sum

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Blur(Options):
    kind: Literal["blur"] = "blur"
    sigma: float = Field(1.0, gt=0)
    kernel: Array | None = None
    border: str = "reflect"


class Plain(Options):
    kind: Literal["plain"] = "plain"


CLASSES = (Blur, Plain)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("blur", [Blur()]),
        (" blur : sigma = 2 ", [Blur(sigma=2)]),
        ("blur:sigma=1e+2", [Blur(sigma=100)]),
        ("blur:sigma=1e-2,border=zero", [Blur(sigma=0.01, border="zero")]),
        ("blur:kernel=[[1,2],[3,4]],sigma=3", [Blur(kernel=[[1, 2], [3, 4]], sigma=3)]),
        ("blur:sigma=2 + plain", [Blur(sigma=2), Plain()]),
        ("plain+blur+plain", [Plain(), Blur(), Plain()]),
    ],
)
def test_parsed(text: str, expected: list[Options]) -> None:
    assert parse_sum(text, CLASSES, "operator") == expected


def test_words_for_arrays_are_read() -> None:
    asked = []

    def read(name: str, word: str) -> NDArray[Any]:
        asked.append((name, word))
        return np.ones((2, 2))

    text = 'blur:kernel=psf.tif,border=zero + blur:kernel="a,b + c.tif" + blur:kernel=[1,2] + blur:border=psf.tif'
    parts = parse_sum(text, CLASSES, "operator", read)
    assert asked == [("kernel", "psf.tif"), ("kernel", "a,b + c.tif")]
    ones = np.ones((2, 2))
    assert parts == [
        Blur(kernel=ones, border="zero"),
        Blur(kernel=ones),
        Blur(kernel=[1, 2]),
        Blur(border="psf.tif"),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no operator ''.*There are: blur, plain"),
        ("blurr", "no operator 'blurr'.*There are: blur, plain"),
        ("blur + ", "no operator ''"),
        ("blur:sigma", r"name=value.*'sigma' in 'blur:sigma'"),
        ("blur:sgima=2", "there is no option 'sgima'.*Options of blur: sigma, kernel, border"),
        ("plain:a=1", "Options of plain: none"),
        ("blur:sigma=0", "'sigma' = 0: .*greater than 0"),
        ("blur:sigma=NaN", "'sigma' = nan"),
        ("blur:sigma=two", "'sigma' = 'two'"),
        ("blur:kernel=[[1,2", "'kernel'"),
        ("blur:sigma=1,sigma=2", "'sigma' is given twice"),
        ("blur:kind=plain", "'kind' is given twice"),
    ],
)
def test_refused(text: str, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        parse_sum(text, CLASSES, "operator")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ([Blur()], "blur:sigma=1"),
        ([Plain()], "plain"),
        ([Blur(border="zero", sigma=0.1 + 0.2)], "blur:sigma=0.30000000000000004,border=zero"),
        ([Blur(kernel=[[1, 0.5], [1e-9, -4]]), Plain()], "blur:sigma=1,kernel=[[1,0.5],[1e-09,-4]] + plain"),
    ],
)
def test_written(options: list[Options], text: str) -> None:
    assert write_sum(options) == text
    assert parse_sum(text, CLASSES, "operator") == options


@pytest.mark.parametrize(
    ("value", "text"),
    [(3, "3"), (3.0, "3"), (-0.5, "-0.5"), (1e15, "1000000000000000.0"), (1e300, "1e+300"), (5e-324, "5e-324")],
)
def test_numbers(value: float, text: str) -> None:
    assert number_text(value) == text
    assert float(text) == value


def test_tables() -> None:
    table = {"kind": "blur", "sigma": 2}
    assert parse_table(table, CLASSES, "operator") == Blur(sigma=2)
    assert table == {"kind": "blur", "sigma": 2}
    assert parse_one("plain", CLASSES, "operator") == Plain()
    with pytest.raises(OptionError, match="no operator 'None'"):
        parse_table({"sigma": 2}, CLASSES, "operator")
