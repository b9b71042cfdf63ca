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

from .compiling import njit
from .vectors import row_sum1, row_sum2, row_sum4


@njit
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
                row_sum4(data, indices, start, end, x, part, ld, out, row * ld + part)
            elif width == 2:
                row_sum2(data, indices, start, end, x, part, ld, out, row * ld + part)
            else:
                row_sum1(data, indices, start, end, x, part, ld, out, row * ld + part)
        part += width * lanes
