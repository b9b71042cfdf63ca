"""Vector code for the kernels: what LLVM's compiler does not do by itself, written as instructions.

Loops over a k that is only known at run time do not keep a tile of a matrix in registers, and in
short rows the compiler guards against overlap and finishes number by number. So the innermost
pieces are written as LLVM IR through Numba's `intrinsic`. They are the only place with pointers
and registers; the kernels call them like functions of arrays and offsets:

rows       `dot`, `dot_difference`, `step_both`, `step_pair`, `scale_add`, `copy`, `prefetch`,
           `row_sum4` ... of whole vectors
lanes      `add_lanes`, one number for each of LANES rows side by side
bits       `trailing_zeros` and `ones` of a word
blocks     `tile3` ... C (+)= A' B for a few rows and vectors of C, summed in registers;
           `panel` and `back`, W rows of a Cholesky factorization and of its solution;
           `errors` and `transpose`

Arrays that the row functions take are padded with zeros to whole vectors (`in_whole_vectors`),
which they leave zero. Nothing here refers to an address of this process, so what calls it is cached.
"""

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import config, types
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
LANES = 16  # of `add_lanes`: one AVX-512 register of float32; narrower machines split it
SUMS = 64 // VECTOR_BYTES  # vectors in which `dot` sums

# What a tile does with C.
STORE, ADD, SUBTRACT = 0, 1, 2


def lanes(dtype):
    """Numbers in one vector register; the unit to which k is padded."""
    return VECTOR_BYTES // np.dtype(dtype).itemsize


def in_whole_vectors(x, dtype):
    """A contiguous matrix of `dtype` whose columns fill whole vectors: x itself where it is like that."""
    if x.shape[1] % lanes(dtype) == 0 and x.flags.c_contiguous and x.dtype == dtype:
        return x
    return padded(x, dtype)


def padded(x, dtype):
    """A copy with columns of zeros up to whole vectors, at least one, that starts on a cache line.

    Parameters
    ----------
    x : ndarray, shape (rows, width)
    dtype : {"float32", "float64"}

    Returns
    -------
    ndarray, shape (rows, ld)
    """
    ld = max(1, -(-x.shape[1] // lanes(dtype))) * lanes(dtype)
    size = len(x) * ld
    room = np.zeros(size + 64 // np.dtype(dtype).itemsize, dtype)
    first = (-room.ctypes.data % 64) // room.itemsize
    out = room[first : first + size].reshape(-1, ld)
    out[:, : x.shape[1]] = x
    return out


# ---- the toolkit ------------------------------------------------------------


class Vec:
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


def loop(builder, count, start_values, body):
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


def unpack(context, builder, signature, args):
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
    return Vec(builder, scalar), out


# ---- rows of whole vectors --------------------------------------------------


@intrinsic
def copy(typingctx, a, a0, b, b0, n_vectors):
    """b[b0:] = a[a0:] for whole vectors."""

    def codegen(context, builder, signature, args):
        v, (a, a0, b, b0, n_vectors) = unpack(context, builder, signature, args)

        def part(j, _):
            shift = builder.mul(j, a0.type(v.w))
            v.store(v.load(a, builder.add(a0, shift)), b, builder.add(b0, shift))
            return []

        loop(builder, n_vectors, [], part)
        return context.get_dummy_value()

    return types.void(a, a0, b, b0, n_vectors), codegen


@intrinsic
def prefetch(typingctx, a, a0, count):
    """Ask for a[a0 : a0 + count], one cache line at a time."""

    def codegen(context, builder, signature, args):
        v, (a, a0, count) = unpack(context, builder, signature, args)
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
        loop(builder, n_lines, [], ask)
        return context.get_dummy_value()

    return types.void(a, a0, count), codegen


def _sum_of_products(builder, v, n_vectors, product):
    """The sum of left * right over whole vectors, where left, right = product(number of the vector).

    It adds up 64 bytes side by side, whatever the machine's registers hold: a sum in another order
    rounds otherwise, and after a million steps of stochastic gradient descent that is another model.
    """

    def part(t, sums):
        # The sums take turns.
        return [*sums[1:], v.fma(*product(t), sums[0])]

    total, *rest = loop(builder, n_vectors, [v.zero] * SUMS, part)
    for more in rest:
        total = builder.fadd(total, more)
    half = v.w // 2
    while half:
        folded = v.shuffle(total, total, [(i + half) % v.w for i in range(v.w)])
        total, half = builder.fadd(total, folded), half // 2
    return builder.extract_element(total, v.i32(0))


@intrinsic
def dot(typingctx, x, x0, y, y0, n_vectors):
    """Sum of x[x0:] * y[y0:] over whole vectors, in float64 or the arrays' type."""

    def codegen(context, builder, signature, args):
        v, (x, x0, y, y0, n_vectors) = unpack(context, builder, signature, args)

        def product(t):
            shift = builder.mul(t, x0.type(v.w))
            return v.load(x, builder.add(x0, shift)), v.load(y, builder.add(y0, shift))

        return _sum_of_products(builder, v, n_vectors, product)

    return x.dtype(x, x0, y, y0, n_vectors), codegen


@intrinsic
def dot_difference(typingctx, x, x0, y, i0, j0, n_vectors):
    """Sum of x[x0:] * (y[i0:] - y[j0:]) over whole vectors."""

    def codegen(context, builder, signature, args):
        v, (x, x0, y, i0, j0, n_vectors) = unpack(context, builder, signature, args)

        def product(t):
            shift = builder.mul(t, x0.type(v.w))
            left, first, second = (v.load(a, builder.add(at, shift)) for a, at in ((x, x0), (y, i0), (y, j0)))
            return left, builder.fsub(first, second)

        return _sum_of_products(builder, v, n_vectors, product)

    return x.dtype(x, x0, y, i0, j0, n_vectors), codegen


@intrinsic
def step_both(typingctx, x, x0, y, y0, n_vectors, keep, x_step, y_step):
    """x, y = keep x + x_step y, keep y + y_step x for whole vectors of two rows."""

    def codegen(context, builder, signature, args):
        v, (x, x0, y, y0, n_vectors, keep, x_step, y_step) = unpack(context, builder, signature, args)
        keep, x_step, y_step = v.splat(keep), v.splat(x_step), v.splat(y_step)

        def part(j, _):
            shift = builder.mul(j, x0.type(v.w))
            at_x, at_y = builder.add(x0, shift), builder.add(y0, shift)
            left, right = v.load(x, at_x), v.load(y, at_y)
            v.store(v.fma(x_step, right, builder.fmul(keep, left)), x, at_x)
            v.store(v.fma(y_step, left, builder.fmul(keep, right)), y, at_y)
            return []

        loop(builder, n_vectors, [], part)
        return context.get_dummy_value()

    return types.void(x, x0, y, y0, n_vectors, keep, x_step, y_step), codegen


@intrinsic
def scale_add(typingctx, x, x0, y, y0, n_vectors, keep, step):
    """x = keep x + step y for whole vectors."""

    def codegen(context, builder, signature, args):
        v, (x, x0, y, y0, n_vectors, keep, step) = unpack(context, builder, signature, args)
        keep, step = v.splat(keep), v.splat(step)

        def part(j, _):
            shift = builder.mul(j, x0.type(v.w))
            at = builder.add(x0, shift)
            moved = v.fma(step, v.load(y, builder.add(y0, shift)), builder.fmul(keep, v.load(x, at)))
            v.store(moved, x, at)
            return []

        loop(builder, n_vectors, [], part)
        return context.get_dummy_value()

    return types.void(x, x0, y, y0, n_vectors, keep, step), codegen


@intrinsic
def step_pair(typingctx, p, p0, q, i0, j0, n_vectors, keep, keep_both, step):
    """p, q_i, q_j = keep p + step (q_i - q_j), keep_both q_i + step p, keep_both q_j - step p, all from the
    old values, for whole vectors of one row of p and two different rows of q."""

    def codegen(context, builder, signature, args):
        v, (p, p0, q, i0, j0, n_vectors, *factors) = unpack(context, builder, signature, args)
        keep, keep_both, step = (v.splat(x) for x in factors)

        def part(t, _):
            shift = builder.mul(t, p0.type(v.w))
            at_p, at_i, at_j = (builder.add(x, shift) for x in (p0, i0, j0))
            user, liked, other = v.load(p, at_p), v.load(q, at_i), v.load(q, at_j)
            v.store(v.fma(step, builder.fsub(liked, other), builder.fmul(keep, user)), p, at_p)
            v.store(v.fma(step, user, builder.fmul(keep_both, liked)), q, at_i)
            v.store(v.fnma(step, user, builder.fmul(keep_both, other)), q, at_j)
            return []

        loop(builder, n_vectors, [], part)
        return context.get_dummy_value()

    return types.void(p, p0, q, i0, j0, n_vectors, keep, keep_both, step), codegen


def _make_sum(width):
    @intrinsic
    def row_sum(typingctx, data, indices, first, stop, x, x0, ld, out, out0):
        """out[out0:] = sum of data[t] * x[x0 + indices[t] * ld:], `width` vectors of it."""

        def codegen(context, builder, signature, args):
            v, values = unpack(context, builder, signature, args)
            data, indices, first, stop, x, x0, ld, out, out0 = values
            add, mul, i64 = builder.add, builder.mul, first.type

            def step(t, sums):
                at = add(first, t)
                row = builder.sext(builder.load(builder.gep(indices, [at])), i64)
                base = add(x0, mul(row, ld))
                left = v.splat_load(data, at)
                return [v.fma(left, v.load(x, add(base, i64(j * v.w))), sums[j]) for j in range(width)]

            sums = loop(builder, builder.sub(stop, first), [v.zero] * width, step)
            for j, total in enumerate(sums):
                v.store(total, out, add(out0, i64(j * v.w)))
            return context.get_dummy_value()

        return types.void(data, indices, first, stop, x, x0, ld, out, out0), codegen

    return row_sum


row_sum4, row_sum2, row_sum1 = _make_sum(4), _make_sum(2), _make_sum(1)


@intrinsic
def add_lanes(typingctx, out, at, values, start, factor):
    """out[at : at + LANES] += factor * values[start : start + LANES], as one vector.

    Written as vector instructions because the compiler cannot do it by itself: it has to
    assume that out and values overlap.
    """
    if not (isinstance(out, types.Array) and out == values and out.ndim == 1):
        return None
    signature = types.void(out, types.uintp, values, types.uintp, out.dtype)

    def codegen(context, builder, sig, args):
        scalar = context.get_value_type(sig.args[0].dtype)
        vector = ir.VectorType(scalar, LANES)
        align = sig.args[0].dtype.bitwidth // 8

        def pointer(position, offset):
            data = context.make_array(sig.args[position])(context, builder, args[position]).data
            return builder.bitcast(builder.gep(data, [args[offset]]), vector.as_pointer())

        target = pointer(0, 1)
        total = builder.load(target, align=align)
        term = builder.load(pointer(2, 3), align=align)
        undefined = ir.Constant(vector, ir.Undefined)
        zero = ir.Constant(ir.IntType(32), 0)
        spread = builder.insert_element(undefined, args[4], zero)
        lanes = ir.Constant(ir.VectorType(ir.IntType(32), LANES), None)
        spread = builder.shuffle_vector(spread, undefined, lanes)
        total = builder.fadd(total, builder.fmul(spread, term))
        builder.store(total, target, align=align)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def trailing_zeros(typingctx, word):
    """The place of the lowest bit that is set, 0 to 63; the word must not be 0."""

    def codegen(context, builder, signature, args):
        return builder.cttz(args[0], ir.IntType(1)(1))

    return types.int64(types.uint64), codegen


@intrinsic
def ones(typingctx, word):
    """How many bits are set."""

    def codegen(context, builder, signature, args):
        return builder.ctpop(args[0])

    return types.int64(types.uint64), codegen


# ---- blocks of small dense systems ------------------------------------------


def _make_tile(mr, nv, chains=1):
    """A tile of mr rows and nv vectors. With chains=2 even and odd terms are summed apart, which hides
    the latency of few sums; count must then be even."""

    @intrinsic
    def tile(typingctx, s, a, lda, b, ldb, count, c, ldc, comp, mode):
        def codegen(context, builder, signature, args):
            v, (s, a, lda, b, ldb, count, c, ldc, comp, mode) = unpack(context, builder, signature, args)
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
            sums = loop(builder, builder.sdiv(count, i64(chains)), [v.zero] * (chains * n_sums), step)
            if chains == 2:
                sums = [builder.fadd(x, y) for x, y in zip(sums[:n_sums], sums[n_sums:], strict=True)]
            places = [
                (sums[i * nv + j], add(mul(i64(i), ldc), i64(j * v.w))) for i in range(mr) for j in range(nv)
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


tile3, tile2, tile1 = _make_tile(MR, 3), _make_tile(MR, 2), _make_tile(MR, 1)
pair4, pair1 = _make_tile(2, 4), _make_tile(2, 1)
line4, line1 = _make_tile(1, 4, 2), _make_tile(1, 1, 2)


@intrinsic
def panel(typingctx, m, at, ld, n_right, multipliers, transposed, scale):
    """Eliminate W rows of an upper triangle; 1 when every pivot is positive.

    The block on the diagonal starts at `at`; `n_right` blocks lie to its right. It is
    factored as M' D M with M unit upper triangular, which keeps square roots out of
    the chain of dependent steps; the rows to the right are then scaled by D^-1/2.
    """

    def codegen(context, builder, signature, args):
        v, (m, at, ld, n_right, multipliers, transposed, scale) = unpack(context, builder, signature, args)
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

        loop(builder, n_right, [], right)
        return builder.zext(ok, ir.IntType(64))

    return types.int64(m, at, ld, n_right, multipliers, transposed, scale), codegen


@intrinsic
def back(typingctx, m, at, ld, n_right, transposed, scale, x):
    """Solve for W unknowns of a factored system whose later unknowns are in x already.

    The right-hand side is the last block of columns; x there is (-1, 0, ...), so that
    one sum over all blocks gives what is known minus the right-hand side.
    """

    def codegen(context, builder, signature, args):
        v, (m, at, ld, n_right, transposed, scale, x) = unpack(context, builder, signature, args)
        add, mul, i64, w = builder.add, builder.mul, at.type, v.w
        row_at = [add(at, mul(i64(t), ld)) for t in range(w)]

        def right(block, sums):
            shift = mul(add(block, i64(1)), i64(w))
            known = v.load(m, add(x, shift))
            return [v.fma(v.load(m, add(row_at[t], shift)), known, sums[t]) for t in range(w)]

        total = v.sums(loop(builder, n_right, [v.zero] * w, right))
        solved = builder.fneg(builder.fmul(total, v.load(m, scale)))
        for j in range(w - 1, 0, -1):
            column = v.load(m, add(transposed, i64(j * w)))
            solved = v.fnma(v.splat_lane(solved, j), column, solved)
        v.store(solved, m, x)
        return context.get_dummy_value()

    return types.void(m, at, ld, n_right, transposed, scale, x), codegen


@intrinsic
def errors(typingctx, a, block, ld, n_groups, n_vectors, x, bias, target, out):
    """a[out:] = target - bias - block @ x for n_groups * W rows of the block, all of them in a."""

    def codegen(context, builder, signature, args):
        v, values = unpack(context, builder, signature, args)
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

            total = v.sums(loop(builder, n_vectors, [v.zero] * w, part))
            error = builder.fsub(builder.fsub(v.load(a, add(target, first)), bias), total)
            v.store(error, a, add(out, first))
            return []

        loop(builder, n_groups, [], group)
        return context.get_dummy_value()

    return types.void(a, block, ld, n_groups, n_vectors, x, bias, target, out), codegen


@intrinsic
def transpose(typingctx, s, a, lda, b, ldb):
    """b = a' for one W x W block."""

    def codegen(context, builder, signature, args):
        v, (s, a, lda, b, ldb) = unpack(context, builder, signature, args)
        add, mul, i64 = builder.add, builder.mul, a.type
        rows = [v.load(s, add(a, mul(i64(t), lda))) for t in range(v.w)]
        for t, row in enumerate(v.transpose(rows)):
            v.store(row, s, add(b, mul(i64(t), ldb)))
        return context.get_dummy_value()

    return types.void(s, a, lda, b, ldb), codegen
