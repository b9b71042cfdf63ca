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
from numba import config, njit, types
from numba.core import cgutils
from numba.extending import intrinsic


def _compiles_for_avx512():
    """Whether Numba's target has 64-byte vectors: this machine, unless its settings name another."""
    if config.CPU_FEATURES is not None:
        return "+avx512f" in config.CPU_FEATURES
    return config.CPU_NAME != "generic" and llvm.get_host_cpu_features().get("avx512f", False)


_AVX512 = _compiles_for_avx512()
VECTOR_BYTES = 64 if _AVX512 else 32  # elsewhere LLVM splits 32 bytes into what the machine has
MR = 8 if _AVX512 else 4  # rows of a tile: MR x 3 sums, 3 vectors and 1 scalar fit in the registers

STORE, ADD, SUBTRACT = 0, 1, 2
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


def _make_tile(mr, nv, chains=1):
    """A tile of mr rows and nv vectors. With chains=2 even and odd terms are summed apart, which hides
    the latency of few sums; count must then be even."""

    @intrinsic
    def tile(typingctx, s, a, lda, b, ldb, count, c, ldc, comp, mode):
        def codegen(context, builder, signature, args):
            v, (s, a, lda, b, ldb, count, c, ldc, comp, mode) = _unpack(context, builder, signature, args)
            add, mul, i64 = builder.add, builder.mul, count.type

            def step(t, sums):
                new = []
                for c in range(chains):
                    row = add(mul(t, i64(chains)), i64(c))
                    at_a, at_b = add(a, mul(row, lda)), add(b, mul(row, ldb))
                    right = [v.load(s, add(at_b, i64(j * v.w))) for j in range(nv)]
                    for i in range(mr):
                        left = v.splat_load(s, add(at_a, i64(i)))
                        new += [v.fma(left, right[j], sums[len(new) + j]) for j in range(nv)]
                return new

            n_sums = mr * nv
            sums = _loop(builder, builder.sdiv(count, i64(chains)), [v.zero] * (chains * n_sums), step)
            if chains == 2:
                sums = [builder.fadd(x, y) for x, y in zip(sums[:n_sums], sums[n_sums:], strict=True)]
            places = [
                (sums[i * nv + j], add(mul(i64(i), ldc), i64(j * v.w)))
                for i in range(mr)
                for j in range(nv)
            ]
            with builder.if_else(builder.icmp_signed("==", mode, i64(STORE))) as (is_store, is_other):
                with is_store:
                    for value, at in places:
                        v.store(value, s, add(c, at))
                with is_other:
                    with builder.if_else(builder.icmp_signed("==", mode, i64(ADD))) as (is_add, is_sub):
                        with is_add:
                            # Kahan: comp holds what rounding has added to c so far.
                            for value, at in places:
                                old = v.load(s, add(c, at))
                                value = builder.fsub(value, v.load(s, add(comp, at)))
                                new = builder.fadd(old, value)
                                v.store(builder.fsub(builder.fsub(new, old), value), s, add(comp, at))
                                v.store(new, s, add(c, at))
                        with is_sub:
                            for value, at in places:
                                v.store(builder.fsub(v.load(s, add(c, at)), value), s, add(c, at))
            return context.get_dummy_value()

        return types.void(s, a, lda, b, ldb, count, c, ldc, comp, mode), codegen

    return tile


_tile3, _tile2, _tile1 = _make_tile(MR, 3), _make_tile(MR, 2), _make_tile(MR, 1)
_pair4, _pair1 = _make_tile(2, 4), _make_tile(2, 1)
_line4, _line1 = _make_tile(1, 4, 2), _make_tile(1, 1, 2)


@intrinsic
def _panel(typingctx, m, at, ld, n_right, multipliers, transposed, scale):
    """Eliminate W rows of an upper triangle; 1 when every pivot is positive.

    The block on the diagonal starts at `at`; `n_right` blocks lie to its right. It is
    factored as M' D M with M unit upper triangular, which keeps square roots out of
    the chain of dependent steps; the rows to the right are then scaled by D^-1/2.
    """

    def codegen(context, builder, signature, args):
        v, (m, at, ld, n_right, multipliers, transposed, scale) = _unpack(context, builder, signature, args)
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
            v.store(m_t, m, add(multipliers, i64(t * w)))
            ms.append(m_t)
        v.store(builder.fdiv(v.splat(one), v.sqrt(pivots)), m, scale)
        for j, column in enumerate(v.transpose(ms)):
            v.store(column, m, add(transposed, i64(j * w)))

        def right(block, _):
            shift = mul(add(block, i64(1)), i64(w))
            x = [v.load(m, add(row_at[t], shift)) for t in range(w)]
            for t in range(w):
                for i in range(t + 1, w):
                    x[i] = v.fnma(v.splat_load(m, add(multipliers, i64(t * w + i))), x[t], x[i])
            for t in range(w):
                s = v.splat_load(m, add(scale, i64(t)))
                v.store(builder.fmul(x[t], s), m, add(row_at[t], shift))
            return []

        _loop(builder, n_right, [], right)
        return builder.zext(ok, ir.IntType(64))

    return types.int64(m, at, ld, n_right, multipliers, transposed, scale), codegen


@intrinsic
def _back(typingctx, m, at, ld, n_right, transposed, scale, x):
    """Solve for W unknowns of a factored system whose later unknowns are in x already.

    The right-hand side is the last block of columns; x there is (-1, 0, ...), so that
    one sum over all blocks gives what is known minus the right-hand side.
    """

    def codegen(context, builder, signature, args):
        v, (m, at, ld, n_right, transposed, scale, x) = _unpack(context, builder, signature, args)
        add, mul, i64, w = builder.add, builder.mul, at.type, v.w
        row_at = [add(at, mul(i64(t), ld)) for t in range(w)]

        def right(block, sums):
            shift = mul(add(block, i64(1)), i64(w))
            known = v.load(m, add(x, shift))
            return [v.fma(v.load(m, add(row_at[t], shift)), known, sums[t]) for t in range(w)]

        total = v.sums(_loop(builder, n_right, [v.zero] * w, right))
        solved = builder.fneg(builder.fmul(total, v.load(m, scale)))
        for j in range(w - 1, 0, -1):
            column = v.load(m, add(transposed, i64(j * w)))
            solved = v.fnma(v.splat_lane(solved, j), column, solved)
        v.store(solved, m, x)
        return context.get_dummy_value()

    return types.void(m, at, ld, n_right, transposed, scale, x), codegen


@intrinsic
def _errors(typingctx, a, block, ld, n_groups, n_vectors, x, bias, target, out):
    """a[out:] = target - bias - block @ x for n_groups * W rows of the block, all of them in a."""

    def codegen(context, builder, signature, args):
        v, values = _unpack(context, builder, signature, args)
        a, block, ld, n_groups, n_vectors, x, bias, target, out = values
        add, mul, i64, w = builder.add, builder.mul, ld.type, v.w
        bias = v.splat(bias)

        def group(g, _):
            first = mul(g, i64(w))
            row_at = [add(block, mul(add(first, i64(t)), ld)) for t in range(w)]

            def part(j, sums):
                shift = mul(j, i64(w))
                right = v.load(a, add(x, shift))
                return [v.fma(v.load(a, add(row_at[t], shift)), right, sums[t]) for t in range(w)]

            total = v.sums(_loop(builder, n_vectors, [v.zero] * w, part))
            error = builder.fsub(builder.fsub(v.load(a, add(target, first)), bias), total)
            v.store(error, a, add(out, first))
            return []

        _loop(builder, n_groups, [], group)
        return context.get_dummy_value()

    return types.void(a, block, ld, n_groups, n_vectors, x, bias, target, out), codegen


@intrinsic
def _transpose(typingctx, s, a, lda, b, ldb):
    """b = a' for one W x W block."""

    def codegen(context, builder, signature, args):
        v, (s, a, lda, b, ldb) = _unpack(context, builder, signature, args)
        add, mul, i64 = builder.add, builder.mul, a.type
        rows = [v.load(s, add(a, mul(i64(t), lda))) for t in range(v.w)]
        for t, row in enumerate(v.transpose(rows)):
            v.store(row, s, add(b, mul(i64(t), ldb)))
        return context.get_dummy_value()

    return types.void(s, a, lda, b, ldb), codegen


@intrinsic
def _copy(typingctx, a, a0, b, b0, n_vectors):
    """b[b0:] = a[a0:] for whole vectors."""

    def codegen(context, builder, signature, args):
        v, (a, a0, b, b0, n_vectors) = _unpack(context, builder, signature, args)

        def part(j, _):
            shift = builder.mul(j, a0.type(v.w))
            v.store(v.load(a, builder.add(a0, shift)), b, builder.add(b0, shift))
            return []

        _loop(builder, n_vectors, [], part)
        return context.get_dummy_value()

    return types.void(a, a0, b, b0, n_vectors), codegen


@intrinsic
def _prefetch(typingctx, a, a0, count):
    """Ask for a[a0 : a0 + count], one cache line at a time."""

    def codegen(context, builder, signature, args):
        v, (a, a0, count) = _unpack(context, builder, signature, args)
        i32, i64, pointer = v.i32, a0.type, ir.IntType(8).as_pointer()
        prefetch = builder.module.declare_intrinsic(
            "llvm.prefetch", [pointer], ir.FunctionType(ir.VoidType(), [pointer, i32, i32, i32])
        )
        line = 64 // v.bytes

        def ask(j, _):
            at = builder.gep(a, [builder.add(a0, builder.mul(j, i64(line)))])
            builder.call(prefetch, [builder.bitcast(at, pointer), i32(0), i32(3), i32(1)])
            return []

        n_lines = builder.sdiv(builder.add(count, i64(line - 1)), i64(line))
        _loop(builder, n_lines, [], ask)
        return context.get_dummy_value()

    return types.void(a, a0, count), codegen


# ---- one row ----------------------------------------------------------------
#
# A thread works in one flat array; where its parts lie is a tuple of offsets, which
# costs nothing to hand on (an array in a tuple would be reference-counted).

_Parts = namedtuple(
    "_Parts", "kq ld size x pair target zeros error m comp multipliers transposed scale solution end"
)


@njit(cache=True)
def _parts(k, w, block):
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
    return _Parts(
        kq, ld, size, x, pair, target, zeros, error, m, comp, multipliers, transposed, scale, solution, end
    )  # fmt: skip


@njit(cache=True)
def _aligned(size, like):
    """Zeros of the type of `like` that start on a cache line."""
    raw = np.zeros(size + 64, like.dtype)
    skip = (-raw.ctypes.data % 64) // raw.itemsize
    return raw[skip : skip + size]


@njit(cache=True)
def _product(s, a, lda, b, ldb, count, c, ldc, comp, mode, n_vectors):
    """MR rows of C (+)= A' B in scratch s, cut into tiles of three, two and one vectors."""
    w = VECTOR_BYTES // s.itemsize
    j = 0
    while j < n_vectors:
        left = n_vectors - j
        if left == 3 or left > 4:
            _tile3(s, a, lda, b + j * w, ldb, count, c + j * w, ldc, comp + j * w, mode)
            j += 3
        elif left > 1:
            _tile2(s, a, lda, b + j * w, ldb, count, c + j * w, ldc, comp + j * w, mode)
            j += 2
        else:
            _tile1(s, a, lda, b + j * w, ldb, count, c + j * w, ldc, comp + j * w, mode)
            j += 1


@njit(cache=True)
def _gram(s, o, count, mode):
    """Upper triangle of rows 1, ... of m (+)= X' X, rows 0 and last (+)= (1, target)' X."""
    w = VECTOR_BYTES // s.itemsize
    kq, ld = o.kq, o.ld
    for i in range(0, kq, MR):
        j = i // w * w
        at = (1 + i) * ld + j
        _product(s, o.x + i, kq, o.x + j, kq, count, o.m + at, ld, o.comp + at, mode, (kq - j) // w)
    j, apart = 0, (kq + 1) * ld
    while j < kq:
        if kq - j >= 4 * w:
            _pair4(s, o.pair, 2, o.x + j, kq, count, o.m + j, apart, o.comp + j, mode)
            j += 4 * w
        else:
            _pair1(s, o.pair, 2, o.x + j, kq, count, o.m + j, apart, o.comp + j, mode)
            j += w


@njit(cache=True)
def _factor_solve(s, o, size):
    """Solve the system of `size` unknowns in part m; 0 where it is not positive definite.

    Row 0 of m is a row of the Cholesky factor that is known beforehand (or zeros);
    rows 1, ... are the upper triangle, and column `size` the right-hand side.
    """
    w = VECTOR_BYTES // s.itemsize
    ld = size + w
    ok = 1
    for i in range(0, size, w):
        n_vectors = (ld - i) // w
        for r in range(i, i + w, MR):
            at = o.m + (1 + r) * ld + i
            _product(s, o.m + r, ld, o.m + i, ld, 1 + i, at, ld, 0, SUBTRACT, n_vectors)
        at = o.m + (1 + i) * ld + i
        ok &= _panel(s, at, ld, n_vectors - 1, o.multipliers, o.transposed + i * w, o.scale + i)
    s[o.solution + size] = -1
    for j in range(1, w):
        s[o.solution + size + j] = 0
    for i in range(size - w, -1, -w):
        at = o.m + (1 + i) * ld + i
        _back(s, at, ld, (ld - i) // w - 1, o.transposed + i * w, o.scale + i, o.solution + i)
    return ok


@njit(cache=True)
def _gather(s, o, start, stop, indices, values, mean, factors, bias):
    """Copy the factors and the targets of ratings start...stop into scratch."""
    kq, k = o.kq, factors.shape[1]
    w = VECTOR_BYTES // s.itemsize
    vectors = k // w
    total = 0.0
    for at in range(start, stop):
        i, t = np.int64(indices[at]), at - start
        if at + AHEAD < len(indices):
            _prefetch(factors, np.int64(indices[at + AHEAD]) * k, k)
        _copy(factors, i * k, s, o.x + t * kq, vectors)
        for j in range(vectors * w, k):
            s[o.x + t * kq + j] = factors[i, j]
        deviation = (values[at] - mean) - bias[i]
        s[o.target + t] = deviation
        s[o.pair + 2 * t] = 1
        s[o.pair + 2 * t + 1] = deviation
        total += deviation
    return total


@njit(cache=True)
def _primal(s, o, start, stop, indices, values, mean, factors, bias, reg, bias_reg, prior, prior_bias):
    """Normal equations of one row; returns ok and the bias, the factors are in part solution."""
    kq, ld, m, k = o.kq, o.ld, o.m, factors.shape[1]
    n = stop - start
    if n > o.size:
        s[o.comp : o.multipliers] = 0
    mode = STORE
    total = 0.0
    for first in range(start, stop, o.size):
        count = min(o.size, stop - first)
        total += _gather(s, o, first, first + count, indices, values, mean, factors, bias)
        _gram(s, o, count, mode)
        mode = ADD
    # The bias is eliminated first: its row of the factor is known without any work.
    weight = n + bias_reg
    total += bias_reg * prior_bias
    root = s.dtype.type(1 / np.sqrt(weight))
    for j in range(m, m + kq):
        s[j] *= root
    s[m + kq : m + ld] = 0
    s[m + kq] = total * root
    last = m + (kq + 1) * ld
    for i in range(kq):
        row = m + (1 + i) * ld
        s[row + kq : row + ld] = 0
        if i < k:
            s[row + i] += reg
            s[row + kq] = s[last + i] + reg * prior[i]
        else:
            s[row + i] = 1
    ok = _factor_solve(s, o, kq)
    explained = 0.0
    for j in range(kq):
        explained += s[m + j] * s[o.solution + j]
    return ok, total / weight - explained * root


@njit(cache=True)
def _add_lines(s, o, e, count, out, mode):
    """out (+)= sum_t e_t x_t over the gathered rows; compensated in part comp when adding."""
    w = VECTOR_BYTES // s.itemsize
    if count % 2:
        s[e + count] = 0
        count += 1
    j = 0
    while j < o.kq:
        if o.kq - j >= 4 * w:
            _line4(s, e, 1, o.x + j, o.kq, count, out + j, 0, o.comp + j, mode)
            j += 4 * w
        else:
            _line1(s, e, 1, o.x + j, o.kq, count, out + j, 0, o.comp + j, mode)
            j += w


@njit(cache=True)
def _dual(s, o, start, stop, indices, values, mean, factors, bias, reg, bias_reg, prior, prior_bias):
    """The solution of `_primal` from an n x n system, for n up to kq.

    With X the n gathered rows and t' the targets minus the prior's predictions, the
    matrix inversion lemma gives p = g + X' y and b = c + (reg / bias_reg) sum(y), where
    (X X' + reg I + reg / bias_reg) y = t' (Golub and Van Loan 2013, section 2.1.4).
    """
    w = VECTOR_BYTES // s.itemsize
    kq, k, m, n = o.kq, factors.shape[1], o.m, stop - start
    nq = (n + w - 1) // w * w
    ld = nq + w
    _gather(s, o, start, stop, indices, values, mean, factors, bias)
    s[o.x + n * kq : o.x + nq * kq] = 0
    for j in range(kq):
        s[o.solution + j] = prior[j] if j < k else 0
    _errors(s, o.x, kq, nq // w, kq // w, o.solution, s.dtype.type(prior_bias), o.target, o.error)
    # X' in the place of comp, which a single block of ratings does not need; its
    # last row stands for the bias.
    for t in range(0, nq, w):
        for j in range(0, kq, w):
            _transpose(s, o.x + t * kq + j, kq, o.comp + j * nq + t, nq)
    ratio = reg / bias_reg
    for t in range(nq):
        s[o.comp + kq * nq + t] = np.sqrt(ratio) if t < n else 0
    for i in range(0, nq, MR):
        j = i // w * w
        at = m + (1 + i) * ld + j
        _product(s, o.comp + i, nq, o.comp + j, nq, kq + 1, at, ld, 0, STORE, (nq - j) // w)
    s[m : m + ld] = 0
    for t in range(nq):
        row = m + (1 + t) * ld
        s[row + t] += reg
        s[row + nq : row + ld] = 0
        s[row + nq] = s[o.error + t] if t < n else 0
    ok = _factor_solve(s, o, nq)
    total = 0.0
    for t in range(n):
        s[o.error + t] = s[o.solution + t]
        total += s[o.error + t]
    _add_lines(s, o, o.error, n, o.solution, STORE)
    for j in range(k):
        s[o.solution + j] += prior[j]
    return ok, prior_bias + ratio * total


@njit(cache=True, fastmath={"reassoc", "contract", "nsz"})
def _sum_of_squares(s, start, count):
    total = 0.0
    for t in range(start, start + count):
        total += np.float64(s[t]) * np.float64(s[t])
    return total


@njit(cache=True, fastmath={"reassoc", "contract", "nsz"})
def _dot(s, a, b, count):
    total = 0.0
    for j in range(count):
        total += np.float64(s[a + j]) * np.float64(s[b + j])
    return total


@njit(cache=True)
def _row_errors(s, o, start, stop, indices, values, mean, factors, bias, row_bias):
    """Sum of squared errors of one row under part solution, in float64."""
    w = VECTOR_BYTES // s.itemsize
    total = 0.0
    for first in range(start, stop, o.size):
        count = min(o.size, stop - first)
        if stop - start > o.size:
            _gather(s, o, first, first + count, indices, values, mean, factors, bias)
        groups = (count + w - 1) // w
        _errors(s, o.x, o.kq, groups, o.kq // w, o.solution, s.dtype.type(row_bias), o.target, o.error)
        total += _sum_of_squares(s, o.error, count)
    return total


@njit(cache=True)
def _residual(s, o, v, start, stop, indices, values, mean, factors, bias, with_target):
    """X' (target - X v), or -X' X v without target; v and the result hold the bias at kq.

    The result goes to part m; rows that fit into scratch were gathered before.
    """
    w = VECTOR_BYTES // s.itemsize
    kq = o.kq
    s[o.m : o.m + kq] = 0
    s[o.comp : o.comp + kq] = 0
    total = 0.0
    for first in range(start, stop, o.size):
        count = min(o.size, stop - first)
        if stop - start > o.size:
            _gather(s, o, first, first + count, indices, values, mean, factors, bias)
        groups = (count + w - 1) // w
        _errors(s, o.x, kq, groups, kq // w, v, s[v + kq], o.target if with_target else o.zeros, o.error)
        for t in range(count):
            total += s[o.error + t]
        _add_lines(s, o, o.error, count, o.m, ADD)
    s[o.m + kq] = total


@njit(cache=True, fastmath={"reassoc", "contract", "nsz"})
def _conjugate_gradients(
    s, o, start, stop, indices, values, mean, factors, bias, reg, bias_reg, prior, prior_bias, steps,
    squares, warm, warm_bias,
):  # fmt: skip
    """A few preconditioned steps from the present solution (Shewchuk 1994, section B3).

    The preconditioner is a diagonal: n times the mean square of each factor, plus reg;
    for the bias n + bias_reg. It puts the bias on one scale with the factors.
    """
    kq, k, ld, n = o.kq, factors.shape[1], o.ld, stop - start
    x, r, d, inverse = o.solution, o.m + ld, o.m + 2 * ld, o.m + 3 * ld
    s[x : x + ld] = 0
    s[inverse : inverse + ld] = 0
    for j in range(k):
        s[x + j] = warm[j]
        s[inverse + j] = 1 / (n * squares[j] + reg)
    s[x + kq] = warm_bias
    s[inverse + kq] = 1 / (n + bias_reg)
    if n <= o.size:
        _gather(s, o, start, stop, indices, values, mean, factors, bias)
    _residual(s, o, x, start, stop, indices, values, mean, factors, bias, True)
    s[r : r + kq] = 0
    for j in range(k):
        s[r + j] = s[o.m + j] - reg * (s[x + j] - prior[j])
    s[r + kq] = s[o.m + kq] - bias_reg * (s[x + kq] - prior_bias)
    size = s.dtype.type(0)
    for j in range(kq + 1):
        s[d + j] = s[r + j] * s[inverse + j]
        size += s[r + j] * s[d + j]
    for _ in range(steps):
        _residual(s, o, d, start, stop, indices, values, mean, factors, bias, False)
        curve = s.dtype.type(0)
        for j in range(kq):
            s[o.m + j] = reg * s[d + j] - s[o.m + j]
            curve += s[o.m + j] * s[d + j]
        s[o.m + kq] = bias_reg * s[d + kq] - s[o.m + kq]
        curve += s[o.m + kq] * s[d + kq]
        if not curve > 0:
            break
        step = size / curve
        new = s.dtype.type(0)
        for j in range(kq + 1):
            s[x + j] += step * s[d + j]
            s[r + j] -= step * s[o.m + j]
            new += s[r + j] * s[r + j] * s[inverse + j]
        ratio = new / size
        for j in range(kq + 1):
            s[d + j] = s[r + j] * s[inverse + j] + ratio * s[d + j]
        size = new
    return s[x + kq]


# ---- many rows --------------------------------------------------------------


@njit(cache=True, nogil=True)
def solve_rows(
    first, stop, indptr, indices, values, mean, factors, bias, reg, bias_reg, weighted,
    prior, prior_bias, steps, squares, errors, out, out_bias,
):  # fmt: skip
    """Solve for the factors and biases of rows first...stop, the other side held.

    Parameters
    ----------
    first, stop : int
        The rows of this call. Rows are independent: calls may run side by side.
    indptr, indices, values : ndarray, shape (rows + 1,), (nnz,), (nnz,)
        The ratings in CSR form, int32 or int64, int32, float.
    mean : float
        Global mean, of the type of `out`.
    factors, bias : ndarray of float, shape (columns, k) and (columns,)
        The other side; C-contiguous.
    reg, bias_reg : float
        Regularization of factors and biases, of the type of `out`.
    weighted : bool
        Multiply both by the row's number of ratings (ALS-WR, Zhou et al. 2008).
    prior, prior_bias : ndarray, shape (rows, k) and (rows,), or (1, k) and (1,) for all
        What the regularization pulls towards; a row without ratings gets just that.
    steps : int
        0 solves exactly, otherwise the number of conjugate gradient steps, which
        start from what `out` and `out_bias` hold. Rows of more than some thousand
        ratings are solved exactly up to rank 128, as that is cheaper.
    squares : ndarray, shape (k,)
        Mean square of each column of `factors`, for the preconditioner.
    errors : bool
        Sum the squared errors after the solve.
    out, out_bias : ndarray, shape (rows, k) and (rows,)
        Written in place, C-contiguous.

    Returns
    -------
    failed : int
        Rows whose system was not positive definite; they keep what they had.
    total : float
        Sum of squared errors, 0 unless asked for.

    Notes
    -----
    Exact: about nnz k (k + 1) + rows k^3 / 3 operations, each rating's factor row read
    once. Scratch: O(k^2) numbers for the call.
    """
    k = factors.shape[1]
    o = _parts(k, VECTOR_BYTES // out.itemsize, CG_BLOCK if steps > 0 else GRAM_BLOCK)
    s = _aligned(o.end, out)
    failed = 0
    total = 0.0
    for row in range(first, stop):
        a, b = np.int64(indptr[row]), np.int64(indptr[row + 1])
        n = b - a
        towards = row if len(prior) > 1 else 0
        if n == 0:
            out[row] = prior[towards]
            out_bias[row] = prior_bias[towards]
            continue
        times = out.dtype.type(n if weighted else 1)
        row_reg, row_bias_reg = reg * times, bias_reg * times
        if steps > 0 and (n <= o.size or k > CG_RANK):
            ok = 1
            solved = np.float64(_conjugate_gradients(
                s, o, a, b, indices, values, mean, factors, bias, row_reg, row_bias_reg,
                prior[towards], prior_bias[towards], steps, squares, out[row], out_bias[row],
            ))  # fmt: skip
        elif DUAL_SHARE * n <= k and row_reg > 0 and row_bias_reg > 0:
            ok, solved = _dual(
                s, o, a, b, indices, values, mean, factors, bias, row_reg, row_bias_reg,
                prior[towards], prior_bias[towards],
            )  # fmt: skip
        else:
            ok, solved = _primal(
                s, o, a, b, indices, values, mean, factors, bias, row_reg, row_bias_reg,
                prior[towards], prior_bias[towards],
            )  # fmt: skip
        if not ok:
            failed += 1
            continue
        out_bias[row] = solved
        for j in range(k):
            out[row, j] = s[o.solution + j]
        if errors:
            total += _row_errors(s, o, a, b, indices, values, mean, factors, bias, out_bias[row])
    return failed, total


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def score_pairs(users, items, mean, user_factors, user_bias, item_factors, item_bias, out):
    """out = mean + b_u + b_i + p_u . q_i for each pair; a code of -1 stands for zeros."""
    k = user_factors.shape[1]
    for t in range(len(users)):
        u, i = users[t], items[t]
        total = mean
        if u >= 0:
            total += user_bias[u]
        if i >= 0:
            total += item_bias[i]
        if u >= 0 and i >= 0:
            for j in range(k):
                total += np.float64(user_factors[u, j]) * np.float64(item_factors[i, j])
        out[t] = total
