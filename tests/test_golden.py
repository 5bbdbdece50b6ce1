"""The numbers and gradients that published codes give (tests/golden/README.md), and float32 against float64."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from vicreg.loss import VICRegLoss

FOLDER = Path(__file__).parent / "golden"
LOSSES = json.loads((FOLDER / "vicreg_golden.json").read_text())
TENSORS = np.load(FOLDER / "vicreg_golden.npz")
CONVENTION = {
    "official": "official",
    "lightly": "official",
    "solo_learn": "algorithm1",
    "paper_equations": "paper",
}


def pair(case, dtype=torch.float64):
    return [torch.tensor(TENSORS[f"{case}.{name}"]).to(dtype).requires_grad_() for name in ("z_a", "z_b")]


@pytest.mark.parametrize("case", LOSSES)
@pytest.mark.parametrize("implementation", CONVENTION)
def test_published_losses_and_gradients(case, implementation):
    views = pair(case)
    value = VICRegLoss(convention=CONVENTION[implementation])(*views)
    value.backward()
    assert value.item() == pytest.approx(LOSSES[case][implementation], rel=1e-10, abs=0)
    for z, name in zip(views, ("grad_a", "grad_b"), strict=True):
        expected = torch.tensor(TENSORS[f"{case}.{implementation}.{name}"])
        torch.testing.assert_close(z.grad, expected, rtol=1e-10, atol=1e-10 * expected.abs().max().item())


@pytest.mark.parametrize("case", LOSSES)
@pytest.mark.parametrize("implementation", ["official", "solo_learn", "paper_equations"])
def test_float32_stays_by_float64_on_the_same_rounded_inputs(case, implementation):
    loss = VICRegLoss(convention=CONVENTION[implementation])
    single = pair(case, torch.float32)
    double = [z.detach().double().requires_grad_() for z in single]
    value, exact = loss(*single), loss(*double)
    value.backward()
    exact.backward()
    assert value.item() == pytest.approx(exact.item(), rel=1e-5)
    for z, reference in zip(single, double, strict=True):
        error = (z.grad.double() - reference.grad).norm() / reference.grad.norm()
        assert error < 1e-5
