r"""What to ask a newcomer next, and how far a predicted rating may be off.

The row of a newcomer is a ridge regression on item factors, and so the mean of a Gaussian posterior: with
noise of variance s^2 in each rating, the penalties are those of a prior with variances s^2 / reg and
s^2 / bias_reg. With x_i = (q_i, 1), the rows X of the rated items and

    A = X'X + diag(reg, ..., reg, bias_reg),

the rating of item i has the predictive variance s^2 (1 + x_i' A^-1 x_i). Which ratings were given decides
it; their values play no part.

A rating of item j more changes A by x_j x_j', and by the formula of Sherman and Morrison it takes

    s^2 x_j' A^-1 S A^-1 x_j / (1 + x_j' A^-1 x_j),    S = sum_i w_i x_i x_i' / sum_i w_i,

from the mean predictive variance of items that are met with weights w. To ask where this is largest is
Bayesian A-optimal design (Chaloner and Verdinelli 1995, Bayesian experimental design: a review, Statistical
Science 10), one question at a time. Two things are learned from the people of the training data besides:

- Who knows what. Many a question is answered by "not seen", which tells nothing of a taste, so the rule takes
  the chance that the person knows the item times the reduction. The chance comes from a second `BiasedALS`,
  of the table who has rated what, into which the answers "rated" (1) and "not seen" (0) are folded.
- In what tastes differ. The penalties hold all directions of taste alike. For the questions, and only for
  them, A begins with the inverse covariance of people's rows in place of the penalties. It is found by
  expectation maximization (Dempster, Laird and Rubin 1977, Maximum likelihood from incomplete data via the
  EM algorithm, Journal of the Royal Statistical Society B 39).
"""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
from sklearn.base import clone

from ..checks import check_choice, check_positive, check_positive_int
from ..data.ratings import Ratings
from ..models.als import BiasedALS

# The model of who has rated what, chosen on other people by the squared error of its chances.
KNOWING_SETTINGS = {"n_factors": 8, "reg": 2.0, "bias_reg": 2.0, "n_sweeps": 10, "tol": 0.0}
MOST_PEOPLE = 2000  # whose table of who has rated what is learned from, and who are held out in one fold
MOST_RATINGS = 1_000_000  # above, one fold of people is enough to estimate the noise
LEAST_CHANCE = 0.01  # the regression may say nought or less
EM_STEPS = 10
STRATEGIES = ("telling", "telling, plain", "popular", "random")


class Questions:
    """The questions to a newcomer: which item's rating would tell most.

    Parameters
    ----------
    model : BiasedALS
        Fitted, with penalties above 0.
    most : int
        Only the most rated items are asked about, this many: others are known to few.
    noise : float, optional
        Standard deviation s of a rating around a prediction from known factors; by default `estimate_noise`.
    learned : bool
        Learn from people who knows what, and in what tastes differ. False: the chance that a person knows an
        item is the share of all who rated it, and the prior is the one of the penalties.
    seed : int
        Of the people held out, and of those learned from where there are more than 2,000.

    Attributes
    ----------
    noise : float
        In units of the rating scale; NaN where it could not be estimated.
    items : ndarray of int, shape (N,)
        Codes of the items that may be asked about, the most rated first.
    knowing : BiasedALS or None
        Of the table of who has rated what, fitted; its items are the positions in `items`.
    prior : ndarray of float64, shape (k + 1, k + 1), or None
        Inverse covariance of people's rows, factors and bias, times the noise variance.

    Notes
    -----
    Learning who has rated what costs a fit to a full table of min(m, 2000) x N cells, learning in what tastes
    differ ten times O(l k^2 + k^3) for each of as many people. A question costs O(l k^2 + k^3 + N k^2), with
    l ratings and k factors.
    """

    def __init__(self, model, *, most=500, noise=None, learned=True, seed=0):
        _check_model(model)
        check_positive_int("most", most)
        self.model = model
        self.noise = estimate_noise(model, seed=seed) if noise is None else check_positive("noise", noise)
        train = model.train_
        self.items = np.argsort(-train.item_counts, kind="stable")[:most]
        self.knowing = _fit_knowing(train, self.items, seed) if learned else None
        self.prior = _learn_prior(model, seed) if learned else None
        self._x = _rows(model)
        self._candidates = self._x[self.items]
        weight = train.item_counts / max(train.item_counts.sum(), 1)
        self._met = (self._x * weight[:, None]).T @ self._x
        self._shares = train.item_counts[self.items] / max(np.count_nonzero(train.user_counts), 1)

    def deviations(self, rated=()):
        """The standard deviation of this person's rating of each item, noise included.

        Parameters
        ----------
        rated : array-like of ids
            The items that the person rated. What the ratings were does not matter.

        Returns
        -------
        ndarray of float64, shape (n,)
            Aligned with ``model.train_.item_ids``, in units of the rating scale.

        Notes
        -----
        O(l k^2 + k^3 + n k^2).
        """
        inverse = np.linalg.inv(_normal_matrix(self.model, self._x[self._codes(rated)]))
        return self.noise * np.sqrt(1 + np.einsum("ij,jk,ik->i", self._x, inverse, self._x))

    def reductions(self, rated=()):
        """How much a rating of each item in question would reduce the mean predictive variance.

        Parameters
        ----------
        rated : array-like of ids

        Returns
        -------
        ndarray of float64, shape (N,)
            Aligned with `items`, in multiples of the noise variance. The mean is over all items, each as
            often as it was rated in training.
        """
        return self._reductions(self._system(self._codes(rated)))

    def chances(self, rated=(), unseen=()):
        """How probable it is that the person knows each item in question.

        Parameters
        ----------
        rated, unseen : array-like of ids
            The items that the person rated, and those to which the answer was "not seen".

        Returns
        -------
        ndarray of float64, shape (N,)
            Aligned with `items`, from 0.01 to 1.
        """
        chances = self._shares
        if self.knowing is not None:
            seen, not_seen = (self._places(ids) for ids in (rated, unseen))
            chances = self.knowing.score_items()
            if len(seen) + len(not_seen):
                told = dict.fromkeys(not_seen.tolist(), 0.0) | dict.fromkeys(seen.tolist(), 1.0)
                chances = self.knowing.fold_in(told).score_items()
        return np.clip(chances, LEAST_CHANCE, 1.0)

    def ask(self, rated=(), unseen=(), n=1, *, exclude=()):
        """The items to ask about next.

        Parameters
        ----------
        rated, unseen : array-like of ids
            The items that the person rated, and those to which the answer was "not seen".
        n : int
            How many. The first is the one whose answer tells most; each further one tells most once those
            before it are answered.
        exclude : array-like of ids
            Not to be asked about for another reason.

        Returns
        -------
        ndarray of ids
            At most n, the best first; fewer when no more are left.
        """
        check_positive_int("n", n)
        system, chances = self._system(self._codes(rated)), self.chances(rated, unseen)
        left = ~np.isin(self.items, np.concatenate([self._codes(ids) for ids in (rated, unseen, exclude)]))
        chosen = []
        while len(chosen) < n and left.any():
            at = int(np.argmax(np.where(left, chances * self._reductions(system), -1.0)))
            chosen.append(at)
            left[at] = False
            system = system + np.outer(self._candidates[at], self._candidates[at])
        return self.model.train_.item_ids[self.items[chosen]]

    def _codes(self, ids):
        ids = np.asarray(ids)
        if ids.size == 0:
            return np.zeros(0, dtype=np.int64)
        codes = self.model.train_.encode_items(ids)
        return codes[codes >= 0]

    def _places(self, ids):
        """Positions in `items` of those of the given items that are there."""
        return np.flatnonzero(np.isin(self.items, self._codes(ids)))

    def _system(self, codes):
        x = self._x[codes]
        return _normal_matrix(self.model, x) if self.prior is None else x.T @ x + self.prior

    def _reductions(self, system):
        turned = np.linalg.solve(system, self._candidates.T).T
        explained = np.einsum("ij,jk,ik->i", turned, self._met, turned)
        return explained / (1 + np.einsum("ij,ij->i", turned, self._candidates))


def estimate_noise(model, *, known=10, n_folds=5, seed=0):
    """The noise of ratings, from people who were held out.

    The model is fitted again without a part of the people. Each of them is folded in from a few ratings, and
    the squared errors on the others, divided by 1 + x' A^-1 x, estimate the noise variance. That the factors
    of the items are known only roughly is in these errors, so the estimate is larger than the noise alone, as
    the intervals need it.

    Parameters
    ----------
    model : BiasedALS
        Fitted.
    known : int
        Ratings that each one tells, drawn at random; at most half of what the person has.
    n_folds : int
        Parts into which the people are cut. With more than a million ratings only the first is held out.
    seed : int

    Returns
    -------
    float
        The standard deviation, in units of the rating scale; each person counts once. NaN where there are no
        two people of whom one has two ratings.

    Notes
    -----
    As much work as n_folds fits, one above a million ratings.
    """
    return _noise_of(_held_out(model, known, n_folds, seed))


def coverage(model, *, known=10, levels=(1.0, 1.96), n_folds=5, seed=0):
    """How often the ratings of people held out lie within so many predictive deviations.

    Parameters
    ----------
    model : BiasedALS
        Fitted.
    known, n_folds, seed
        As in `estimate_noise`, with all folds. The noise that one fold is judged with comes from the others.
    levels : sequence of float
        Numbers of deviations.

    Returns
    -------
    DataFrame
        One row a person: the id, ratings (how many were judged), noise, and a column for each level, the
        share of the person's ratings within it. A Gaussian would have means of 0.68 and 0.95 for 1 and 1.96.
    """
    errors = _held_out(model, known, n_folds, seed, every_fold=True)
    parts = []
    for fold in errors["fold"].unique():
        noise = _noise_of(errors[errors["fold"] != fold])
        judged = errors[errors["fold"] == fold]
        within = {f"within {level:g}": judged["z"].abs() <= level * noise for level in levels}
        people = judged.assign(ratings=1, **within).groupby(judged.columns[0], sort=False)
        parts.append(people[list(within)].mean().assign(ratings=people.size(), noise=noise).reset_index())
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def simulate_questions(
    model, *, strategies=STRATEGIES, after=(0, 5, 10, 15), rated_only=False, most=500, test=0.25,
    n_folds=5, seed=0,
):  # fmt: skip
    """Ask people who were held out, and measure how well their other ratings are predicted.

    A model is fitted without a part of the people. A quarter of the ratings of each of them is set aside. A
    question about one of the rest is answered by the rating, any other question by "not seen", and counts all
    the same. After some numbers of questions the answers are folded in, and the ratings set aside predicted.

    Parameters
    ----------
    model : BiasedALS
        Fitted to the ratings that the people come from; it is cloned for each part.
    strategies : sequence of str
        "telling": `Questions.ask`. "telling, plain": the same with ``learned=False``. "popular": the most
        rated first. "random": any of the most rated.
    after : sequence of int
        Numbers of questions.
    rated_only : bool
        Ask only about items that the person rated: whether they are known plays no part, "telling" then takes
        the largest reduction.
    most : int
        Items that are asked about: the most rated of those who are not held out.
    test : float
        Share of each one's ratings that is set aside, between 0 and 1; at least one rating.
    n_folds : int
    seed : int
        Of the folds, of what is set aside, and of random questions.

    Returns
    -------
    DataFrame
        One row a person, strategy and number of questions: the id, model (the strategy), questions, answered,
        squared_error, ratings and protocol. Each person counts once: ratings is 1, squared_error the mean
        over what was set aside. `paired_differences` takes the rows of one number of questions.

    Notes
    -----
    O(people x max(after) x N k^2) for each strategy that looks for the most telling question.
    """
    for strategy in strategies:
        check_choice("strategies", strategy, STRATEGIES)
    train, rows = model.train_, []
    for _, people, fitted in _without_each_fold(model, n_folds, seed):
        asking = {way: Questions(fitted, most=most, noise=1.0, learned=way) for way in (True, False)}
        for person in people:
            codes, values = train.by_user[[person]].indices, train.by_user[[person]].data
            rng = np.random.default_rng([seed, person])
            order = rng.permutation(len(codes))
            n_test = min(max(1, round(test * len(codes))), len(codes) - 1)
            aside, rest = order[:n_test], order[n_test:]
            told = dict(zip(train.item_ids[codes[rest]].tolist(), values[rest].tolist(), strict=True))
            for strategy in strategies:
                log = _interview(asking[strategy == "telling"], strategy, told, after, rated_only, rng)
                for n, answers in log.items():
                    error = _predictions(fitted, answers)[codes[aside]] - values[aside]
                    squared = float(np.mean(error**2))
                    rows.append((train.user_ids[person], strategy, n, len(answers), squared))
    names = [train.user_name, "model", "questions", "answered", "squared_error"]
    return pd.DataFrame(rows, columns=names).assign(ratings=1, protocol="questions")


# ---- parts --------------------------------------------------------------------


def _check_model(model):
    if not isinstance(model, BiasedALS):
        raise TypeError(f"model: got {type(model).__name__}; expected a fitted BiasedALS")
    model.score_items()  # raises unless the model is fitted
    if not (model.reg_ > 0 and model.bias_reg_ > 0):
        raise ValueError(
            f"model: got penalties {model.reg_:g} and {model.bias_reg_:g}; expected both above 0, as without "
            "them a person of whom nothing is known has no finite variance"
        )


def _interview(asking, strategy, told, after, rated_only, rng):
    """The answers, a dict of rating by id, after each of some numbers of questions."""
    ids = asking.model.train_.item_ids[asking.items].tolist()
    allowed = [one for one in ids if one in told] if rated_only else ids
    if strategy == "random":
        allowed = [allowed[at] for at in rng.permutation(len(allowed))]
    answers, unseen, log = {}, [], {}
    for n in range(max(after) + 1):
        if n in after:
            log[n] = dict(answers)
        if n >= len(allowed):
            continue
        if strategy in ("popular", "random"):
            item = allowed[n]
        elif rated_only:
            left = np.array([one in told and one not in answers for one in ids])
            item = ids[int(np.argmax(np.where(left, asking.reductions(list(answers)), -1.0)))]
        else:
            item = asking.ask(list(answers), unseen)[0]
        if item in told:
            answers[item] = told[item]
        else:
            unseen.append(item)
    return log


def _predictions(model, answers):
    return model.fold_in(answers).score_items() if answers else model.score_items()


def _held_out(model, known, n_folds, seed, every_fold=False):
    """One row a held-out rating: the person's id, fold, and z, the error over sqrt(1 + x' A^-1 x)."""
    train, parts = model.train_, []
    check_positive_int("known", known)
    for fold, people, fitted in _without_each_fold(model, n_folds, seed):
        x = _rows(fitted)
        for person in people[:MOST_PEOPLE]:
            codes, values = train.by_user[[person]].indices, train.by_user[[person]].data
            order = np.random.default_rng([seed, person]).permutation(len(codes))
            cut = min(known, len(codes) // 2)
            told, asked = order[:cut], order[cut:]
            ids = train.item_ids[codes[told]].tolist()
            predicted = fitted.fold_in(dict(zip(ids, values[told].tolist(), strict=True))).score_items()
            turned = np.linalg.solve(_normal_matrix(fitted, x[codes[told]]), x[codes[asked]].T).T
            spread = np.sqrt(1 + np.einsum("ij,ij->i", turned, x[codes[asked]]))
            z = (values[asked] - predicted[codes[asked]]) / spread
            parts.append(pd.DataFrame({train.user_name: train.user_ids[person], "fold": fold, "z": z}))
        if len(train) > MOST_RATINGS and not every_fold:
            break
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["", "fold", "z"])


def _noise_of(errors):
    """Each person counts once."""
    return float(np.sqrt((errors["z"] ** 2).groupby(errors.iloc[:, 0]).mean().mean()))


def _without_each_fold(model, n_folds, seed):
    """(fold, codes of its people, the model fitted to the others), for people with two ratings or more."""
    _check_model(model)
    check_positive_int("n_folds", n_folds, minimum=2)
    train = model.train_
    able = np.random.default_rng(seed).permutation(np.flatnonzero(train.user_counts >= 2))
    # The penalties that the model found for all stand in for a search in each part.
    found = {"reg": model.reg_, "bias_reg": model.bias_reg_, "genre_reg": model.genre_reg_}
    for fold, people in enumerate(np.array_split(able, max(min(n_folds, len(able)), 1))):
        part = train[~np.isin(train.user_codes, people)]
        if len(part) and len(people):
            yield fold, people, _fit_quietly(clone(model).set_params(**found), part)


def _fit_knowing(train, items, seed):
    """The model of who has rated what, on the items in question."""
    people = np.flatnonzero(train.user_counts > 0)
    people = np.sort(np.random.default_rng(seed).permutation(people)[:MOST_PEOPLE])
    has = np.zeros((len(people), len(items)), dtype=np.float32)
    row, column = (np.full(size, -1) for size in train.shape)
    row[people], column[items] = np.arange(len(people)), np.arange(len(items))
    users, films = row[train.user_codes], column[train.item_codes]
    inside = (users >= 0) & (films >= 0)
    has[users[inside], films[inside]] = 1
    users, films = (codes.ravel().astype(np.int32) for codes in np.indices(has.shape))
    table = Ratings(users, films, has.ravel(), None, *map(np.arange, has.shape), scale=(0.0, 1.0))
    return _fit_quietly(BiasedALS(**KNOWING_SETTINGS), table)


def _learn_prior(model, seed):
    """s^2 times the inverse covariance of people's rows, and of the noise, by expectation maximization."""
    train, x = model.train_, _rows(model)
    people = np.flatnonzero(train.user_counts > 0)
    people = np.random.default_rng(seed).permutation(people)[:MOST_PEOPLE]
    rows = []
    for person in people:
        codes, values = train.by_user[[person]].indices, train.by_user[[person]].data
        rows.append((x[codes], values - model.mean_ - model.item_bias_[codes].astype(np.float64)))
    prior = _normal_matrix(model, x[:0])
    noise = np.mean(np.concatenate([target for _, target in rows]) ** 2)
    for _ in range(EM_STEPS):
        moment, squared = np.zeros_like(prior), 0.0
        for own, target in rows:
            gram = own.T @ own
            inverse = np.linalg.inv(gram + prior)
            mean = inverse @ (own.T @ target)
            moment += np.outer(mean, mean) + noise * inverse
            squared += np.sum((target - own @ mean) ** 2) + noise * np.sum(inverse * gram)
        noise = max(squared / sum(len(target) for _, target in rows), np.finfo(np.float64).tiny)
        prior = noise * np.linalg.inv(moment / len(rows))
    return (prior + prior.T) / 2


def _fit_quietly(model, ratings):
    """A fit that is a means: whether it converged is the business of the model it serves."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model.set_params(verbose=False).fit(ratings)


def _rows(model):
    """x_i = (q_i, 1) of every item, float64, shape (n, k + 1)."""
    return np.column_stack([model.item_factors_.astype(np.float64), np.ones(len(model.item_factors_))])


def _normal_matrix(model, x):
    """A of the rows x."""
    return x.T @ x + np.diag(model._penalties(max(len(x), 1)))
