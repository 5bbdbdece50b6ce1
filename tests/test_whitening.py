"""Whitening by Newton's iteration, and objectives on what it gives."""

import pickle

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from vicreg.functional import terms
from vicreg.functional.correlation import correlation
from vicreg.functional.whitening import whitened
from vicreg.objectives import Outputs, Term, barlow_twins, byol, sigreg, vibcreg, vicreg, whiten
from vicreg.objectives.batchwise import described


def normal(*size, seed=0):
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def mixed(n=60, d=6, seed=0):
    return normal(n, d, seed=seed) @ (torch.eye(d) + 0.4 * normal(d, d, seed=9)) + 3


def test_it_tends_to_the_inverse_root_group_by_group():
    z = mixed()
    found = whitened(z, groups=2, iterations=10, eps=1e-9)
    for columns in (slice(0, 3), slice(3, 6)):
        x = z[:, columns].numpy()
        x = x - x.mean(axis=0)
        root = np.linalg.inv(sqrtm(x.T @ x / len(x)))
        np.testing.assert_allclose(found[:, columns], x @ root, rtol=1e-6, atol=1e-8)
    covariance = found.T @ found / len(z)
    torch.testing.assert_close(covariance[:3, :3], torch.eye(3, dtype=torch.float64), rtol=0, atol=1e-8)
    assert covariance[:3, 3:].abs().max() > 0.1  # other groups are left alone


def test_a_few_iterations_by_loops():
    z = mixed(20, 3)
    x = (z - z.mean(dim=0)).numpy()
    moments = sum(np.outer(row, row) for row in x) / 20 + 0.1 * np.eye(3)
    trace = sum(moments[i, i] for i in range(3))
    root = np.eye(3)
    for _ in range(4):
        root = (3 * root - np.linalg.matrix_power(root, 3) @ moments / trace) / 2
    np.testing.assert_allclose(whitened(z, 1, 4, 0.1), x @ root / np.sqrt(trace), rtol=1e-10)


def test_gradient():
    assert torch.autograd.gradcheck(lambda z: whitened(z, 2, 3), mixed(7, 4).requires_grad_())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_statistics_are_float32_whatever_autocast_says(dtype):
    z = mixed().to(dtype)
    wanted = whitened(z.double(), 2)
    with torch.autocast("cpu", torch.bfloat16):
        found = whitened(z, 2)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), wanted, rtol=1e-4, atol=1e-4)


def test_collapse_is_finite():
    z = torch.ones(5, 4).requires_grad_()
    out = whitened(z, 2)
    out.square().sum().backward()
    assert out.abs().max() == 0
    assert z.grad.isfinite().all()


def outputs(n=30, d=6, seed=0):
    z = tuple(mixed(n, d, seed + i).requires_grad_() for i in range(2))
    return Outputs(x=None, h=z, z=z)


def test_objectives_on_whitened_embeddings():
    made = outputs()
    a, b = (whitened(z, 3) for z in made.z)
    total, values = whiten(vibcreg(), 3)(made)
    hinges, squares = (fn(a) + fn(b) for fn in (terms.variance, correlation))
    wanted = 25 * terms.invariance(a, b) + 25 * hinges + 200 * squares
    assert list(values) == ["invariance", "variance", "correlation"]
    assert total.item() == pytest.approx(wanted.item(), rel=1e-9)
    for one, other in zip(torch.autograd.grad(total, made.z), torch.autograd.grad(wanted, made.z), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("method", [vicreg, barlow_twins, sigreg])
def test_any_method_of_embeddings(method):
    objective = pickle.loads(pickle.dumps(whiten(method(), 2)))
    total, values = objective(outputs())
    assert total.isfinite()
    assert set(values) == set(method())
    assert all("0x" not in described(term.fn) for term in objective.values())


def own_rows(rank, rows):
    z = [one.detach().split(rows)[rank].requires_grad_() for one in outputs(sum(rows)).z]
    total, _ = whiten(vibcreg(), 3)(Outputs(x=None, h=tuple(z), z=tuple(z)))
    total.backward()
    return total.item(), [one.grad.tolist() for one in z]


def test_over_processes_it_is_that_of_the_global_batch(pools):
    rows = (7, 4)
    total, gradients = own_rows(0, (sum(rows),))
    for rank, (found, own) in enumerate(pools(2).run(own_rows, rows)):
        assert found == pytest.approx(total, rel=1e-9)
        for one, whole in zip(own, gradients, strict=True):
            wanted = 2 * torch.tensor(whole).split(rows)[rank]  # what averaging over two processes halves
            np.testing.assert_allclose(one, wanted, rtol=1e-7, atol=1e-10)


Z = torch.ones(4, 6)


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: whitened(Z, 4), ValueError, "groups must divide the 6 columns; got 4"),
        (lambda: whitened(Z, 0), ValueError, "groups must be at least 1; got 0"),
        (lambda: whitened(Z, 2, 0), ValueError, "iterations must be at least 1; got 0"),
        (lambda: whitened(Z, 2, eps=0.0), ValueError, "eps must be a finite number above 0"),
        (lambda: whitened(Z[None], 2), ValueError, r"z must have shape \(n, d\); got \(1, 4, 6\)"),
        (lambda: whitened(Z.long(), 2), TypeError, "z must be of a floating type; got torch.int64"),
        (lambda: whiten(vicreg(), 0), ValueError, "groups must be at least 1; got 0"),
        (lambda: whiten(byol()), ValueError, r"Term 'prediction' must act on the embeddings alone to be whitened; got"),
        (
            lambda: whiten(vicreg(cov_coeff=(1.0, 2.0))),
            ValueError,
            r"Term 'covariance' must have one weight to be whitened; got \(1.0, 2.0\)",
        ),
        (
            lambda: whiten(vicreg() | {"spread": Term(1.0, terms.variance, on="h")}),
            ValueError,
            "Term 'spread' must act on the embeddings alone to be whitened; got 'h'",
        ),
    ],
)
def test_messages(call, error, match):
    with pytest.raises(error, match=match):
        call()
