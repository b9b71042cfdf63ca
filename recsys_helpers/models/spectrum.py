"""The spectral norm of a residual, bounded from above: what a certificate of optimality rests on."""

from __future__ import annotations

import numpy as np
from scipy.linalg import eigh, eigh_tridiagonal, eigvalsh_tridiagonal
from scipy.sparse import csr_array

# Chance that the upper bound on a spectral norm, with which a certificate is given, does not hold.
FAILURE = 1e-8
# Lanczos steps that the bound may take: at first, and after its leading vectors were set apart; and how
# many of them lie between two looks at it.
LANCZOS_STEPS, LOOK = (120, 300), 10
# New directions that are offered to the factors: those of squares of singular values above this share of
# lambda's, as together with the factors they may exceed it; and at most how many.
NEAR, NEW_DIRECTIONS = 0.98, 32
# How much larger than necessary the bound of a spectral norm may make the gap, close to the end and far off.
SLACK, FAR_SLACK = 0.1, 1.0


class Spectrum:
    """Upper and lower bounds of the residual's spectral norm, and its leading directions.

    Works with the Gram matrix of the sparse residual on its smaller side, of size N, never formed.
    """

    def __init__(self, problem, rng):
        self.problem, self.rng = problem, rng
        self.turned = problem.shape[1] > problem.shape[0]
        self.size = min(problem.shape)
        # Vectors are zero where a row has no ratings.
        self.rated = np.diff(problem.indptr if self.turned else problem.t_indptr)[:, None] > 0

    def _block(self, e, x):
        """(E'E) x for a thin x, and E x."""
        p = self.problem
        out, back = (p.times_transposed, p.times) if self.turned else (p.times, p.times_transposed)
        image = out(e, x)
        return back(e, image), image

    def leading(self, e, threshold, max_rank):
        """Singular triplets of E above a threshold, by randomized subspace iteration."""
        single, q = e.astype(np.float32), np.zeros((self.size, 0), np.float32)
        largest = min(self.size, max_rank)
        width = min(64, largest)
        while True:
            # One iteration finds the largest well and the others too small: leave ample room.
            more = self.rated * self.rng.standard_normal((self.size, width - q.shape[1]))
            q = np.linalg.qr(self._block(single, np.hstack([q, more.astype(np.float32)]))[0])[0]
            gram, image = self._block(single, q)
            squares, turn = eigh(image.T @ image)
            above = np.sum(squares > threshold**2)
            if above <= 0.75 * width or width == largest:
                break
            width = min(2 * width, largest)
        # Their number is about known now; two more iterations make those few exact.
        width = min(width, int(1.2 * above) + 8)
        q = np.linalg.qr(self._block(single, np.linalg.qr(gram @ turn[:, -width:])[0])[0])[0]
        # Orthonormal to the last digit, as the certificate takes the singular values at their word.
        q = np.linalg.qr(q.astype(np.float64))[0]
        w, s, zt = np.linalg.svd(self._block(e, q)[1], full_matrices=False)
        keep = s > threshold
        left, right = w[:, keep], (q @ zt.T)[:, keep]
        return (right, s[keep], left) if self.turned else (left, s[keep], right)

    def bounds(self, e, basis, tol, certify):
        """Bounds (low, high) of sigma(E), and directions beside `basis` to offer to the factors.

        `basis`, orthonormal of shape (N, r), spans the factors on the smaller side, and `certify` tells the
        certificate that follows from a bound. Lanczos iterations go on until its gap is at most tol, or until
        more of them could not make it much smaller. Where the norm outside the basis comes close to lambda,
        the leading vectors found there are set apart, and what remains is bounded again.
        """
        floor = self.problem.lam
        matrix = csr_array((e, self.problem.indices, self.problem.indptr), shape=self.problem.shape)
        if self.turned:
            matrix = matrix.T

        def enough(high, least):
            reached, possible = certify(high).gap, certify(least).gap
            return reached <= max(tol, possible * (1 + (SLACK if possible <= 4 * tol else FAR_SLACK)))

        span, new, high = basis, None, np.inf
        for steps in LANCZOS_STEPS:
            head = coupling = 0.0
            if span.shape[1]:
                coupled, image = self._block(e, span)
                head = _top_eigenvalue(image.T @ image)
                beside = coupled - span @ (span.T @ coupled)
                coupling = np.sqrt(_top_eigenvalue(beside.T @ beside))
            bound, least, values, vectors, last = self._lanczos(matrix, span, head, coupling, enough, steps)
            high = min(high, bound)
            if new is None:
                low = np.sqrt(max(head, values[0]))
                new = vectors[:, : min(int(np.sum(values > NEAR * floor**2)), NEW_DIRECTIONS)]
            if enough(high, least):
                break
            # A vector set apart lowers what remains; one that has not converged adds to the coupling.
            apart = [
                _two_by_two(
                    max(head, values[0]), np.hypot(coupling, np.linalg.norm(last[:count])), values[count]
                )
                for count in range(len(values) // 2)
            ]
            count = int(np.argmin(apart)) if apart else 0
            if count == 0:
                continue
            span = np.hstack([basis, orthonormal(vectors[:, :count], basis)])
        return low, high, new

    def _lanczos(self, matrix, span, head, coupling, enough, steps):
        """Bound the norm of E from outside the span, where its Gram matrix has the norm `head`.

        Returns the bound on the whole norm, what it would be if the Ritz values were exact, Ritz values
        (squares of singular values) and vectors outside the span, best first, and their residuals' norms.
        """
        room = int(self.rated.sum()) - span.shape[1]
        if room <= 0:
            least = np.sqrt(_two_by_two(head, coupling, 0.0))
            return least, least, np.zeros(1), np.zeros((self.size, 1)), np.zeros(1)
        steps = min(steps, room)
        # Each look that may end the iterations takes its share of the chance to be wrong.
        looks = sum(LANCZOS_STEPS) / LOOK
        log_chance = np.log(1.648 * np.sqrt(room) * looks / FAILURE)
        back = matrix.T
        x = self.rated[:, 0] * self.rng.standard_normal(self.size)
        x -= span @ (span.T @ x)
        x /= np.linalg.norm(x)
        found, alphas, betas = np.empty((steps, self.size)), [], []
        for j in range(steps):
            found[j] = x
            y = back @ (matrix @ x)
            alphas.append(float(x @ y))
            before = np.linalg.norm(y)
            for _ in range(2):
                y -= span @ (span.T @ y)
                y -= found[: j + 1].T @ (found[: j + 1] @ y)
                beta = float(np.linalg.norm(y))
                if beta > 0.1 * before:  # otherwise what is left has lost digits, and is cleaned again
                    break
            # A space without a way out, or all there is, holds no more than what was found.
            exhausted = j + 1 == room or beta <= 1e-14 * max(head, alphas[0])
            share = 0.0 if exhausted else (log_chance / (2 * j + 1)) ** 2
            if exhausted or j + 1 == steps or (share < 0.5 and (j + 1) % LOOK == 0):
                top = _tridiagonal_top(alphas, betas)
                least = np.sqrt(_two_by_two(head, coupling, top))
                high = np.sqrt(_two_by_two(head, coupling, top / (1 - share))) if share < 1 else np.inf
                if exhausted or j + 1 == steps or enough(high, least):
                    break
            betas.append(beta)
            x = y / beta
        values, w = eigh_tridiagonal(alphas, betas) if j else (np.array(alphas), np.ones((1, 1)))
        order = slice(None, None, -1)
        return high, least, values[order], found[: j + 1].T @ w[:, order], beta * np.abs(w[-1, order])


def _tridiagonal_top(diagonal, beside):
    if len(diagonal) == 1:
        return max(diagonal[0], 0.0)
    at = (len(diagonal) - 1,) * 2
    return max(float(eigvalsh_tridiagonal(diagonal, beside, select="i", select_range=at)[0]), 0.0)


def _top_eigenvalue(gram):
    last = len(gram) - 1
    return max(float(eigh(gram, eigvals_only=True, subset_by_index=(last, last))[0]), 0.0)


def _two_by_two(x, coupling, y):
    """Largest eigenvalue of the symmetric matrix with diagonal x, y and `coupling` beside it."""
    return (x + y) / 2 + np.hypot((x - y) / 2, coupling)


def orthonormal(x, basis):
    """Orthonormal columns that span x less its part in the basis."""
    for _ in range(2):
        x = np.linalg.qr(x - basis @ (basis.T @ x))[0]
    return x
