from __future__ import annotations

import pytest
import torch

from napari_fidelity.training import LOSSES

A, B = torch.tensor([[[[0.0, 1.0]]]]), torch.tensor([[[[0.5, 0.5]]]])


@pytest.mark.parametrize(("name", "expected"), [("l1", 0.5), ("mse", 0.25), ("charbonnier", 0.500001)])
def test_values(name: str, expected: float) -> None:
    assert float(LOSSES[name](A, B)) == pytest.approx(expected, abs=1e-6)  # type: ignore[index]


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_zero_difference_has_a_finite_gradient(loss: object) -> None:
    x = A.clone().requires_grad_()
    loss(x, A).backward()  # type: ignore[operator]
    assert torch.isfinite(x.grad).all()  # type: ignore[arg-type]
