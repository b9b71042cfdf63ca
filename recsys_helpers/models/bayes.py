"""Bayesian matrix factorization: draws from the posterior in place of one best fit."""

from __future__ import annotations

import copy

import numpy as np
import pandas as pd
from scipy.linalg import cholesky, solve_triangular
from scipy.sparse import csr_array, issparse
from scipy.special import ndtri
from threadpoolctl import threadpool_limits

from ..checks import check_choice, choice, either, flag, number, optional, seed, whole
from ..data.items import check_genres, genre_shares
from ..kernels import spans
from ..kernels.bayes import average_pairs
from .base import Recommender
from .documented import documented
from .factors import _read_only
from .gibbs import Chain, group_of, shares_of_sets
from .newcomer import NewUser
from .training import Loop

BY = ("mean", "upper", "thompson")
# Draws that are kept by default, and the bytes that they may take.
MOST_DRAWS, FEWEST_DRAWS, DRAWS_BYTES = 200, 10, 5e8
# Pairs times draws in one piece of work for a thread.
PIECE = 1e5


@documented
class BayesianMF(Recommender):
    r"""Biases and taste, :math:`\hat r_{ui} = \mu + b_u + b_i + p_u \cdot q_i`, averaged over the posterior.

    Ratings are normal around :math:`\hat r_{ui}`. The vectors :math:`(p_u, b_u)` and :math:`(q_i, b_i)` are
    normal around a mean, whose place and spread are unknown as well and have normal-Wishart priors; so has
    the noise its own (Salakhutdinov and Mnih 2008, with biases). Rows with about as many ratings share how
    tightly they are held to the mean. There is no penalty to tune: what alternating least squares needs as
    :math:`\lambda` is drawn along. A Gibbs sampler draws users, items and their distributions in turn, and a
    prediction is the average over the draws that were kept.

    With `sets`, a person's mean moves with the set of items rated, and an item's with the set of
    people who rated it: that somebody watched a film says something, whatever the rating
    (Koren 2008; Bayesian in Rendle, Zhang and Koren 2019). Genres and features of the reader's own
    enter in the same way, by a linear map that is drawn along (as in Macau, Simm et al. 2017). Sets
    are those of the training ratings.

    Parameters
    ----------
    n_factors : int
        Rank k, at least 1.
    sets : bool
        Learn from who rated what, too.
    genres : bool
        Use the column genres of the training data's movies.
    n_sweeps : int
        Sweeps in all; each draws everything once.
    n_burn_in : int
        How many of them to leave out at the beginning, less than `n_sweeps`.
    n_draws : int or "auto"
        How many of the others to keep, evenly spaced; at most all. "auto": 200, or as many as take half a
        gigabyte, but no fewer than 10.
    dtype : {"float32", "float64"}
        Of factors and arithmetic.
    {n_threads}
    {random_state}
    {verbose}

    Attributes
    ----------
    mean_, scale_ : float
        Mean and standard deviation of the training ratings. The draws are in units of the latter.
    user_draws_, item_draws_ : ndarray, shape (d, m + 1, k) and (d, n + 1, k)
        Factors in each draw that was kept. The last row is the mean of all, which stands in for somebody
        unknown.
    user_bias_draws_, item_bias_draws_ : ndarray, shape (d, m + 1) and (d, n + 1)
    user_root_, item_root_ : ndarray, shape (d, k, k)
        Cholesky factor of the precision of the factors around their means; `user_bias_precision_` and
        `item_bias_precision_`, shape (d,), are those of the biases.
    user_tightness_, item_tightness_ : ndarray, shape (d, groups)
        By what the precisions are multiplied for rows with 1, 2 to 3, 4 to 7, ... ratings.
    user_coefficients_ : ndarray, shape (d, f, k + 1)
        What users' features (first the set of items, where used) say of factors and bias.
    noise_ : ndarray, shape (d,)
        Standard deviation of a rating around its prediction, in the unit of the ratings.
    history_ : DataFrame
        One row a sweep: objective (the squared errors of this draw, summed, in units of the ratings'
        variance), train_rmse, validation_rmse (of the average so far; NaN where no draw was kept, or without
        validation ratings), noise, seconds.

    Notes
    -----
    A sweep costs as much as one of alternating least squares, about 2 nnz k (k + 1) + (m + n) k^3 / 3
    operations, and a random number for each that is drawn; sets add about 16 nnz k. Memory of d draws:
    4 d (k + 1) (m + n) bytes in float32, with sets 4 d (k + 1) (m + 2 n).

    An unknown user or item is taken for the average one, in every draw; its own part is uncertain as far as
    the draw's distribution of users or items says.
    """

    _parameters = {
        "n_factors": whole(),
        "sets": flag,
        "genres": flag,
        "n_sweeps": whole(),
        "n_burn_in": whole(0),
        "n_draws": either("auto", whole()),
        "dtype": choice("float32", "float64"),
        "n_threads": optional(whole()),
        "random_state": seed,
        "verbose": flag,
    }

    def __init__(
        self,
        n_factors=16,
        *,
        sets=True,
        genres=False,
        n_sweeps=250,
        n_burn_in=50,
        n_draws="auto",
        dtype="float32",
        n_threads=None,
        random_state=0,
        verbose=True,
    ):
        self.n_factors = n_factors
        self.sets = sets
        self.genres = genres
        self.n_sweeps = n_sweeps
        self.n_burn_in = n_burn_in
        self.n_draws = n_draws
        self.dtype = dtype
        self.n_threads = n_threads
        self.random_state = random_state
        self.verbose = verbose

    # ---- fitting --------------------------------------------------------------

    def _fit(self, ratings, validation, *, user_features=None, item_features=None, checkpoint=None):
        if self.n_burn_in >= self.n_sweeps:
            raise ValueError(f"n_burn_in: got {self.n_burn_in}; expected less than n_sweeps={self.n_sweeps}")
        if self.genres:
            check_genres(ratings)
        users = [_features("user_features", user_features, ratings.user_ids)]
        items = [_features("item_features", item_features, ratings.item_ids)]
        if self.genres:
            items.insert(0, genre_shares(ratings)[1])
        if self.sets:
            users.insert(0, shares_of_sets(ratings.by_user))
            items.insert(0, shares_of_sets(ratings.by_item))
        users, items = ([block for block in side if block is not None] for side in (users, items))
        rng = np.random.default_rng(self.random_state)
        chain = Chain(ratings, self.n_factors, users, items, rng, self.dtype, self.n_threads)
        self._watch(chain, _Kept(self, chain), ratings, validation, checkpoint, rng)

    def _watch(self, chain, kept, ratings, validation, checkpoint, rng):
        """All sweeps of the chain, and the average over those that are kept."""
        state = {f"chain_{name}": x for name, x in chain.state().items()} | kept.arrays
        if validation is not None:
            state |= {"held_sum": np.zeros(len(validation))}
            pairs, values = self._pair_codes(validation), validation.values.astype(np.float64)

        def put(found):
            for name, array in found.items():
                state[name][...] = array

        loop = Loop(
            self, "sweep", self.n_sweeps, get=lambda: state, put=put, draws=True, checkpoint=checkpoint,
            rng=rng, advice="use dtype='float64'",
        )  # fmt: skip
        # The matrices of a sweep are small: threads of BLAS would wait for one another.
        with threadpool_limits(1, user_api="blas"), loop:
            for sweep in loop:
                chain.sweep()
                told = {}
                if sweep in kept.at:
                    kept.keep(sweep)
                    if validation is not None:
                        state["held_sum"] += kept.predict(sweep, *pairs)
                        error = state["held_sum"] / (kept.at[sweep] + 1) - values
                        told["validation_rmse"] = np.sqrt(np.mean(error**2))
                rmse = chain.scale * np.sqrt(chain.squared / len(ratings))
                noise = chain.scale * chain.noise[0]
                loop.report(objective=chain.squared, train_rmse=rmse, **told, noise=noise)
        self.mean_, self.scale_ = chain.mean, chain.scale
        for name, array in kept.arrays.items():
            setattr(self, f"{name}_", array)
        self.noise_ = self.noise_ * self.scale_

    # ---- predicting -----------------------------------------------------------

    def predict(self, ratings, *, return_std=False):
        """Predict the rating of each row.

        Parameters
        ----------
        ratings : Ratings or table
            As in `Recommender.predict`.
        return_std : bool
            Also how sure that is: the standard deviation of a rating, its noise included.

        Returns
        -------
        ndarray of float64, shape (len(ratings),), or two of them
            Mean, and standard deviation, of the rating under the posterior. Not clipped to the rating scale.
        """
        if not return_std:
            return super().predict(ratings)
        self._check_fitted()
        mean, variance = self._moments(*self._pair_codes(ratings))
        return mean, np.sqrt(variance + np.mean(self.noise_**2))

    def predict_interval(self, ratings, level=0.9):
        """An interval for each row that should hold the rating with a given probability.

        Parameters
        ----------
        ratings : Ratings or table
        level : float
            Between 0 and 1, both excluded.

        Returns
        -------
        ndarray of float64, shape (len(ratings), 2)
            Lower and upper end: mean and standard deviation as `predict` gives them, taken as normal.
        """
        number(above=0, below=1)("level", level)
        mean, std = self.predict(ratings, return_std=True)
        reach = ndtri(0.5 + level / 2) * std
        return np.column_stack([mean - reach, mean + reach])

    def draws(self, ratings):
        """The prediction of each row in each draw, for a look at the chain.

        Parameters
        ----------
        ratings : Ratings or table

        Returns
        -------
        ndarray of float64, shape (d, len(ratings))
            In the order in which they were drawn.
        """
        self._check_fitted()
        users, items = self._pair_codes(ratings)
        out = np.einsum(
            "dpk,dpk->dp", self.user_draws_[:, users], self.item_draws_[:, items], dtype=np.float64
        )
        out += self.user_bias_draws_[:, users] + self.item_bias_draws_[:, items]
        return self.mean_ + self.scale_ * out

    def _predict_codes(self, users, items):
        return self._average(users, items)[0]

    def _average(self, users, items):
        """Mean and variance of the draws' predictions."""
        users, items = (_read_only(np.ascontiguousarray(x, np.int32)) for x in (users, items))
        mean, variance = np.empty(len(users)), np.empty(len(users))
        arrays = [
            _read_only(x)
            for x in (self.user_draws_, self.user_bias_draws_, self.item_draws_, self.item_bias_draws_)
        ]

        def work(first, stop):
            average_pairs(first, stop, users, items, *arrays, mean, variance)

        spans.run(work, spans.cut(np.full(len(users), len(self.noise_)), PIECE), self.n_threads)
        return self.mean_ + self.scale_ * mean, self.scale_**2 * variance

    def _moments(self, users, items):
        """Mean and variance of what is expected of each pair, the noise of a rating left out."""
        mean, variance = self._average(users, items)
        new = self._untaught(users, self.train_.user_counts), self._untaught(items, self.train_.item_counts)
        some = np.flatnonzero(new[0] | new[1])
        if len(some):
            new = new[0][some], new[1][some]
            for d in range(len(self.noise_)):
                p, q = self.user_draws_[d, users[some]], self.item_draws_[d, items[some]]
                variance[some] += self.scale_**2 / len(self.noise_) * self._prior_variance(d, p, q, *new)
        return mean, variance

    def _untaught(self, codes, counts):
        """Which codes have no ratings: their rows in a draw are means, not draws."""
        return (codes < 0) | (counts[codes] == 0)

    def _prior_variance(self, d, p, q, new_users, new_items):
        """What is not known of a pair of which one or both have no ratings, in draw d."""
        tight = self.user_tightness_[d, 0], self.item_tightness_[d, 0]
        roots = self.user_root_[d], self.item_root_[d]
        spread = [np.linalg.inv(root).T / np.sqrt(t) for root, t in zip(roots, tight, strict=True)]
        precisions = self.user_bias_precision_[d], self.item_bias_precision_[d]
        bias = [1 / (t * precision) for precision, t in zip(precisions, tight, strict=True)]
        out = np.where(new_users, np.square(q @ spread[0]).sum(axis=-1) + bias[0], 0.0)
        out += np.where(new_items, np.square(p @ spread[1]).sum(axis=-1) + bias[1], 0.0)
        both = np.square(spread[0].T @ spread[1]).sum()
        return out + np.where(new_users & new_items, both, 0.0)

    # ---- ranking --------------------------------------------------------------

    def recommend(self, user=None, n=10, *, by="mean", level=0.9, random_state=None, **options):
        """The n items with the highest scores, as `Recommender.recommend`, under uncertainty.

        Parameters
        ----------
        user, n, **options
            As there.
        by : {"mean", "upper", "thompson"}
            Rank by the expected rating; by a quantile of it, which favors what little is known of; or by one
            draw from the posterior for each user (Thompson 1933), so that an item comes first as often as it
            is likely to be the best.
        level : float
            The quantile of "upper", between 0 and 1.
        random_state : int or numpy.random.Generator, optional
            Of the draws of "thompson".

        Returns
        -------
        DataFrame
        """
        return self._ranking(by, level, random_state)._recommend(user, n, options)

    def _recommend(self, user, n, options):
        return super().recommend(user, n, **options)

    def _ranking(self, by, level, random_state):
        """This model, its scores those of a way to rank."""
        check_choice("by", by, BY)
        number(above=0, below=1)("level", level)
        twin = copy.copy(self)
        twin._by = by, ndtri(level), np.random.default_rng(random_state)
        return twin

    def _score_block(self, users):
        new = self.train_.user_counts[users] == 0
        return self._ranked(self.user_draws_[:, users], self.user_bias_draws_[:, users], new)

    def _score_nobody(self):
        return self._ranked(self.user_draws_[:, -1:], self.user_bias_draws_[:, -1:], np.ones(1, bool))[0]

    def _ranked(self, p, bias, new, roots=None):
        """Scores of all items for rows of factors, shape (d, l, k): by mean, quantile or draw."""
        by, z, rng = getattr(self, "_by", ("mean", 0.0, None))
        if by == "mean":
            return self._over_draws(p, bias)[0]
        if by == "thompson":
            rows = range(p.shape[1])
            return np.stack([self._one_draw(rng, p[:, r], bias[:, r], new[r], roots) for r in rows])
        mean, variance = self._over_draws(p, bias, new=new, roots=roots)
        return mean + z * np.sqrt(variance)

    def _over_draws(self, p, bias, *, new=None, roots=None):
        """Mean and variance of the scores over the draws; the variance of rows only where asked for."""
        total = square = 0.0
        for d in range(len(self.noise_)):
            score = self._scores_of(d, p[d], bias[d])
            total = total + score
            if new is not None:
                square = square + score * score + self._row_variance(d, p[d], new, roots)
        mean, draws = total / len(self.noise_), len(self.noise_)
        variance = np.maximum(square / draws - mean * mean, 0.0)
        return self.mean_ + self.scale_ * mean, self.scale_**2 * variance

    def _scores_of(self, d, p, bias):
        return (
            (p.astype(self.dtype) @ self.item_draws_[d, :-1].T).astype(np.float64)
            + self.item_bias_draws_[d, :-1]
            + np.asarray(bias, np.float64)[:, None]
        )

    def _row_variance(self, d, p, new, roots):
        """Variance of each score beyond that of the draws, shape (l, n)."""
        q = self.item_draws_[d, :-1]
        if roots is not None:
            x = np.column_stack([q, np.ones(len(q))])
            own = np.square(solve_triangular(roots[d], x.T, lower=True)).sum(axis=0)[None]
            new = np.zeros(len(p), bool)
        else:
            own = 0.0
        rare = self.train_.item_counts == 0
        return own + self._prior_variance(d, p[:, None], q[None], new[:, None], rare[None])

    def _one_draw(self, rng, p, bias, new, roots):
        """Scores of all items in one possible world: the person's vector is the same for all of them."""
        d, k = rng.integers(len(self.noise_)), self.n_factors
        row, z = np.append(p[d], bias[d]).astype(np.float64), rng.standard_normal(k + 1)
        if roots is not None:
            row += solve_triangular(roots[d], z, lower=True, trans="T")
        elif new:
            tight = np.sqrt(self.user_tightness_[d, 0])
            row[:k] += solve_triangular(self.user_root_[d], z[:k], lower=True, trans="T") / tight
            row[k] += z[k] / np.sqrt(self.user_bias_precision_[d]) / tight
        score = self._scores_of(d, row[None, :k], row[k:])[0]
        rare = np.flatnonzero(self.train_.item_counts == 0)
        spread = self._prior_variance(d, row[None, :k], self.item_draws_[d, rare], False, True)
        score[rare] += np.sqrt(spread) * rng.standard_normal(len(rare))
        return self.mean_ + self.scale_ * score

    def _similarities(self, item):
        """Cosine of the factors within each draw, averaged: a rotation of all factors changes nothing."""
        total = np.zeros(self.train_.n_items)
        for factors in self.item_draws_[:, :-1].astype(np.float64):
            length = np.linalg.norm(factors, axis=1)
            total += factors @ factors[item] / np.maximum(length * length[item], 1e-300)
        return total / len(self.noise_)

    # ---- newcomers --------------------------------------------------------------

    def fold_in(self, ratings):
        """As `Recommender.fold_in`; the newcomer knows how sure it is.

        Returns
        -------
        BayesianNewUser
        """
        found = super().fold_in(ratings)
        found.__class__ = BayesianNewUser
        return found

    def _fold_in(self, codes, values):
        x, target, prior, roots = self._row_systems(codes, values)
        rows = prior + np.stack([
            solve_triangular(root, solve_triangular(root, a.T @ t, lower=True), lower=True, trans="T")
            for a, t, root in zip(x, target, roots, strict=True)
        ])  # fmt: skip
        roots = roots / (self.noise_ / self.scale_)[:, None, None]
        bias = float(self.scale_ * rows[:, -1].mean())
        return {"factors": rows[:, :-1], "bias": bias, "biases": rows[:, -1], "roots": roots}

    def _row_systems(self, codes, values):
        """Design, target, prior mean and Cholesky factor of a row's regression, for each draw."""
        draws, k = len(self.noise_), self.n_factors
        x = np.ones((draws, len(codes), k + 1))
        x[:, :, :k] = self.item_draws_[:, codes]
        prior = np.column_stack([self.user_draws_[:, -1], self.user_bias_draws_[:, -1]]).astype(np.float64)
        if self.sets:
            prior += self.user_coefficients_[:, codes].sum(axis=1) / np.sqrt(len(codes))
        target = (values.astype(np.float64) - self.mean_) / self.scale_ - self.item_bias_draws_[:, codes]
        target = target - np.einsum("dlk,dk->dl", x, prior)
        group = min(group_of(len(codes)), self.user_tightness_.shape[1] - 1)
        noise = (self.noise_ / self.scale_) ** 2 * self.user_tightness_[:, group]
        systems = np.swapaxes(x, 1, 2) @ x
        systems[:, :k, :k] += noise[:, None, None] * (self.user_root_ @ np.swapaxes(self.user_root_, 1, 2))
        systems[:, k, k] += noise * self.user_bias_precision_
        return x, target, prior, np.stack([cholesky(system, lower=True) for system in systems])

    def _newcomer_scores(self, newcomer):
        rows = newcomer.factors[:, None], newcomer.biases[:, None]
        return self._ranked(*rows, np.zeros(1, bool), newcomer.roots)[0]

    def _newcomer_predictions(self, newcomer):
        return self._over_draws(newcomer.factors[:, None], newcomer.biases[:, None])[0][0]

    def _newcomer_fallback(self, newcomer):
        """For an unknown item: the average item, in every draw."""
        score = np.einsum("dk,dk->d", newcomer.factors, self.item_draws_[:, -1]) + newcomer.biases
        return float(self.mean_ + self.scale_ * np.mean(score + self.item_bias_draws_[:, -1]))

    def _explain(self, codes, values, item, *, user=None, newcomer=None):
        x, target, _, roots = self._row_systems(codes, values)
        own = np.column_stack([self.item_draws_[:, item], np.ones(len(self.noise_))]).astype(np.float64)
        weight = np.stack([
            a @ solve_triangular(root, solve_triangular(root, o, lower=True), lower=True, trans="T")
            for a, root, o in zip(x, roots, own, strict=True)
        ])  # fmt: skip
        parts = self.scale_ * (weight * target).mean(axis=0)
        deviation = self.scale_ * target.mean(axis=0)
        prediction = self._prediction_of(item, user, newcomer)
        return self._reasons(
            codes, values, parts, prediction - parts.sum(), deviation=deviation, weight=weight.mean(axis=0)
        )


class BayesianNewUser(NewUser):
    """A newcomer to a `BayesianMF`, with all that is not known of the person.

    Attributes
    ----------
    factors, biases : ndarray, shape (d, k) and (d,)
        Means given the ratings, in each draw of the items.
    """

    def predict(self, items, *, return_std=False):
        """Predict this person's ratings; with `return_std` also the standard deviation of a rating.

        Parameters
        ----------
        items : id or array-like of ids
            An unknown item gets the model's fallback for it.
        return_std : bool

        Returns
        -------
        ndarray of float64, shape (number of items,), or two of them
            The standard deviation includes the noise of a rating; NaN for an unknown item.
        """
        if not return_std:
            return super().predict(items)
        model = self._model
        codes = model.train_.encode_items(items)
        rows = self.factors[:, None], self.biases[:, None]
        _, variance = model._over_draws(*rows, new=np.zeros(1, bool), roots=self.roots)
        std = np.sqrt(variance[0] + np.mean(model.noise_**2))
        return super().predict(items), np.where(codes >= 0, std[codes], np.nan)

    def recommend(self, n=10, *, by="mean", level=0.9, random_state=None, **options):
        """The n items with the highest scores, as `BayesianMF.recommend`."""
        twin = copy.copy(self)
        twin._model = self._model._ranking(by, level, random_state)
        return NewUser.recommend(twin, n, **options)


class _Kept:
    """Room for the draws that are kept."""

    def __init__(self, model, chain):
        k, dtype, last = model.n_factors, np.dtype(model.dtype), model.n_sweeps - model.n_burn_in
        wanted = model.n_draws
        if wanted == "auto":
            rows = len(chain.users.rated) + len(chain.items.rated) + len(chain.users.coefficients)
            fit = int(DRAWS_BYTES // (rows * (k + 1) * dtype.itemsize))
            wanted = min(MOST_DRAWS, max(FEWEST_DRAWS, fit))
        chosen = np.unique(np.linspace(model.n_sweeps, model.n_burn_in + 1, min(wanted, last)).round())
        self.at = {int(sweep): place for place, sweep in enumerate(chosen)}
        draws = len(chosen)
        self.chain, self.arrays = chain, {"noise": np.zeros(draws)}
        for name, side in (("user", chain.users), ("item", chain.items)):
            rows = len(side.rated) + 1
            self.arrays |= {
                f"{name}_draws": np.zeros((draws, rows, k), dtype),
                f"{name}_bias_draws": np.zeros((draws, rows), dtype),
                f"{name}_root": np.zeros((draws, k, k)),
                f"{name}_bias_precision": np.zeros(draws),
                f"{name}_tightness": np.zeros((draws, len(side.tightness))),
            }
        self.arrays["user_coefficients"] = np.zeros((draws, len(chain.users.coefficients), k + 1), dtype)

    def keep(self, sweep):
        at, arrays, chain = self.at[sweep], self.arrays, self.chain
        arrays["noise"][at] = chain.noise[0]
        arrays["user_coefficients"][at] = chain.users.coefficients
        for name, side in (("user", chain.users), ("item", chain.items)):
            factors, bias = (arrays[f"{name}_{part}"][at] for part in ("draws", "bias_draws"))
            factors[:-1], factors[-1] = side.factors, side.mean[:-1]
            bias[:-1], bias[-1] = side.bias, side.mean[-1]
            arrays[f"{name}_tightness"][at], arrays[f"{name}_root"][at] = side.tightness, side.root
            arrays[f"{name}_bias_precision"][at] = side.bias_precision[0]

    def predict(self, sweep, users, items):
        """Predictions of the draw that was kept last."""
        at, chain = self.at[sweep], self.chain
        p, b, q, c = (
            self.arrays[name][at]
            for name in ("user_draws", "user_bias_draws", "item_draws", "item_bias_draws")
        )
        out = np.einsum("pk,pk->p", p[users], q[items], dtype=np.float64) + b[users] + c[items]
        return chain.mean + chain.scale * out


def _features(name, table, ids):
    """Features as a sparse matrix whose rows are aligned with ids, or None."""
    if table is None:
        return None
    if isinstance(table, pd.DataFrame):
        if table.index.has_duplicates:
            raise ValueError(f"{name}: got an id twice in the index; expected one row for each id")
        if not (table.dtypes.map(pd.api.types.is_numeric_dtype)).all():
            raise ValueError(f"{name}: got columns that are no numbers; expected numbers, such as 0 and 1")
        missing = pd.Index(ids).difference(table.index)
        if len(missing) == len(ids):
            raise ValueError(f"{name}: got an index without any id of the ratings; expected their ids")
        table = table.reindex(ids).to_numpy(dtype=np.float64, copy=True)
        table[np.isin(np.asarray(ids), np.asarray(missing))] = 0.0
    matrix = csr_array(table) if issparse(table) else csr_array(np.asarray(table, dtype=np.float64))
    if matrix.shape[0] != len(ids):
        raise ValueError(
            f"{name}: got {matrix.shape[0]} rows; expected {len(ids)}, one for each id of the ratings"
        )
    if not np.isfinite(matrix.data).all():
        raise ValueError(f"{name}: got values that are not finite; expected numbers")
    return matrix
