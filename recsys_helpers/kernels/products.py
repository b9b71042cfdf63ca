"""A sparse matrix times a thin dense one: the work of a truncated SVD.

Row r of the product is the sum of x[indices[t]] * data[t] over the row's entries. Each entry
asks for one row of x, somewhere in memory, and that is what takes the time: the sums of a row
stay in registers, four vectors at a time, so that nothing waits for anything but these loads;
and all rows take their first four before any takes the next, since four vectors of every row of x
may fit the cache where whole rows do not.
Rows are independent and each is summed in order, so the result has the same bits whatever the
number of threads.
"""

import numpy as np
from numba import njit, types
from numba.extending import intrinsic

from .als import _loop, _unpack


def _make_sum(width):
    @intrinsic
    def row_sum(typingctx, data, indices, first, stop, x, x0, ld, out, out0):
        """out[out0:] = sum of data[t] * x[x0 + indices[t] * ld:], `width` vectors of it."""

        def codegen(context, builder, signature, args):
            v, values = _unpack(context, builder, signature, args)
            data, indices, first, stop, x, x0, ld, out, out0 = values
            add, mul, i64 = builder.add, builder.mul, first.type

            def step(t, sums):
                at = add(first, t)
                row = builder.sext(builder.load(builder.gep(indices, [at])), i64)
                base = add(x0, mul(row, ld))
                left = v.splat_load(data, at)
                return [v.fma(left, v.load(x, add(base, i64(j * v.w))), sums[j]) for j in range(width)]

            sums = _loop(builder, builder.sub(stop, first), [v.zero] * width, step)
            for j, total in enumerate(sums):
                v.store(total, out, add(out0, i64(j * v.w)))
            return context.get_dummy_value()

        return types.void(data, indices, first, stop, x, x0, ld, out, out0), codegen

    return row_sum


_sum4, _sum2, _sum1 = _make_sum(4), _make_sum(2), _make_sum(1)


@njit(cache=True, nogil=True)
def multiply_rows(first, stop, indptr, indices, data, x, lanes, out):
    """out[first:stop] = (sparse @ x)[first:stop].

    Parameters
    ----------
    first, stop : int
        Span of rows.
    indptr, indices, data : ndarray
        CSR matrix; `indices` int32, `data` of the type of `x`.
    x, out : ndarray, shape (columns, ld) and (rows, ld)
        C-contiguous, ld a multiple of `lanes`.
    lanes : int
        Numbers in one vector.
    """
    ld = x.shape[1]
    part = 0
    while part < ld:
        left = (ld - part) // lanes
        width = 4 if left >= 4 else 2 if left >= 2 else 1
        for row in range(first, stop):
            start, end = np.int64(indptr[row]), np.int64(indptr[row + 1])
            if width == 4:
                _sum4(data, indices, start, end, x, part, ld, out, row * ld + part)
            elif width == 2:
                _sum2(data, indices, start, end, x, part, ld, out, row * ld + part)
            else:
                _sum1(data, indices, start, end, x, part, ld, out, row * ld + part)
        part += width * lanes
