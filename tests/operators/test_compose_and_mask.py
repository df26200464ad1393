from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_fidelity.core.errors import OperatorError, OptionError
from napari_fidelity.operators import (
    Blur,
    Compose,
    Downsample,
    GaussianBlur,
    Identity,
    Mask,
    MotionBlur,
    parse_operator,
    random_mask,
)  # fmt: skip


def image(*shape: int) -> torch.Tensor:
    return torch.rand((1, 2, *shape), dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_first_listed_is_applied_first() -> None:
    x, blur, sample = image(12, 13), GaussianBlur(sigma=1.2), Downsample(scale=2)
    expected = sample.A(blur.A(x))
    for operator in (Compose(operators=[blur, sample]), sample @ blur, parse_operator(
        "gaussian_blur:sigma=1.2 + downsample:scale=2"
    )):  # fmt: skip
        torch.testing.assert_close(operator.A(x), expected)


def test_nested_compositions_are_flattened() -> None:
    inner = Compose(operators=[Identity(), Downsample(scale=2)])
    outer = Compose(operators=[inner, {"kind": "compose", "operators": [{"kind": "identity"}]}])
    assert [operator.kind for operator in outer.operators] == ["identity", "downsample", "identity"]
    for wrong in ([], 3, [{"kind": "compose", "operators": 3}], [{"kind": "compose"}]):
        with pytest.raises(OptionError, match="operators"):
            Compose(operators=wrong)


def test_separable_parts_are_fused() -> None:
    fused = Downsample(scale=2) @ GaussianBlur(sigma=1.6)
    assert fused.chains(2) is not None
    assert (fused @ MotionBlur(length=5, angle=20)).chains(2) is None
    # exact: blur and downsampling invert in one step
    y = fused.A(image(40, 38))
    torch.testing.assert_close(fused.A(fused.A_dagger(y, (40, 38))), y, rtol=0, atol=2e-3)
    mild = Downsample(scale=2) @ GaussianBlur(sigma=0.5)
    y = mild.A(image(40, 38))
    torch.testing.assert_close(mild.A(mild.A_dagger(y, (40, 38))), y, rtol=0, atol=1e-10)


def test_a_mask_says_which_image_shape() -> None:
    operator = Downsample(scale=2) @ Mask(mask=random_mask((9, 11), 0.5, 0))
    assert operator.image_shape((5, 6)) == (9, 11)
    with pytest.raises(OperatorError):
        operator.image_shape((8, 8))


def test_mask() -> None:
    weights = np.array([[1, 0], [0.5, 0]])
    operator, x = Mask(mask=weights), torch.ones(1, 1, 2, 2, dtype=torch.float64)
    np.testing.assert_array_equal(operator.A(x)[0, 0], weights)
    np.testing.assert_allclose(operator.A_dagger(operator.A(x))[0, 0], [[1, 0], [1, 0]])
    assert Mask(mask=np.ones((2, 2), bool)).A(x).sum() == 4


@pytest.mark.parametrize(
    "mask", [np.zeros((3, 3)), np.ones(3), np.full((3, 3), 2.0), -np.ones((2, 2)), np.ones((0, 2))]
)
def test_impossible_masks(mask: np.ndarray) -> None:
    with pytest.raises(OperatorError):
        Mask(mask=mask)


def test_mask_of_another_shape() -> None:
    with pytest.raises(OperatorError, match="shape"):
        Mask(mask=np.ones((3, 3))).A(image(4, 4))


def test_random_mask() -> None:
    mask = random_mask((100, 100), 0.3, np.random.default_rng(0))
    assert abs(mask.mean() - 0.3) < 0.02
    assert random_mask((2, 2), 1e-12, 0).sum() == 1
    np.testing.assert_array_equal(random_mask((5, 5), 0.5, 7), random_mask((5, 5), 0.5, 7))
    with pytest.raises(OptionError):
        random_mask((2, 2), 0, 0)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("downsampl:scale=2", "There are: airy_blur, blur"),
        ("downsample:scal=2", "Options of downsample: scale"),
        ("downsample:2", "name=value"),
        ("downsample:scale=0", "greater than or equal to 1"),
        ("downsample + ", "no operator ''"),
        ("", "no operator ''"),
    ],
)
def test_wrong_texts(text: str, match: str) -> None:
    with pytest.raises(OptionError, match=match):
        parse_operator(text)


def test_texts() -> None:
    assert parse_operator("downsample:scale=[1,2.5,2]") == Downsample(scale=(1, 2.5, 2))
    assert parse_operator("motion_blur:length=7, angle=+30,border=zero") == MotionBlur(
        length=7, angle=30, border="zero"
    )
    assert parse_operator("blur:kernel=[[1,2],[3,4]],normalise=false+identity") == Compose(
        operators=[Blur(kernel=np.array([[1, 2], [3, 4]]), normalise=False), Identity()]
    )
    assert parse_operator(Identity()) == Identity()
    assert parse_operator({"kind": "gaussian_blur", "sigma": 2}) == GaussianBlur(sigma=2)


def test_replace_and_hash() -> None:
    operator = GaussianBlur(sigma=1.0)
    assert operator.replace(sigma=2.0).sigma == 2.0
    assert len({operator, GaussianBlur(sigma=1.0), operator.replace(sigma=2.0)}) == 2


def test_every_field_says_what_it_is() -> None:
    from napari_fidelity.operators import NOISES, OPERATORS

    for cls in (*OPERATORS, *NOISES):
        for name, field in cls.model_fields.items():
            assert name == "kind" or field.description or "anyOf" in str(field), (cls, name)
