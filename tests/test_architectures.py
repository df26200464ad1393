"""The table of architectures: its list is whole, and a few of its rows measured again."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("spandrel")

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def benchmark() -> Any:
    """The benchmark's module."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        spec = importlib.util.spec_from_file_location("architectures", BENCHMARKS / "architectures.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(BENCHMARKS))
    return module


def test_every_architecture_is_listed_and_measured(benchmark: Any) -> None:
    assert not benchmark._not_covered()
    lines = (BENCHMARKS / "results" / "architectures.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    assert {row["case"] for row in rows} == {benchmark.label(*case) for case in benchmark.CASES}
    assert {row["runs"] for row in rows if row["loads"] == "yes"} == {"yes"}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:'saved_variables' is deprecated:DeprecationWarning")  # NAFNet's backward pass
@pytest.mark.parametrize(
    "name", ["HAT", "NAFNet", "FBCNN", "GRL", "UpCunet3x", "SPAN", "AuraSR", "GFPGAN", "Uformer"]
)
def test_rows_can_be_measured_again(benchmark: Any, name: str) -> None:
    case = next(case for case in benchmark.CASES if case[1] == name)
    row = benchmark.measure(*case)
    if name == "GFPGAN":
        assert "faces" in row["loads"]
        return
    assert (row["loads"], row["runs"]) == ("yes", "yes")
    assert "→" in row["projects"]
    assert "%" in row["learns"]
