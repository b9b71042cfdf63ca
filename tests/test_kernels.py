"""What all kernels share: how they are compiled and kept, spans of work, heaps, vectors."""

import multiprocessing
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import recsys_helpers
from recsys_helpers.kernels import compiling, heap, spans, vectors
from recsys_helpers.kernels.factors import score_pairs

KERNELS = Path(compiling.__file__).parent


def run_python(code, **options):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stderr
    return done


# ---- compiled code --------------------------------------------------------------------


def test_no_kernel_runs_numbas_own_threads():
    for path in KERNELS.glob("*.py"):
        text = path.read_text()
        assert "prange" not in text and "parallel=True" not in text, path.name


@pytest.fixture
def small_package(tmp_path):
    """A package with the real compiling.py, and a kernel that calls a helper of another file."""
    package = tmp_path / "toy" / "kernels"
    package.mkdir(parents=True)
    (tmp_path / "toy" / "__init__.py").touch()
    (package / "__init__.py").touch()
    shutil.copy(KERNELS / "compiling.py", package)
    (package / "helper.py").write_text("from .compiling import njit\n@njit\ndef help(x):\n    return x + 1\n")
    (package / "kernel.py").write_text(
        "from .compiling import njit\nfrom .helper import help\n\n"
        "@njit\ndef kernel(x):\n    return 10 * help(x)\n"
    )
    return package


def ask_kernel(package, more="", **env):
    code = (
        "from toy.kernels.kernel import kernel\n"
        "print(kernel(1), sum(kernel.stats.cache_hits.values()), kernel.stats.cache_path)\n" + more
    )
    root = package.parents[1]
    clean = {k: v for k, v in os.environ.items() if k != "NUMBA_CACHE_DIR"}
    done = run_python(code, cwd=root, env=clean | {"PYTHONPATH": str(root)} | env)
    value, hits, folder = done.stdout.split()[:3]
    return int(value), int(hits), folder, done.stderr


def test_a_change_in_a_helper_is_never_hidden_by_the_cache(small_package):
    first = ask_kernel(small_package)
    again = ask_kernel(small_package)
    assert first[:2] == (20, 0) and again[:3] == (20, 1, first[2])
    helper = small_package / "helper.py"
    helper.write_text(helper.read_text().replace("x + 1", "x + 2"))
    changed = ask_kernel(small_package)
    assert changed[:2] == (30, 0) and changed[2] != first[2]


def test_the_cache_goes_where_it_is_told(small_package, tmp_path):
    told = tmp_path / "told"
    for hits in (0, 1):
        _, found, folder, _ = ask_kernel(small_package, NUMBA_CACHE_DIR=str(told))
        assert found == hits and Path(folder).is_relative_to(told)


NOWHERE = """
import tempfile
def nothing(*args, **options): raise PermissionError(13, "read-only")
tempfile.TemporaryFile = nothing
"""


def test_nowhere_to_write_is_no_error_and_the_warning_names_the_remedy(small_package):
    kernel = small_package / "kernel.py"
    kernel.write_text(NOWHERE + kernel.read_text())
    value, hits, folder, words = ask_kernel(small_package, more="kernel(1.5)")
    assert (value, hits, folder) == (20, 0, "None")
    assert words.count("RuntimeWarning") == 1 and "NUMBA_CACHE_DIR" in words


def test_no_place_that_numba_knows_is_no_error(small_package):
    kernel = small_package / "kernel.py"
    kernel.write_text(
        "import numba.core.caching as caching\n"
        "caching.InTreeCacheLocator.from_function = classmethod(lambda *_: None)\n" + kernel.read_text()
    )
    value, _, folder, words = ask_kernel(small_package, more="kernel(1.5)")
    assert (value, folder) == (20, "None") and "NUMBA_CACHE_DIR" in words


def test_importing_without_a_cache_says_nothing(small_package):
    kernel = small_package / "kernel.py"
    kernel.write_text(NOWHERE + kernel.read_text())
    done = run_python("import toy.kernels.kernel", cwd=small_package.parents[1])
    assert done.stderr == ""


def test_a_cache_folder_that_fills_up_or_goes_is_no_error(small_package):
    more = (
        "import errno\nfrom toy.kernels import compiling\n"
        "def full(*args): raise OSError(errno.ENOSPC, 'No space left on device')\n"
        "compiling.FunctionCache.save_overload = full\n"
        "print(kernel(1.5))\n"
    )
    assert "NUMBA_CACHE_DIR" in ask_kernel(small_package, more)[3]


def test_compiled_code_is_found_by_the_next_process():
    code = (
        "import numpy as np\nfrom recsys_helpers.kernels.heap import offer\n"
        "offer(np.zeros(2, np.float32), np.zeros(2, np.int32), 0, np.float32(1), np.int32(1))\n"
        "print(sum(offer.stats.cache_hits.values()))"
    )
    env = os.environ | {"PYTHONPATH": str(Path(recsys_helpers.__file__).parents[1])}
    run_python(code, env=env)
    assert run_python(code, env=env).stdout.strip() == "1"


# ---- spans -----------------------------------------------------------------------------


@given(st.lists(st.integers(0, 1000), max_size=60), st.integers(1, 500), st.integers(1, 20))
def test_spans_cover_all_rows_once_with_balanced_work(work, piece, most):
    bounds = spans.cut(np.array(work, dtype=np.int64), piece, most)
    assert bounds[0] == 0 and bounds[-1] == len(work)
    assert all(a < b for a, b in zip(bounds[:-1], bounds[1:], strict=True)) or not work
    assert len(bounds) - 1 <= most
    share = sum(work) / max(1, min(most, sum(work) // piece))
    for a, b in zip(bounds[:-1], bounds[1:], strict=True):
        assert sum(work[a:b]) <= share + max(work, default=0) + 1e-9


def test_spans_by_hand():
    assert spans.cut(np.array([5, 1, 1, 1, 1, 1]), 5) == [0, 1, 6]
    assert spans.cut(np.ones(4), 100) == [0, 4]
    assert spans.cut(np.ones(0), 100) == [0, 0]


@pytest.mark.parametrize("n_threads", [1, 2, 7, None])
def test_run_keeps_the_order(n_threads):
    told = []
    bounds = [0, 3, 4, 9]
    out = spans.run(lambda a, b: b - a, bounds, n_threads, lambda *span: told.append(span))
    assert out == [3, 1, 5] and told == [(0, 3), (3, 4), (4, 9)]


def test_run_uses_as_many_threads_as_it_is_told():
    together = threading.Barrier(3, timeout=20)
    spans.run(lambda a, b: together.wait(), [0, 1, 2, 3], 3)


@pytest.mark.parametrize("n_threads", [1, 2])
def test_an_error_in_a_span_is_raised_and_the_rest_dropped(n_threads):
    done = []

    def work(first, stop):
        if first == 0:
            raise ValueError("this one")
        done.append(first)

    with pytest.raises(ValueError, match="this one"):
        spans.run(work, range(1001), n_threads)
    assert len(done) < 1000


def _sum_of_squares(n):
    return sum(spans.run(lambda a, b: float(np.square(np.arange(a, b)).sum()), range(0, n + 1, 10), 2))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning")
def test_spans_in_forked_processes():
    right = _sum_of_squares(1000)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map_async(_sum_of_squares, [1000] * 4).get(timeout=60) == [right] * 4


def test_the_number_of_threads_can_be_set_from_outside():
    code = "from recsys_helpers.kernels import spans; print(spans.threads(), spans.threads(3))"
    env = os.environ | {"NUMBA_NUM_THREADS": "1", "PYTHONPATH": str(Path(recsys_helpers.__file__).parents[1])}
    assert run_python(code, env=env).stdout.split() == ["1", "3"]


# ---- heaps, vectors, products ------------------------------------------------------------


DOTS = """
import llvmlite.binding as llvm
import numpy as np

found = llvm.get_host_cpu_features
llvm.get_host_cpu_features = lambda: {"avx512f": WIDTH == 64}
from recsys_helpers.kernels import vectors
llvm.get_host_cpu_features = found
from recsys_helpers.kernels.compiling import njit
from recsys_helpers.kernels.vectors import dot, dot_difference

assert vectors.VECTOR_BYTES == WIDTH

@njit
def both(x, y, n_vectors):
    ld = x.shape[1]
    return dot(x, 0, y, ld, n_vectors), dot_difference(x, 0, y, ld, 0, n_vectors)

rng = np.random.default_rng(0)
for dtype in (np.float32, np.float64):
    for k in (1, 7, 8, 9, 24, 33, 64, 100):
        x, y = (vectors.padded(rng.normal(size=(2, k)).astype(dtype), dtype) for _ in range(2))
        print(k, [float(number).hex() for number in both(x, y, x.shape[1] // vectors.lanes(dtype))])
"""


def test_a_sum_of_products_is_the_same_to_the_bit_whatever_the_registers_hold(tmp_path):
    # What stochastic gradient descent adds up; LLVM splits 64 bytes into what this machine has.
    fresh = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    narrow, wide = (run_python(f"WIDTH = {width}\n{DOTS}", env=fresh) for width in (32, 64))
    assert narrow.stdout == wide.stdout and narrow.stdout.count("0x") == 32


@settings(deadline=None)  # the first call compiles
@given(st.lists(st.integers(-3, 3), max_size=40), st.integers(1, 8))
def test_a_heap_keeps_the_best_in_order(values, k):
    kept, codes = np.full(k, 9, np.float32), np.full(k, 9, np.int32)
    size = 0
    for code in np.random.default_rng(0).permutation(len(values)):
        size = heap.offer(kept, codes, size, np.float32(values[code]), np.int32(code))
    heap.finish(kept, codes, size)
    right = sorted(range(len(values)), key=lambda c: (-values[c], c))[:k]
    assert codes[:size].tolist() == right and kept[:size].tolist() == [values[c] for c in right]
    assert (codes[size:] == -1).all() and (kept[size:] == 0).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_padding_to_whole_vectors(dtype):
    for width in (0, 1, vectors.lanes(dtype), vectors.lanes(dtype) + 1):
        x = np.arange(3.0 * width).reshape(3, width)
        out = vectors.padded(x, dtype)
        assert out.shape[1] % vectors.lanes(dtype) == 0 and out.shape[1] > 0
        assert out.ctypes.data % 64 == 0 and out.flags.c_contiguous and out.dtype == dtype
        np.testing.assert_array_equal(out[:, :width], x)
        assert not out[:, width:].any()
    assert vectors.in_whole_vectors(out, dtype) is out
    strided = out[:, ::2]
    np.testing.assert_array_equal(vectors.in_whole_vectors(strided, dtype)[:, : strided.shape[1]], strided)


def test_scores_of_pairs():
    rng = np.random.default_rng(3)
    p, q = rng.standard_normal((4, 5)).astype(np.float32), rng.standard_normal((6, 5)).astype(np.float32)
    b, c = rng.standard_normal(4), rng.standard_normal(6)
    users, items = np.array([0, 3, -1, 2, -1], np.int32), np.array([5, -1, 2, 2, -1], np.int32)
    out = np.empty(5)
    score_pairs(users, items, 3.0, p, b, q, c, out)
    right = [
        3 + b[0] + c[5] + p[0] @ q[5].astype(float), 3 + b[3], 3 + c[2], 3 + b[2] + c[2] + p[2] @ q[2], 3.0
    ]  # fmt: skip
    np.testing.assert_allclose(out, right, rtol=1e-5)
