from __future__ import annotations

from typing import Literal

import pytest
from pydantic import Field

from napari_fidelity.core.errors import OptionError
from napari_fidelity.core.options import Array, Options
from napari_fidelity.core.spec import parse_one, parse_sum, parse_table


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


def test_tables() -> None:
    table = {"kind": "blur", "sigma": 2}
    assert parse_table(table, CLASSES, "operator") == Blur(sigma=2)
    assert table == {"kind": "blur", "sigma": 2}
    assert parse_one("plain", CLASSES, "operator") == Plain()
    with pytest.raises(OptionError, match="no operator 'None'"):
        parse_table({"sigma": 2}, CLASSES, "operator")
