"""Operators of the user's own; what holds for every operator is in the laws."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from napari_fidelity.core.errors import OperatorError, OptionError
from napari_fidelity.operators import (
    Compose,
    Downsample,
    GaussianBlur,
    Grid,
    Identity,
    Mask,
    Operator,
    Registered,
    parse_operator,
    register_operator,
    resolved,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

pytestmark = pytest.mark.usefixtures("nothing_registered")


class Binned:
    """Sums of 2 × 2 pixels, for RGB images alone: an object with two methods."""

    calls = 0

    def A(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        assert x.shape[1] == 3, "three channels"
        return 4 * torch.nn.functional.avg_pool2d(x, 2)

    def A_adjoint(self, y: torch.Tensor) -> torch.Tensor:
        return y.repeat_interleave(2, -1).repeat_interleave(2, -2)


class Sized:
    """A factor for every pixel, of an image of one size only."""

    def __init__(self, factor: float = 0.5) -> None:
        self.weight = torch.full((7, 9), factor)

    def A(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.weight

    A_adjoint = A


def test_a_name_stands_for_an_operator() -> None:
    operator = register_operator("my-blur", GaussianBlur(sigma=1.2))
    assert operator == Registered(name="my-blur") == parse_operator("registered:name=my-blur")
    assert parse_operator("registered:name=my-blur + downsample:scale=2").operators[0] == operator  # type: ignore[attr-defined]
    x = torch.rand(1, 2, 20, 21)
    assert torch.equal(operator.A(x), GaussianBlur(sigma=1.2).A(x))
    assert operator.chains(2) == GaussianBlur(sigma=1.2).chains(2)
    assert operator.to_plain() == {"kind": "registered", "name": "my-blur"}
    other = register_operator("again", operator)
    assert other.own is operator.own


def test_the_last_one_of_a_name_counts(caplog: pytest.LogCaptureFixture) -> None:
    operator = register_operator("my-blur", GaussianBlur())
    with caplog.at_level(logging.WARNING):
        register_operator("my-blur", Downsample(scale=2))
    assert "the operator 'my-blur' registered before is replaced" in caplog.text
    assert operator.image_shape((4, 5)) == (8, 10)


def test_one_that_was_not_registered() -> None:
    register_operator("my-blur", GaussianBlur())
    for make in (lambda: Registered(name="gone"), lambda: parse_operator("registered:name=gone")):
        with pytest.raises(
            OperatorError, match=r"'gone' is registered in this process.*'my-blur'.*register_operator"
        ):
            make()


@pytest.mark.parametrize(
    ("operator", "match"),
    [
        (object(), "found: object without A and A_adjoint"),
        (Binned, "found: the class Binned"),
        (GaussianBlur, "found: the class GaussianBlur"),
        (np.eye(3), "methods A and A_adjoint"),
    ],
)
def test_what_is_no_operator(operator: Any, match: str) -> None:
    with pytest.raises(OptionError, match=match):
        register_operator("my-blur", operator)
    with pytest.raises(OptionError, match="The operator's name"):
        register_operator("my blur", GaussianBlur())


def test_shapes_of_an_object_are_found_once() -> None:
    binned = Binned()
    operator = register_operator("binned", binned)
    before = binned.calls
    assert operator.measurement_shape((8, 6)) == (4, 3)
    assert operator.measurement_shape((8, 6)) == (4, 3)
    assert binned.calls == before + 2  # with one channel, and with three
    assert operator.image_shape((4, 3)) == (8, 6)
    assert operator.grid(2) == Grid((2.0, 2.0), (0.0, 0.0))
    x = torch.rand(1, 3, 8, 6)
    torch.testing.assert_close(operator.A(operator.A_dagger(operator.A(x))), operator.A(x))
    with pytest.raises(OperatorError, match=r"'binned' cannot be applied.*\(1, 2, 8, 6\).*three channels"):
        operator.A(x[:, :2])


def test_an_object_for_one_size_has_no_grid_in_a_composition() -> None:
    operator = register_operator("sized", Sized())
    assert operator.image_shape((7, 9)) == (7, 9)
    with pytest.raises(OperatorError, match=r"'sized' does not tell how its image lies.*subclass of nf.operators"):
        (Downsample(scale=2) @ operator).grid(2)
    with pytest.raises(OperatorError, match="'sized' cannot be applied to a tensor of shape"):
        operator.image_shape((3, 3))


def test_what_it_makes_must_be_an_image() -> None:
    class Flat:
        def A(self, x: torch.Tensor) -> torch.Tensor:
            return x.flatten(1)

        A_adjoint = A

    with pytest.raises(OperatorError, match=r"'flat' turns a tensor .* into none \(N, C, \*spatial\)"):
        register_operator("flat", Flat()).A(torch.rand(1, 1, 3, 3))


class By:
    """An object whose two methods are one function."""

    def __init__(self, apply: Callable[[torch.Tensor], Any]) -> None:
        self.A = self.A_adjoint = apply


def in_place(x: torch.Tensor) -> torch.Tensor:
    return x.mul_(0.5)


def in_numpy(x: torch.Tensor) -> torch.Tensor:
    array = x.numpy()
    array *= 0.5
    return torch.from_numpy(array)


@pytest.mark.parametrize("apply", [in_place, in_numpy])
@pytest.mark.parametrize("resolve", [False, True])
def test_objects_are_given_copies(apply: Any, resolve: bool) -> None:
    registered: Any = register_operator("in-place", By(apply))
    operator = resolved(registered) if resolve else registered
    x = torch.rand(1, 1, 4, 4)
    before = x.clone()
    for method in (operator.A, operator.A_adjoint):
        assert torch.equal(method(x), 0.5 * before)
        assert torch.equal(x, before)


@pytest.mark.parametrize(
    ("apply", "match"),
    [
        (lambda x: (x,), r"into none .*found: tuple.*one tensor each"),
        (lambda x: None, r"into none .*found: NoneType"),
        (lambda x: x.half(), r"half precision.*found: float16.*float32"),
        (lambda x: x.bfloat16(), r"half precision.*found: bfloat16"),
        (lambda x: x * 1j, r"real numbers into others.*found: complex64"),
        (lambda x: x > 0, r"real numbers into others.*found: bool"),
    ],
)
def test_what_makes_no_measurement_is_refused_at_once(apply: Any, match: str) -> None:
    with pytest.raises(OperatorError, match=f"'wrong' .*{match}"):
        register_operator("wrong", By(apply))
    with pytest.raises(OperatorError, match="'wrong' is registered"):
        Registered(name="wrong")


def test_whatever_an_object_throws_is_named() -> None:
    for apply, match in ((lambda x: 1 / 0, "found: ZeroDivisionError"), (lambda x: sys.exit(0), "SystemExit: 0")):
        operator = register_operator("throws", By(apply))  # it may be for images of another size
        with pytest.raises(OperatorError, match=f"'throws' .*{match}"):
            operator.A(torch.rand(1, 1, 4, 4))


def test_double_precision_comes_back_as_what_was_given() -> None:
    assert register_operator("double", By(torch.Tensor.double)).A(torch.rand(1, 1, 4, 4)).dtype == torch.float32


def test_an_operator_of_ours_that_works_in_place_is_refused() -> None:
    class InPlace(Identity):
        kind: str = "in_place"

        def A(self, x: torch.Tensor) -> torch.Tensor:
            return in_place(x)

    with pytest.raises(OperatorError, match=r"The A of 'mine' changes the tensor.*A\(x\.clone\(\)\)"):
        register_operator("mine", InPlace())


def test_an_adjoint_that_is_none_is_said(caplog: pytest.LogCaptureFixture) -> None:
    class Wrong(Operator):
        kind: str = "wrong"

        def A(self, x: torch.Tensor) -> torch.Tensor:
            return x.roll(1, -1)

        def A_adjoint(self, y: torch.Tensor, image_shape: Sequence[int] | None = None) -> torch.Tensor:
            return y.roll(1, -1)

        def image_shape(self, measurement_shape: Sequence[int]) -> tuple[int, ...]:
            return tuple(measurement_shape)

        measurement_shape = image_shape

    with caplog.at_level(logging.WARNING):
        register_operator("right", Binned())
        register_operator("sized", Sized())  # cannot be tried
        assert not caplog.records
        register_operator("wrong", Wrong())
    assert "A_adjoint of 'wrong' is not the adjoint of its A" in caplog.text


def test_names_give_way_to_what_they_stand_for() -> None:
    blur, seen, binned = GaussianBlur(), Mask(mask=np.eye(4)), Binned()
    for name, operator in {"blur": blur, "seen": seen, "binned": binned}.items():
        register_operator(name, operator)
    assert resolved(Registered(name="blur")) is blur
    assert resolved(Registered(name="binned")).operator is binned
    assert resolved(blur) is blur
    assert resolved(None) is None
    plain = Compose(operators=[blur, seen])
    assert resolved(plain) is plain
    named = Compose(operators=[Registered(name="binned"), Registered(name="blur"), Registered(name="seen")])
    assert resolved(named) == Compose(operators=[Registered(name="binned"), blur, seen])


def test_deepinv_physics() -> None:
    physics = pytest.importorskip("deepinv.physics")
    blur = physics.Blur(torch.ones(1, 1, 3, 3) / 9, padding="circular")
    operator = register_operator("deepinv", blur)
    x = torch.rand(1, 3, 8, 9)
    assert torch.equal(operator.A(x), blur.A(x))
    assert operator.grid(2) == Grid((1.0, 1.0), (0.0, 0.0))
    assert resolved(operator) is blur
