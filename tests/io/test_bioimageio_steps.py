"""Declared processing against the library's own implementation, in both formats."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from napari_fidelity.core.errors import ArchitectureError
from napari_fidelity.io._bioimageio_steps import read_steps
from napari_fidelity.networks.processing import LinearStep

pytest.importorskip("bioimageio.core", reason="bioimageio is an extra")

from bioimageio.core.common import MemberId
from bioimageio.core.proc_ops import get_proc
from bioimageio.core.sample import Sample
from bioimageio.core.stat_calculators import compute_measures
from bioimageio.core.tensor import Tensor
from bioimageio.spec import ValidationContext
from bioimageio.spec.model import v0_4, v0_5

YX, CYX, BYX = ["y", "x"], ["channel", "y", "x"], ["batch", "y", "x"]

# name, values in format 0.5
NEW: list[tuple[str, dict[str, Any]]] = [
    ("scale_linear", {"gain": 2.0, "offset": -0.5}),
    ("scale_linear", {"axis": "channel", "gain": [1.0, 2.0, 3.0], "offset": [0.5, 0.0, -0.5]}),
    ("scale_linear", {"axis": "channel", "gain": [1.0, 2.0, 3.0]}),
    ("zero_mean_unit_variance", {}),
    ("zero_mean_unit_variance", {"axes": YX}),
    ("zero_mean_unit_variance", {"axes": CYX}),
    ("zero_mean_unit_variance", {"axes": BYX}),
    ("fixed_zero_mean_unit_variance", {"mean": 0.4, "std": 0.2}),
    ("fixed_zero_mean_unit_variance", {"axis": "channel", "mean": [0.1, 0.2, 0.3], "std": [1.0, 2.0, 3.0]}),
    ("scale_range", {}),
    ("scale_range", {"axes": YX, "min_percentile": 1.0, "max_percentile": 99.8}),
    ("scale_range", {"axes": CYX, "min_percentile": 5.0, "max_percentile": 90.0}),
    ("clip", {"min": 0.2, "max": 0.7}),
    ("clip", {"min": 0.2}),
    ("clip", {"min_percentile": 10.0, "max_percentile": 90.0, "axes": YX}),
    ("clip", {"min_percentile": 3.0, "max_percentile": 77.0, "axes": CYX}),
    ("clip", {"min": 0.1, "max_percentile": 90.0}),
    ("sigmoid", {}),
    ("binarize", {"threshold": 0.5}),
]
AFTER: list[tuple[str, dict[str, Any]]] = [
    ("scale_mean_variance", {"reference_tensor": "raw"}),
    ("scale_mean_variance", {"reference_tensor": "raw", "axes": YX, "eps": 0.01}),
    ("scale_range", {"reference_tensor": "raw", "axes": YX, "min_percentile": 2.0, "max_percentile": 98.0}),
]
OLD: list[tuple[str, dict[str, Any]]] = [
    ("scale_linear", {"gain": 2.0, "offset": -0.5}),
    ("zero_mean_unit_variance", {"mode": "fixed", "axes": "cyx", "mean": 0.4, "std": 0.2}),
    ("zero_mean_unit_variance", {"mode": "fixed", "axes": "yx", "mean": [0.1, 0.2, 0.3], "std": [1.0, 2.0, 3.0]}),
    ("clip", {"min": 0.2, "max": 0.7}),
    ("sigmoid", {}),
    ("binarize", {"threshold": 0.5}),
]


def image(seed: int = 0, batch: int = 1) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).random((batch, 3, 11, 13)).astype(np.float32)


def tensors_05(step: dict[str, Any], *, after: bool) -> tuple[Any, Any]:
    def axes(size: Any) -> list[Any]:
        space = [{"type": "space", "id": axis, "size": size(axis)} for axis in "yx"]
        return [{"type": "batch"}, {"type": "channel", "channel_names": ["r", "g", "b"]}, *space]

    taken = {"id": "raw", "axes": axes(lambda _: {"min": 8, "step": 1}), "preprocessing": [] if after else [step]}
    made = {
        "id": "restored", "axes": axes(lambda a: {"tensor_id": "raw", "axis_id": a}),
        "postprocessing": [step] if after else [],
    }  # fmt: skip
    with ValidationContext(perform_io_checks=False, log_warnings=False):
        return v0_5.InputTensorDescr.model_validate(taken), v0_5.OutputTensorDescr.model_validate(made)


def tensor_04(step: dict[str, Any]) -> Any:
    described = {
        "name": "raw", "axes": "bcyx", "data_type": "float32", "preprocessing": [step],
        "shape": {"min": [1, 3, 8, 8], "step": [0, 0, 1, 1]},
    }  # fmt: skip
    with ValidationContext(perform_io_checks=False, log_warnings=False):
        return v0_4.InputTensorDescr.model_validate(described)


def by_library(description: Any, tensor: Any, x: np.ndarray[Any, Any], raw: np.ndarray[Any, Any]) -> Any:
    dims = tuple(tensor.axes) if isinstance(tensor.axes, str) else tuple(str(axis.id) for axis in tensor.axes)
    name = str(getattr(tensor, "id", None) or tensor.name)
    members = {MemberId("raw"): raw} | {MemberId(name): x}
    sample = Sample(members={k: Tensor.from_numpy(v, dims=dims) for k, v in members.items()}, stat={}, id="one")
    step = get_proc(description, tensor)
    if step.required_measures:
        sample.stat.update(compute_measures(set(step.required_measures), [sample]))
    step(sample)
    return sample.members[MemberId(name)].to_numpy()


def ours(descriptions: Any, tensor: Any, x: np.ndarray[Any, Any], raw: np.ndarray[Any, Any]) -> Any:
    (step,) = read_steps(descriptions, tensor, ["raw"])
    return step(torch.from_numpy(x), torch.from_numpy(raw)).numpy()


@pytest.mark.filterwarnings("ignore:Computed dataset percentiles naively")
@pytest.mark.parametrize(("name", "values"), NEW, ids=str)
def test_before_the_network(name: str, values: dict[str, Any]) -> None:
    tensor, _ = tensors_05({"id": name, "kwargs": values} if values else {"id": name}, after=False)
    described = [step for step in tensor.preprocessing if step.id == name]
    x = image()
    assert np.allclose(ours(described, tensor, x, x), by_library(described[0], tensor, x, x), atol=2e-6)


@pytest.mark.filterwarnings("ignore:Computed dataset percentiles naively")
@pytest.mark.parametrize(("name", "values"), NEW + AFTER, ids=str)
def test_after_the_network(name: str, values: dict[str, Any]) -> None:
    _, tensor = tensors_05({"id": name, "kwargs": values} if values else {"id": name}, after=True)
    described = [step for step in tensor.postprocessing if step.id == name]
    x, raw = image(1), image(2) * 3 + 1
    found, wanted = ours(described, tensor, x, raw), by_library(described[0], tensor, x, raw)
    assert np.allclose(found, wanted, atol=5e-6)


def test_what_the_library_leaves_out() -> None:
    """It neither looks at ``eps`` nor compares along an axis; the format wants both."""
    x = image()
    mean, std = (f(x, axis=(2, 3), keepdims=True) for f in (np.mean, np.std))
    low, high = (np.percentile(x, q, axis=(2, 3), keepdims=True) for q in (5, 90))
    wanted = {
        ("zero_mean_unit_variance", "eps"): (x - mean) / (std + 0.1),
        ("scale_range", "eps"): (x - low) / (high - low + 0.1),
        ("binarize", "axis"): x > np.array([0.2, 0.5, 0.8]).reshape(3, 1, 1),
    }
    values: dict[tuple[str, str], Any] = {
        ("zero_mean_unit_variance", "eps"): {"axes": YX, "eps": 0.1},
        ("scale_range", "eps"): {"axes": YX, "min_percentile": 5, "max_percentile": 90, "eps": 0.1},
        ("binarize", "axis"): {"threshold": [0.2, 0.5, 0.8], "axis": "channel"},
    }
    for key, kwargs in values.items():
        tensor, _ = tensors_05({"id": key[0], "kwargs": kwargs}, after=False)
        described = [step for step in tensor.preprocessing if step.id == key[0]]
        assert np.allclose(ours(described, tensor, x, x), wanted[key], atol=2e-6)


@pytest.mark.parametrize(("name", "values"), OLD, ids=str)
def test_the_older_format(name: str, values: dict[str, Any]) -> None:
    tensor = tensor_04({"name": name, "kwargs": values} if values else {"name": name})
    x = image()
    wanted = by_library(tensor.preprocessing[0], tensor, x, x)
    assert np.allclose(ours(tensor.preprocessing, tensor, x, x), wanted, atol=2e-6)


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("zero_mean_unit_variance", {"mode": "per_sample", "axes": "yx"}, {"axes": YX}),
        ("zero_mean_unit_variance", {"mode": "per_dataset", "axes": "cyx"}, {}),
        (
            "scale_range",
            {"mode": "per_sample", "axes": "xy", "min_percentile": 1},
            {"axes": YX, "min_percentile": 1},
        ),
        ("scale_range", {"mode": "per_sample", "axes": "cxy"}, {"axes": CYX}),
    ],
    ids=str,
)
def test_statistics_of_the_older_format_are_those_of_the_newer(name: str, old: Any, new: Any) -> None:
    """The library itself does not run these: it looks for the axes under other names."""
    before = tensor_04({"name": name, "kwargs": old})
    after, _ = tensors_05({"id": name, "kwargs": new}, after=False)
    described = [step for step in after.preprocessing if step.id == name]
    x = image()
    assert np.array_equal(ours(before.preprocessing, before, x, x), ours(described, after, x, x))


def test_a_matched_tensor_of_the_older_format() -> None:
    with ValidationContext(perform_io_checks=False, log_warnings=False):
        tensor = v0_4.OutputTensorDescr.model_validate({
            "name": "restored", "axes": "bcyx", "data_type": "float32", "shape": [1, 3, 11, 13],
            "postprocessing": [
                {
                    "name": "scale_mean_variance",
                    "kwargs": {"mode": "per_sample", "reference_tensor": "raw", "axes": "cyx"},
                }
            ],
        })  # fmt: skip
    x, raw = image(1), image(2) * 3 + 1
    found = ours(tensor.postprocessing, tensor, x, raw)
    assert (found.mean(), found.std()) == pytest.approx((raw.mean(), raw.std()), rel=1e-4)


@pytest.mark.parametrize("kind", ["uint8", "int16", "bool"])
def test_casts_between_other_steps(kind: str) -> None:
    scale = {"id": "scale_linear", "kwargs": {"gain": 300.0, "offset": -20.0}}
    cast = {"id": "ensure_dtype", "kwargs": {"dtype": kind}}
    tensor, _ = tensors_05(scale, after=False)
    with ValidationContext(perform_io_checks=False, log_warnings=False):
        described = [v0_5.EnsureDtypeDescr.model_validate(cast), v0_5.ScaleLinearDescr.model_validate(scale)]
    step = read_steps(described[::-1] + described[1:], tensor, ["raw"])[1]  # between two others
    x = torch.linspace(0, 1, 12).reshape(1, 1, 3, 4).requires_grad_()
    found = step(x if kind == "bool" else 300 * x - 20, x)
    inside = {"uint8": (0, 255), "int16": (-(2**15), 2**15 - 1), "bool": (0, 1)}[kind]
    assert bool(((found >= inside[0]) & (found <= inside[1])).all())
    assert torch.equal(found, found.round())
    (slope,) = torch.autograd.grad(found.sum(), x)
    assert bool((slope != 0).all())  # as if nothing were done


def test_casts_at_the_ends_are_left_out() -> None:
    tensor, made = tensors_05({"id": "ensure_dtype", "kwargs": {"dtype": "uint8"}}, after=False)
    assert read_steps(tensor.preprocessing, tensor, ["raw"]) == []
    _, made = tensors_05({"id": "ensure_dtype", "kwargs": {"dtype": "uint8"}}, after=True)
    assert read_steps(made.postprocessing, made, ["raw"]) == []


def test_each_image_of_a_batch_has_its_own_statistics() -> None:
    tensor, _ = tensors_05({"id": "scale_range", "kwargs": {"axes": BYX, "min_percentile": 2}}, after=False)
    described = [step for step in tensor.preprocessing if step.id == "scale_range"]
    x = image(batch=2) * np.array([1, 5], np.float32).reshape(2, 1, 1, 1)
    both = ours(described, tensor, x, x)
    assert np.allclose(both, np.concatenate([ours(described, tensor, y, y) for y in (x[:1], x[1:])]))


@pytest.mark.parametrize(("name", "values"), [*NEW[:18], *AFTER], ids=str)
def test_gradients(name: str, values: dict[str, Any]) -> None:
    """In double precision, of all linear steps and of those that are smooth almost everywhere."""
    _, tensor = tensors_05({"id": name, "kwargs": values} if values else {"id": name}, after=True)
    described = [step for step in tensor.postprocessing if step.id == name]
    (step,) = read_steps(described, tensor, ["raw"])
    x, raw = (torch.from_numpy(image(seed)[..., :4, :5]).double().requires_grad_() for seed in (1, 2))
    assert torch.autograd.gradcheck(step, (x, raw), fast_mode=True, atol=1e-4)
    assert isinstance(step, LinearStep) == (name not in ("clip", "sigmoid"))


@pytest.mark.parametrize(
    ("name", "values", "match"),
    [
        ("softmax", {"axis": "channel"}, "softmax"),
        ("scale_range", {"axes": ["x"]}, "row by row"),
        ("scale_range", {"reference_tensor": "another"}, "refers to 'another'"),
        ("scale_linear", {"gain": 0.0, "offset": 1.0}, "by 0"),
        ("scale_linear", {"axis": "y", "gain": [1.0, 2.0]}, "something else than channels"),
    ],
)
def test_what_is_refused(name: str, values: dict[str, Any], match: str) -> None:
    _, tensor = tensors_05({"id": name, "kwargs": values}, after=True)
    described = [step for step in tensor.postprocessing if step.id == name]
    with pytest.raises(ArchitectureError, match=match):
        read_steps(described, tensor, ["raw"])
