"""Least-squares solves of many small systems, one per user or film: the engine of ALS.

Every row of a rating matrix is one regularized regression on the factors of the
other side. With x_j = (q_j, 1) for the n ratings of the row, target
t_j = r_j - mean - b_j and prior mean (g, c), the row's factors and bias minimize

    sum_j (t_j - p . q_j - b)^2 + reg |p - g|^2 + bias_reg (b - c)^2

(Zhou et al. 2008 for the factors; the constant column solves the bias together with
them, as in Koren, Bell and Volinsky 2009). Three ways lead to the minimum:

primal   (k+1) x (k+1) normal equations, n k^2 + k^3/3 multiply-adds or so
dual     n x n, for n well below k: the same minimum by the matrix inversion lemma
cg       a few steps of conjugate gradients, 2 n k multiply-adds each

The inner blocks are written as explicit vector code (LLVM IR through Numba's
`intrinsic`): loops over a k that is only known at run time do not keep a tile of the
Gram matrix in registers, and that is the whole difference between a tenth of the
machine's matrix-product rate and most of it. Four blocks suffice:

`_tile`    C (+)= A' B for a few rows and vectors of C, summed in registers
`_panel`   eliminates W rows of a Cholesky factorization (W = lanes of a vector)
`_back`    substitutes W unknowns backward
`_errors`  targets minus predictions, W ratings at a time

Nothing here refers to an address of this process, so all compiled code is cached. Rows
are independent of one another and each is summed in a fixed order: the result does not
depend on how rows are dealt to threads.
"""

from collections import namedtuple

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

_AVX512 = llvm.get_host_cpu_features().get("avx512f", False)
VECTOR_BYTES = 64 if _AVX512 else 32  # elsewhere LLVM splits 32 bytes into what the machine has
MR = 8 if _AVX512 else 4  # rows of a tile: MR x 3 sums, 3 vectors and 1 scalar fit in the registers

STORE, ADD, SUBTRACT = 0, 1, 2
# Ratings that are gathered at a time; 32 KiB of float32 stay in the first-level cache.
BLOCK_BYTES = 32768


def lanes(dtype):
    """Numbers in one vector register; the unit to which k is padded."""
    return VECTOR_BYTES // np.dtype(dtype).itemsize


# ---- vector code ------------------------------------------------------------


class _Vec:
    """The few vector instructions that the blocks need, for one element type."""

    def __init__(self, builder, scalar):
        self.b = builder
        self.scalar = scalar
        self.bytes = 4 if isinstance(scalar, ir.FloatType) else 8
        self.w = VECTOR_BYTES // self.bytes
        self.type = ir.VectorType(scalar, self.w)
        self.zero = ir.Constant(self.type, [0.0] * self.w)
        self.i32 = ir.IntType(32)

    def load(self, base, at):
        p = self.b.bitcast(self.b.gep(base, [at]), self.type.as_pointer())
        return self.b.load(p, align=self.bytes)

    def store(self, value, base, at):
        p = self.b.bitcast(self.b.gep(base, [at]), self.type.as_pointer())
        self.b.store(value, p, align=self.bytes)

    def splat(self, scalar):
        one = self.b.insert_element(ir.Constant(self.type, ir.Undefined), scalar, self.i32(0))
        return self.shuffle(one, one, [0] * self.w)

    def splat_load(self, base, at):
        return self.splat(self.b.load(self.b.gep(base, [at])))

    def splat_lane(self, vector, lane):
        return self.shuffle(vector, vector, [lane] * self.w)

    def shuffle(self, x, y, lanes_):
        mask = ir.Constant(ir.VectorType(self.i32, len(lanes_)), lanes_)
        return self.b.shuffle_vector(x, y, mask)

    def fma(self, x, y, z):
        """x * y + z, rounded once"""
        return self._call("llvm.fma", x, y, z)

    def fnma(self, x, y, z):
        """z - x * y"""
        return self.fma(self.b.fneg(x), y, z)

    def sqrt(self, x):
        return self._call("llvm.sqrt", x)

    def _call(self, name, *args):
        name = f"{name}.v{self.w}f{8 * self.bytes}"
        signature = ir.FunctionType(self.type, [self.type] * len(args))
        return self.b.call(cgutils.get_or_insert_function(self.b.module, signature, name), args)

    def keep(self, vector, condition):
        """The lanes for which condition(lane) holds; 0 in the others."""
        mask = ir.Constant(ir.VectorType(ir.IntType(1), self.w), [int(condition(i)) for i in range(self.w)])
        return self.b.select(mask, vector, self.zero)

    def transpose(self, rows):
        """W vectors of W lanes, transposed by log2(W) rounds of pairwise exchange."""
        rows, d, w = list(rows), 1, self.w
        while d < w:
            for i in range(w):
                if not i & d:
                    x, y = rows[i], rows[i + d]
                    rows[i] = self.shuffle(x, y, [w + j - d if j & d else j for j in range(w)])
                    rows[i + d] = self.shuffle(x, y, [w + j if j & d else j + d for j in range(w)])
            d *= 2
        return rows

    def sums(self, rows):
        """One vector: lane i holds the sum of rows[i]."""
        rows, d, w = list(rows), 1, self.w
        while len(rows) > 1:
            paired = []
            for x, y in zip(rows[::2], rows[1::2], strict=True):
                low = self.shuffle(x, y, [w + j - d if j & d else j for j in range(w)])
                high = self.shuffle(x, y, [w + j if j & d else j + d for j in range(w)])
                paired.append(self.b.fadd(low, high))
            rows, d = paired, 2 * d
        return rows[0]


def _loop(builder, count, start_values, body):
    """``for i in range(count): values = body(i, values)``; returns the final values."""
    function = builder.function
    i64 = count.type
    before = builder.block
    head = function.append_basic_block("head")
    inside = function.append_basic_block("inside")
    after = function.append_basic_block("after")
    builder.branch(head)
    builder.position_at_end(head)
    i = builder.phi(i64)
    i.add_incoming(i64(0), before)
    values = []
    for value in start_values:
        phi = builder.phi(value.type)
        phi.add_incoming(value, before)
        values.append(phi)
    builder.cbranch(builder.icmp_signed("<", i, count), inside, after)
    builder.position_at_end(inside)
    new = body(i, values)
    end = builder.block
    i.add_incoming(builder.add(i, i64(1)), end)
    for phi, value in zip(values, new, strict=True):
        phi.add_incoming(value, end)
    builder.branch(head)
    builder.position_at_end(after)
    return values


def _unpack(context, builder, signature, args):
    """Data pointers of the array arguments and 64-bit integers, in order; and the element type."""
    out, scalar = [], None
    for kind, value in zip(signature.args, args, strict=True):
        if isinstance(kind, types.Array):
            scalar = context.get_data_type(kind.dtype)
            out.append(context.make_array(kind)(context, builder, value).data)
        elif isinstance(kind, types.Integer):
            out.append(context.cast(builder, value, kind, types.int64))
        else:
            out.append(value)
    return _Vec(builder, scalar), out


def _make_tile(mr, nv):
    @intrinsic
    def tile(typingctx, a, a0, lda, b, b0, ldb, count, c, c0, ldc, comp, mode):
        def codegen(context, builder, signature, args):
            v, (a, a0, lda, b, b0, ldb, count, c, c0, ldc, comp, mode) = _unpack(
                context, builder, signature, args
            )
            add, mul, i64 = builder.add, builder.mul, count.type

            def step(t, sums):
                at_a, at_b = add(a0, mul(t, lda)), add(b0, mul(t, ldb))
                right = [v.load(b, add(at_b, i64(j * v.w))) for j in range(nv)]
                new = []
                for i in range(mr):
                    left = v.splat_load(a, add(at_a, i64(i)))
                    new += [v.fma(left, right[j], sums[i * nv + j]) for j in range(nv)]
                return new

            sums = _loop(builder, count, [v.zero] * (mr * nv), step)
            places = [
                (sums[i * nv + j], add(add(c0, mul(i64(i), ldc)), i64(j * v.w)))
                for i in range(mr)
                for j in range(nv)
            ]
            with builder.if_else(builder.icmp_signed("==", mode, i64(STORE))) as (is_store, is_other):
                with is_store:
                    for value, at in places:
                        v.store(value, c, at)
                with is_other:
                    with builder.if_else(builder.icmp_signed("==", mode, i64(ADD))) as (is_add, is_sub):
                        with is_add:
                            # Kahan: comp holds what rounding has added to c so far.
                            for value, at in places:
                                old = v.load(c, at)
                                value = builder.fsub(value, v.load(comp, at))
                                new = builder.fadd(old, value)
                                v.store(builder.fsub(builder.fsub(new, old), value), comp, at)
                                v.store(new, c, at)
                        with is_sub:
                            for value, at in places:
                                v.store(builder.fsub(v.load(c, at), value), c, at)
            return context.get_dummy_value()

        return types.void(a, a0, lda, b, b0, ldb, count, c, c0, ldc, comp, mode), codegen

    @njit(cache=True)
    def call(a, a0, lda, b, b0, ldb, count, c, c0, ldc, comp, mode):
        tile(a, a0, lda, b, b0, ldb, count, c, c0, ldc, comp, mode)

    return call


_tile3, _tile2, _tile1 = _make_tile(MR, 3), _make_tile(MR, 2), _make_tile(MR, 1)
_pair4, _pair1 = _make_tile(2, 4), _make_tile(2, 1)
_line4, _line1 = _make_tile(1, 4), _make_tile(1, 1)


@intrinsic
def _panel(typingctx, m, at, ld, n_right, multipliers, transposed, t0, scale, s0):
    """Eliminate W rows of an upper triangle; 1 when every pivot is positive.

    The block on the diagonal starts at `at`; `n_right` blocks lie to its right. It is
    factored as M' D M with M unit upper triangular, which keeps square roots out of
    the chain of dependent steps; the rows to the right are then scaled by D^-1/2.
    """

    def codegen(context, builder, signature, args):
        v, (m, at, ld, n_right, multipliers, transposed, t0, scale, s0) = _unpack(
            context, builder, signature, args
        )
        add, mul, i64, w = builder.add, builder.mul, at.type, v.w
        row_at = [add(at, mul(i64(t), ld)) for t in range(w)]
        rows = [v.load(m, row_at[t]) for t in range(w)]
        one, zero = v.scalar(1.0), v.scalar(0.0)
        pivots, ok, ms = ir.Constant(v.type, ir.Undefined), ir.IntType(1)(1), []
        for t in range(w):
            pivot = builder.extract_element(rows[t], v.i32(t))
            pivots = builder.insert_element(pivots, pivot, v.i32(t))
            ok = builder.and_(ok, builder.fcmp_ordered(">", pivot, zero))
            inverse = v.splat(builder.fdiv(one, pivot))
            m_t = v.keep(builder.fmul(rows[t], inverse), lambda lane, t=t: lane > t)
            for i in range(t + 1, w):
                rows[i] = v.fnma(v.splat_lane(m_t, i), rows[t], rows[i])
            v.store(m_t, multipliers, i64(t * w))
            ms.append(m_t)
        v.store(builder.fdiv(v.splat(one), v.sqrt(pivots)), scale, s0)
        for j, column in enumerate(v.transpose(ms)):
            v.store(column, transposed, add(t0, i64(j * w)))

        def right(block, _):
            shift = mul(add(block, i64(1)), i64(w))
            x = [v.load(m, add(row_at[t], shift)) for t in range(w)]
            for t in range(w):
                for i in range(t + 1, w):
                    x[i] = v.fnma(v.splat_load(multipliers, i64(t * w + i)), x[t], x[i])
            for t in range(w):
                s = v.splat_load(scale, add(s0, i64(t)))
                v.store(builder.fmul(x[t], s), m, add(row_at[t], shift))
            return []

        _loop(builder, n_right, [], right)
        return builder.zext(ok, ir.IntType(64))

    return types.int64(m, at, ld, n_right, multipliers, transposed, t0, scale, s0), codegen


@intrinsic
def _back(typingctx, m, at, ld, n_right, transposed, t0, scale, s0, x, x0):
    """Solve for W unknowns of a factored system whose later unknowns are in x already.

    The right-hand side is the last block of columns; x there is (-1, 0, ...), so that
    one sum over all blocks gives what is known minus the right-hand side.
    """

    def codegen(context, builder, signature, args):
        v, (m, at, ld, n_right, transposed, t0, scale, s0, x, x0) = _unpack(context, builder, signature, args)
        add, mul, i64, w = builder.add, builder.mul, at.type, v.w
        row_at = [add(at, mul(i64(t), ld)) for t in range(w)]

        def right(block, sums):
            shift = mul(add(block, i64(1)), i64(w))
            known = v.load(x, add(x0, shift))
            return [v.fma(v.load(m, add(row_at[t], shift)), known, sums[t]) for t in range(w)]

        total = v.sums(_loop(builder, n_right, [v.zero] * w, right))
        solved = builder.fneg(builder.fmul(total, v.load(scale, s0)))
        for j in range(w - 1, 0, -1):
            column = v.load(transposed, add(t0, i64(j * w)))
            solved = v.fnma(v.splat_lane(solved, j), column, solved)
        v.store(solved, x, x0)
        return context.get_dummy_value()

    return types.void(m, at, ld, n_right, transposed, t0, scale, s0, x, x0), codegen


@intrinsic
def _errors(typingctx, block, ld, n_groups, n_vectors, x, bias, target, out):
    """out = target - bias - block @ x for n_groups * W rows of the block."""

    def codegen(context, builder, signature, args):
        v, (block, ld, n_groups, n_vectors, x, bias, target, out) = _unpack(context, builder, signature, args)
        add, mul, i64, w = builder.add, builder.mul, ld.type, v.w
        bias = v.splat(bias)

        def group(g, _):
            first = mul(g, i64(w))
            row_at = [mul(add(first, i64(t)), ld) for t in range(w)]

            def part(j, sums):
                shift = mul(j, i64(w))
                right = v.load(x, shift)
                return [v.fma(v.load(block, add(row_at[t], shift)), right, sums[t]) for t in range(w)]

            total = v.sums(_loop(builder, n_vectors, [v.zero] * w, part))
            error = builder.fsub(builder.fsub(v.load(target, first), bias), total)
            v.store(error, out, first)
            return []

        _loop(builder, n_groups, [], group)
        return context.get_dummy_value()

    return types.void(block, ld, n_groups, n_vectors, x, bias, target, out), codegen


@intrinsic
def _transpose(typingctx, a, a0, lda, b, b0, ldb):
    """b = a' for one W x W block."""

    def codegen(context, builder, signature, args):
        v, (a, a0, lda, b, b0, ldb) = _unpack(context, builder, signature, args)
        add, mul, i64 = builder.add, builder.mul, a0.type
        rows = [v.load(a, add(a0, mul(i64(t), lda))) for t in range(v.w)]
        for t, row in enumerate(v.transpose(rows)):
            v.store(row, b, add(b0, mul(i64(t), ldb)))
        return context.get_dummy_value()

    return types.void(a, a0, lda, b, b0, ldb), codegen


# ---- one row ----------------------------------------------------------------

_Scratch = namedtuple("_Scratch", "kq ld size x pair target errors m comp multipliers transposed scale solution dual")


@njit(cache=True)
def _aligned(size, like):
    """Zeros of the type of `like` that start on a cache line."""
    raw = np.zeros(size + 64, like.dtype)
    skip = (-raw.ctypes.data % 64) // raw.itemsize
    return raw[skip : skip + size]


@njit(cache=True)
def _scratch(k, like):
    """The working memory of one thread: O(k^2) numbers.

    kq is k padded to whole vectors, ld the row length of m: one more vector, whose
    first lane is the right-hand side. m has row 0 for the bias, kq rows for the
    factors, and a last one in which the right-hand side is summed.
    """
    w = VECTOR_BYTES // like.itemsize
    kq = (k + w - 1) // w * w
    ld = kq + w
    size = min(max(BLOCK_BYTES // (max(kq, 1) * like.itemsize) // w * w, 2 * w), 512)
    size = max(size, kq)  # the dual form holds a whole row of up to kq ratings
    return _Scratch(
        kq, ld, size,
        _aligned(size * kq, like), _aligned(size * 2, like), _aligned(size, like), _aligned(size, like),
        _aligned((kq + 2) * ld, like), _aligned((kq + 2) * ld, like),
        _aligned(w * w, like), _aligned(kq * w, like), _aligned(kq, like), _aligned(ld, like),
        _aligned((kq + 1) * kq, like),
    )  # fmt: skip


@njit(cache=True)
def _product(a, a0, lda, b, b0, ldb, count, c, c0, ldc, comp, mode, n_vectors):
    """MR rows of C (+)= A' B, cut into tiles of three, two and one vectors."""
    w = VECTOR_BYTES // c.itemsize
    j = 0
    while j < n_vectors:
        left = n_vectors - j
        if left == 3 or left > 4:
            _tile3(a, a0, lda, b, b0 + j * w, ldb, count, c, c0 + j * w, ldc, comp, mode)
            j += 3
        elif left > 1:
            _tile2(a, a0, lda, b, b0 + j * w, ldb, count, c, c0 + j * w, ldc, comp, mode)
            j += 2
        else:
            _tile1(a, a0, lda, b, b0 + j * w, ldb, count, c, c0 + j * w, ldc, comp, mode)
            j += 1


@njit(cache=True)
def _gram(x, kq, count, m, ld, comp, mode):
    """Upper triangle of rows 1, ... of m (+)= X' X for `count` rows of X."""
    w = VECTOR_BYTES // x.itemsize
    for i in range(0, kq, MR):
        j = i // w * w
        _product(x, i, kq, x, j, kq, count, m, (1 + i) * ld + j, ld, comp, mode, (kq - j) // w)


@njit(cache=True)
def _factor_solve(size, work):
    """Solve the system of `size` unknowns in work.m; 0 where it is not positive definite.

    Row 0 of m is a row of the Cholesky factor that is known beforehand (or zeros);
    rows 1, ... are the upper triangle, and column `size` the right-hand side.
    """
    m, x = work.m, work.solution
    w = VECTOR_BYTES // m.itemsize
    ld = size + w
    ok = 1
    for i in range(0, size, w):
        n_vectors = (ld - i) // w
        for r in range(i, i + w, MR):
            _product(m, r, ld, m, i, ld, 1 + i, m, (1 + r) * ld + i, ld, m, SUBTRACT, n_vectors)
        ok &= _panel(
            m, (1 + i) * ld + i, ld, n_vectors - 1, work.multipliers, work.transposed, i * w, work.scale, i
        )
    x[size : size + w] = 0
    x[size] = -1
    for i in range(size - w, -1, -w):
        _back(m, (1 + i) * ld + i, ld, (ld - i) // w - 1, work.transposed, i * w, work.scale, i, x, i)
    return ok


@njit(cache=True)
def _gather(start, stop, indices, values, mean, factors, bias, work):
    """Copy the factors and the targets of ratings start...stop into small blocks."""
    x, pair, target, kq = work.x, work.pair, work.target, work.kq
    k = factors.shape[1]
    total = 0.0
    for s in range(start, stop):
        i, t = indices[s], s - start
        for j in range(k):
            x[t * kq + j] = factors[i, j]
        deviation = (values[s] - mean) - bias[i]
        target[t] = deviation
        pair[2 * t] = 1
        pair[2 * t + 1] = deviation
        total += deviation
    return total


@njit(cache=True)
def _primal(start, stop, indices, values, mean, factors, bias, reg, bias_reg, prior, prior_bias, work):
    """Normal equations of one row; returns ok and the bias, the factors are in work.solution."""
    kq, ld, m, comp, k = work.kq, work.ld, work.m, work.comp, factors.shape[1]
    w = VECTOR_BYTES // m.itemsize
    n = stop - start
    if n > work.size:
        comp[:] = 0
    mode = STORE
    total = 0.0
    last = (kq + 1) * ld
    for first in range(start, stop, work.size):
        count = min(work.size, stop - first)
        total += _gather(first, first + count, indices, values, mean, factors, bias, work)
        _gram(work.x, kq, count, m, ld, comp, mode)
        # The rows of (1, target): row 0 and the last one.
        j = 0
        while j < kq:
            if kq - j >= 4 * w:
                _pair4(work.pair, 0, 2, work.x, j, kq, count, m, j, last, comp, mode)
                j += 4 * w
            else:
                _pair1(work.pair, 0, 2, work.x, j, kq, count, m, j, last, comp, mode)
                j += w
        mode = ADD
    # The bias is eliminated first: its row of the factor is known without any work.
    weight = n + bias_reg
    total += bias_reg * prior_bias
    root = m.dtype.type(1 / np.sqrt(weight))
    for j in range(kq):
        m[j] *= root
    m[kq:ld] = 0
    m[kq] = total * root
    for i in range(kq):
        row = (1 + i) * ld
        m[row + kq : row + ld] = 0
        if i < k:
            m[row + i] += reg
            m[row + kq] = m[last + i] + reg * prior[i]
        else:
            m[row + i] = 1
    ok = _factor_solve(kq, work)
    explained = 0.0
    for j in range(kq):
        explained += m[j] * work.solution[j]
    return ok, total / weight - explained * root


# ---- many rows --------------------------------------------------------------


@njit(cache=True, nogil=True)
def solve_rows(
    first, stop, indptr, indices, values, mean, factors, bias, reg, bias_reg, weighted,
    prior, prior_bias, out, out_bias,
):  # fmt: skip
    k = factors.shape[1]
    work = _scratch(k, out)
    failed = 0
    for row in range(first, stop):
        a, b = indptr[row], indptr[row + 1]
        n = b - a
        if n == 0:
            out[row] = prior[row]
            out_bias[row] = prior_bias[row]
            continue
        scale = n if weighted else 1
        ok, solved = _primal(
            a, b, indices, values, mean, factors, bias, reg * scale, bias_reg * scale,
            prior[row], prior_bias[row], work,
        )  # fmt: skip
        if ok:
            out_bias[row] = solved
            for j in range(k):
                out[row, j] = work.solution[j]
        else:
            failed += 1
    return failed
