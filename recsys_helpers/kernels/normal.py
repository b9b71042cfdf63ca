"""One small regression: its normal equations, gathered in cache and solved in registers.

What the alternating least squares of ratings (`als`) and of implicit feedback (`implicit`) have in common. A
thread works in one flat array; where its parts lie is a tuple of offsets, which costs nothing to hand on
(an array in a tuple would be reference-counted).
"""

from collections import namedtuple

import numpy as np

from .compiling import REORDER, njit
from .hashing import normals
from .vectors import (
    MR,
    SUBTRACT,
    VECTOR_BYTES,
    back,
    line1,
    line4,
    pair1,
    pair4,
    panel,
    tile1,
    tile2,
    tile3,
)  # fmt: skip

# Bytes of factors that are gathered at a time. The Gram matrix wants them in the first-level
# cache; conjugate gradients want a whole row of ratings in the second-level one, as they pass
# over it several times.
GRAM_BLOCK, CG_BLOCK = 1 << 15, 1 << 20
# A row that does not fit would be fetched from memory once a step. Up to this rank it costs less
# to fetch it once, for its Gram matrix, and the solution is exact.
CG_RANK = 128
# How many ratings early a factor row is asked for.
AHEAD = 8
# The dual form is taken for rows with at most k / DUAL_SHARE ratings.
DUAL_SHARE = 2

Parts = namedtuple(
    "Parts", "kq ld size x pair target zeros error m comp multipliers transposed scale solution end"
)


@njit
def parts(k, w, block):
    """Offsets of the parts of the scratch array for rank k, vectors of w lanes and blocks of `block` bytes.

    kq is k padded to whole vectors; ld, the row length of m, has one more vector for
    the right-hand side. m has row 0 for the bias, kq rows for the factors and a last
    one, in which the right-hand side is summed. `size` ratings are gathered at a time.
    """
    kq = (k + w - 1) // w * w
    ld = kq + w
    # The dual form holds a whole row of up to kq ratings.
    size = max(min(block * w // VECTOR_BYTES // max(kq, 1), 2048) // w * w, kq, w)
    x = 0
    pair = x + size * kq
    target = pair + size * 2
    zeros = target + size
    error = zeros + size
    m = error + size
    comp = m + (kq + 2) * ld
    multipliers = comp + (kq + 2) * ld
    transposed = multipliers + w * w
    scale = transposed + kq * w
    solution = scale + kq
    end = solution + ld
    return Parts(
        kq, ld, size, x, pair, target, zeros, error, m, comp, multipliers, transposed, scale, solution, end
    )  # fmt: skip


@njit
def aligned(size, like):
    """Zeros of the type of `like` that start on a cache line."""
    raw = np.zeros(size + 64, like.dtype)
    skip = (-raw.ctypes.data % 64) // raw.itemsize
    return raw[skip : skip + size]


@njit
def product(s, a, lda, b, ldb, count, c, ldc, comp, mode, n_vectors):
    """MR rows of C (+)= A' B in scratch s, cut into tiles of three, two and one vectors."""
    w = VECTOR_BYTES // s.itemsize
    j = 0
    while j < n_vectors:
        left = n_vectors - j
        if left == 3 or left > 4:
            tile3(s, a, lda, b + j * w, ldb, count, c + j * w, ldc, comp + j * w, mode)
            j += 3
        elif left > 1:
            tile2(s, a, lda, b + j * w, ldb, count, c + j * w, ldc, comp + j * w, mode)
            j += 2
        else:
            tile1(s, a, lda, b + j * w, ldb, count, c + j * w, ldc, comp + j * w, mode)
            j += 1


@njit
def gram(s, o, count, mode):
    """Upper triangle of rows 1, ... of m (+)= X' X, rows 0 and last (+)= (1, target)' X."""
    w = VECTOR_BYTES // s.itemsize
    kq, ld = o.kq, o.ld
    for i in range(0, kq, MR):
        j = i // w * w
        at = (1 + i) * ld + j
        product(s, o.x + i, kq, o.x + j, kq, count, o.m + at, ld, o.comp + at, mode, (kq - j) // w)
    j, apart = 0, (kq + 1) * ld
    while j < kq:
        if kq - j >= 4 * w:
            pair4(s, o.pair, 2, o.x + j, kq, count, o.m + j, apart, o.comp + j, mode)
            j += 4 * w
        else:
            pair1(s, o.pair, 2, o.x + j, kq, count, o.m + j, apart, o.comp + j, mode)
            j += w


@njit
def factor_solve(s, o, size):
    """Solve the system of `size` unknowns in part m; 0 where it is not positive definite.

    Row 0 of m is a row of the Cholesky factor that is known beforehand (or zeros);
    rows 1, ... are the upper triangle, and column `size` the right-hand side.
    """
    ok = factor(s, o, size)
    solve(s, o, size)
    return ok


@njit
def factor(s, o, size):
    """The first half of `factor_solve`: the triangle U with U'U the matrix, beside it U'^-1 of the right."""
    w = VECTOR_BYTES // s.itemsize
    ld = size + w
    ok = 1
    for i in range(0, size, w):
        n_vectors = (ld - i) // w
        for r in range(i, i + w, MR):
            at = o.m + (1 + r) * ld + i
            product(s, o.m + r, ld, o.m + i, ld, 1 + i, at, ld, 0, SUBTRACT, n_vectors)
        at = o.m + (1 + i) * ld + i
        ok &= panel(s, at, ld, n_vectors - 1, o.multipliers, o.transposed + i * w, o.scale + i)
    return ok


@njit
def blur(s, o, size, count, spread, key):
    """Between `factor` and `solve`: the first `count` unknowns will be drawn around the solution.

    With U'U the matrix and z standard normal, U^-1 (U'^-1 right + spread z) has the solution as its mean and
    spread^2 (U'U)^-1 as its covariance: one triangle serves both (Rue 2001), and the draw costs its numbers.
    Returns one more of these, for the unknown of row 0.
    """
    w = VECTOR_BYTES // s.itemsize
    normals(key, s, o.pair, count + 1)
    for i in range(count):
        s[o.m + (1 + i) * (size + w) + size] += spread * s[o.pair + i]
    return spread * s[o.pair + count]


@njit
def solve(s, o, size):
    """The second half of `factor_solve`, from the last unknown to the first."""
    w = VECTOR_BYTES // s.itemsize
    ld = size + w
    s[o.solution + size] = -1
    for j in range(1, w):
        s[o.solution + size + j] = 0
    for i in range(size - w, -1, -w):
        at = o.m + (1 + i) * ld + i
        back(s, at, ld, (ld - i) // w - 1, o.transposed + i * w, o.scale + i, o.solution + i)


@njit
def add_lines(s, o, e, count, out, mode):
    """out (+)= sum_t e_t x_t over the gathered rows; compensated in part comp when adding."""
    w = VECTOR_BYTES // s.itemsize
    if count % 2:
        s[e + count] = 0
        count += 1
    j = 0
    while j < o.kq:
        if o.kq - j >= 4 * w:
            line4(s, e, 1, o.x + j, o.kq, count, out + j, 0, o.comp + j, mode)
            j += 4 * w
        else:
            line1(s, e, 1, o.x + j, o.kq, count, out + j, 0, o.comp + j, mode)
            j += w


@njit(fastmath=REORDER)
def sum_of_squares(s, start, count):
    total = 0.0
    for t in range(start, start + count):
        total += np.float64(s[t]) * np.float64(s[t])
    return total
