"""The few BLAS and LAPACK routines of the arm's controller, called so that the bits do not depend on who calls.

The last bit of a 7x7 product depends on the library's kernels, and OpenBLAS picks those by processor. The reference's
published trajectories carry the bits of its Haswell kernels (which its Zen target shares), so that is what we use: as
NumPy's own OpenBLAS where it runs them already, else from a private copy of that very library, told to use them and
to start no threads. Python and C code then call the same addresses and get the same bits on every x86-64 machine with
AVX2. Where the library or its names are missing (a NumPy built otherwise), NumPy and SciPy do the work, and `note` says
that the last bits are theirs.
"""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from handeye.paths import home

KERNELS = "Haswell"
SAME_BITS = ("Haswell", "Zen")
"""OpenBLAS targets that share the Haswell kernels (its own name for what it detected)."""

ROUTINES = ("cblas_dgemm", "cblas_dgemv", "dgetrf_", "dgetri_", "dgesdd_")
ROW_MAJOR, COLUMN_MAJOR, PLAIN, TRANSPOSED = 101, 102, 111, 112  # CBLAS enumeration values
WORK = 4096  # doubles; dgesdd of 6x6 needs 4*36 + 7*6, dgetri of 7x7 at most 7*64
CUTOFF = 1e-15
"""Singular values below this fraction of the largest count as zero (numpy.linalg.pinv's default)."""


@dataclass(frozen=True)
class Library:
    """Addresses of the routines, and what their bits are worth."""

    addresses: Mapping[str, int] | None
    """Routine -> address; None: not found, NumPy does it."""

    note: str
    """Which kernels, for the record of a result."""

    handle: ctypes.CDLL | None = None


@cache
def library() -> Library:
    """The routines with Haswell kernels, loaded once per process."""
    path = _numpy_openblas()
    if path is None:
        return Library(None, "numpy and scipy (no OpenBLAS of NumPy's own found): last bits not guaranteed")
    own = ctypes.CDLL(str(path))
    found = _addresses(own)
    if found is None:
        return Library(None, f"numpy and scipy ({path.name} lacks a routine): last bits not guaranteed")
    kernels = _corename(own)
    if kernels in SAME_BITS:
        return Library(found, f"OpenBLAS, {KERNELS} kernels", own)
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return Library(found, f"OpenBLAS, {kernels} kernels: last bits differ from the published ones", own)
    private = _private_copy(path)
    if private is not None and (again := _addresses(private)) and _corename(private) in SAME_BITS:
        return Library(again, f"OpenBLAS, {KERNELS} kernels", private)
    return Library(found, f"OpenBLAS, {kernels} kernels: last bits differ from the published ones", own)


def _numpy_openblas() -> Path | None:
    """The OpenBLAS inside NumPy's wheel, which `import numpy` has loaded already."""
    root = Path(np.__file__).parent
    for folder in (root.parent / "numpy.libs", root / ".libs", root / ".dylibs"):
        if found := sorted(folder.glob("*openblas*")):
            return found[0]
    return None


def _addresses(handle: ctypes.CDLL) -> dict[str, int] | None:
    """With 64-bit integers only: that is what NumPy's wheels export, as `scipy_NAME64_`."""
    try:
        return {name: ctypes.cast(getattr(handle, f"scipy_{name}64_"), ctypes.c_void_p).value or 0 for name in ROUTINES}
    except AttributeError:
        return None


def _corename(handle: ctypes.CDLL) -> str:
    ask = handle.scipy_openblas_get_corename64_
    ask.restype = ctypes.c_char_p
    return (ask() or b"unknown").decode()


def _private_copy(path: Path) -> ctypes.CDLL | None:
    """Another instance of the library with its own choice of kernels, which it reads from the environment when it is
    loaded. The loader tells files apart by inode, so this needs a file of its own; None where it cannot be written."""
    copy = home() / "native" / f"{path.name.split('.so')[0]}-{KERNELS.lower()}.so"
    try:
        if not copy.exists() or copy.stat().st_size != path.stat().st_size:
            copy.parent.mkdir(parents=True, exist_ok=True)
            part = copy.with_name(f".{copy.name}.{os.getpid()}.part")
            shutil.copyfile(path, part)
            part.replace(copy)
        wanted = {"OPENBLAS_CORETYPE": KERNELS, "OPENBLAS_NUM_THREADS": "1"}
        before = {name: os.environ.get(name) for name in wanted}
        os.environ.update(wanted)
        try:
            return ctypes.CDLL(str(copy))
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value
    except OSError:
        return None


class Algebra:
    """Small dense products and inverses in doubles, with the library's bits. Memory order of the operands matters: it
    decides which kernel runs, as it does for numpy.dot, whose calls these repeat."""

    def __init__(self, addresses: Mapping[str, int]) -> None:
        i32, i64, f64, ptr = ctypes.c_int, ctypes.c_int64, ctypes.c_double, ctypes.c_void_p
        gemm = (i32, i32, i32, i64, i64, i64, f64, ptr, i64, ptr, i64, f64, ptr, i64)
        gemv = (i32, i32, i64, i64, f64, ptr, i64, ptr, i64, f64, ptr, i64)
        self._gemm = ctypes.CFUNCTYPE(None, *gemm)(addresses["cblas_dgemm"])
        self._gemv = ctypes.CFUNCTYPE(None, *gemv)(addresses["cblas_dgemv"])
        self._getrf = ctypes.CFUNCTYPE(None, *[ptr] * 6)(addresses["dgetrf_"])
        self._getri = ctypes.CFUNCTYPE(None, *[ptr] * 7)(addresses["dgetri_"])
        self._gesdd = ctypes.CFUNCTYPE(None, *[ptr] * 14, i64)(addresses["dgesdd_"])
        self._work = np.empty(WORK)
        self._integers = np.empty(64, np.int64)  # 0: order, 1: length of work, 2: info, from 8: pivots and dgesdd's own

    def dot(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Matrix times matrix (C-ordered) or vector."""
        m, k = a.shape
        if b.ndim == 1:
            out = np.empty(m)
            order, step = (ROW_MAJOR, k) if a.flags.c_contiguous else (COLUMN_MAJOR, m)
            self._gemv(order, PLAIN, m, k, 1.0, a.ctypes.data, step, b.ctypes.data, 1, 0.0, out.ctypes.data, 1)
            return out
        n = b.shape[1]
        out = np.empty((m, n))
        turn_a, step_a = (PLAIN, k) if a.flags.c_contiguous else (TRANSPOSED, m)
        turn_b, step_b = (PLAIN, n) if b.flags.c_contiguous else (TRANSPOSED, k)
        where = (a.ctypes.data, step_a, b.ctypes.data, step_b)
        self._gemm(ROW_MAJOR, turn_a, turn_b, m, n, k, 1.0, *where, 0.0, out.ctypes.data, n)
        return out

    def inverse(self, a: np.ndarray) -> np.ndarray:
        """Through the LU factors (dgetrf, dgetri), F-ordered; numpy.linalg.inv solves instead and rounds otherwise."""
        out = np.array(a, order="F")
        n, lwork, info, pivots = self._scalars(len(a))
        self._getrf(n, n, out.ctypes.data, n, pivots, info)
        self._getri(n, out.ctypes.data, n, pivots, self._work.ctypes.data, lwork, info)
        return out

    def pseudo_inverse(self, a: np.ndarray) -> np.ndarray:
        """V (1/s) U^T of the singular value decomposition (dgesdd), the rows of V^T scaled first; F-ordered."""
        side = len(a)
        out, s = np.array(a, order="F"), np.empty(side)
        u, vt = np.empty((side, side), order="F"), np.empty((side, side), order="F")
        n, lwork, info, integers = self._scalars(side)
        work = self._work.ctypes.data
        matrices = (out.ctypes.data, n, s.ctypes.data, u.ctypes.data, n, vt.ctypes.data, n)
        self._gesdd(_JOB.ctypes.data, n, n, *matrices, work, lwork, integers, info, 1)
        return scaled_back(self.dot, s, u, vt)

    def _scalars(self, n: int) -> tuple[int, int, int, int]:
        """Addresses of the order, the length of the work space, the return code and the integer work space."""
        self._integers[0], self._integers[1] = n, WORK
        first = self._integers.ctypes.data
        return first, first + 8, first + 16, first + 64


_JOB = np.frombuffer(b"S", np.uint8)


class PlainAlgebra:
    """The same through NumPy and SciPy, where the routines cannot be called directly."""

    def dot(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.dot(a, b)

    def inverse(self, a: np.ndarray) -> np.ndarray:
        from scipy.linalg import lapack

        factors, pivots, _ = lapack.dgetrf(a)
        return np.asfortranarray(lapack.dgetri(factors, pivots)[0])

    def pseudo_inverse(self, a: np.ndarray) -> np.ndarray:
        u, s, vt = np.linalg.svd(a, full_matrices=False)
        return scaled_back(self.dot, s, u, vt)


def scaled_back(dot, s: np.ndarray, u: np.ndarray, vt: np.ndarray) -> np.ndarray:  # type: ignore[no-untyped-def] # noqa: ANN001
    keep = s > CUTOFF * s[0]
    scaled = np.ascontiguousarray(vt * np.divide(1.0, s, where=keep, out=np.zeros_like(s))[:, None])
    return np.asfortranarray(dot(scaled.T, np.ascontiguousarray(u).T))


def algebra() -> Algebra | PlainAlgebra:
    found = library().addresses
    return Algebra(found) if found is not None else PlainAlgebra()
