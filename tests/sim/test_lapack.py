"""The controller's linear algebra: right, in every memory order, with and without the library's own routines."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from handeye.sim import lapack


@pytest.fixture(params=["library", "plain"])
def algebra(request: pytest.FixtureRequest) -> lapack.Algebra | lapack.PlainAlgebra:
    if request.param == "plain":
        return lapack.PlainAlgebra()
    addresses = lapack.library().addresses
    assert addresses is not None, "NumPy's wheel has its own OpenBLAS"
    return lapack.Algebra(addresses)


def matrix(rows: int, columns: int, order: str = "C", seed: int = 0) -> np.ndarray:
    return np.array(np.random.default_rng(seed).normal(size=(rows, columns)), order=order)


@pytest.mark.parametrize("one", ["C", "F"])
@pytest.mark.parametrize("other", ["C", "F"])
def test_products(algebra: lapack.Algebra | lapack.PlainAlgebra, one: str, other: str) -> None:
    a, b, x = matrix(6, 7, one), matrix(7, 3, other, seed=1), matrix(7, 1, seed=2)[:, 0].copy()
    np.testing.assert_allclose(algebra.dot(a, b), np.einsum("ij,jk->ik", a, b), rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(algebra.dot(a, x), np.einsum("ij,j->i", a, x), rtol=1e-13, atol=1e-13)


def test_inverses(algebra: lapack.Algebra | lapack.PlainAlgebra) -> None:
    a = matrix(7, 7) @ matrix(7, 7).T + np.eye(7)
    before = a.copy()
    assert algebra.inverse(a).flags.f_contiguous
    np.testing.assert_allclose(algebra.inverse(a) @ a, np.eye(7), atol=1e-10)
    np.testing.assert_allclose(algebra.pseudo_inverse(a) @ a, np.eye(7), atol=1e-10)
    np.testing.assert_array_equal(a, before)


def test_a_singular_matrix_has_a_pseudo_inverse(algebra: lapack.Algebra | lapack.PlainAlgebra) -> None:
    """An arm stretched out: the Jacobian loses a row."""
    a = np.diag([3.0, 2.0, 1e-17])
    np.testing.assert_allclose(algebra.pseudo_inverse(a), np.diag([1 / 3, 1 / 2, 0.0]), atol=1e-15)


def test_the_private_copy_runs_the_kernels_it_is_told_to(home: Path) -> None:
    path = lapack._numpy_openblas()
    assert path is not None
    copy = lapack._private_copy(path)
    assert copy is not None
    assert lapack._corename(copy) in lapack.SAME_BITS or "Haswell" not in lapack.library().note
    assert len(list((home / "native").iterdir())) == 1, "one whole file, no parts"


def test_without_a_place_for_the_copy_the_result_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("HANDEYE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(lapack, "_corename", lambda handle: "SkylakeX")
    found = lapack.library.__wrapped__()
    assert found.addresses is not None
    assert "SkylakeX" in found.note
    assert "differ" in found.note


def test_another_numpy_is_served_by_scipy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lapack, "_numpy_openblas", lambda: None)
    assert lapack.library.__wrapped__().addresses is None
    monkeypatch.undo()
    monkeypatch.setattr(lapack, "_addresses", lambda handle: None)
    found = lapack.library.__wrapped__()
    assert found.addresses is None
    assert "not guaranteed" in found.note
