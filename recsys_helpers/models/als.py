"""Alternating least squares with biases, and with genres if wanted."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import tempfile
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numba
import numpy as np
import pandas as pd
from scipy.sparse import csr_array
from tqdm import tqdm

from .. import __version__
from ..checks import check_choice, check_non_negative, check_positive_int
from ..data.ratings import Ratings
from ..kernels.als import solve_rows
from .factors import FactorModel, _read_only, _squares

SOLVERS = ("cholesky", "cg")
DTYPES = ("float32", "float64")
FORMAT, FORMAT_VERSION = "recsys_helpers.BiasedALS", 1
NO_GENRE = "(no genres listed)"
# Multiply-adds in one piece of work for a thread: large beside the cost of a call,
# small beside a half-sweep. Fixed, so that sums do not depend on the number of threads.
CHUNK_WORK = 2e7


class BiasedALS(FactorModel):
    r"""Biases and taste, :math:`\hat r_{ui} = \mu + b_u + b_i + p_u \cdot q_i`, by alternating least squares.

    The model minimizes

    .. math::

        \sum_{(u,i)\in\Omega}(r_{ui}-\hat r_{ui})^2
        + \sum_u w_u\,(\lambda\,|p_u|^2 + \lambda_b\,b_u^2)
        + \sum_i w_i\,(\lambda\,|q_i - \bar g_i|^2 + \lambda_b\,(b_i-\bar c_i)^2)
        + \sum_g w_g\,(\lambda_g\,|g_g|^2 + \lambda_c\,c_g^2)

    with the global mean :math:`\mu` fixed (Koren, Bell and Volinsky 2009). A film's
    factors are its own part plus the mean :math:`\bar g_i` of the factors of its genres,
    and likewise its bias, with :math:`\bar c_i`; without genres both are zero and the last
    sum is absent. With ``n_factors=0`` only the biases remain. All variants are fitted by
    the same code.

    Films, genres and users take turns. Given the others, each turn is a least-squares
    problem with one minimum, which is taken exactly (factors and bias together), so the
    objective never rises. It is not convex in all together: another `random_state` may
    end in another, usually equally good, place, and turning all p and q by the same
    rotation changes nothing.

    Parameters
    ----------
    n_factors : int
        Rank k; 0 fits biases only.
    reg : float
        :math:`\lambda` of user factors and of films' own factors, not below 0.
    bias_reg : float
        :math:`\lambda_b` of user biases and of films' own biases, not below 0.
    genres : bool
        Use the column genres of the training data's movies.
    genre_reg, genre_bias_reg : float
        :math:`\lambda_g` of genre factors and :math:`\lambda_c` of genre biases, above 0.
        Used with ``genres=True``.
    weighted : bool
        What the weights w are. False: 1. A Gaussian prior, whose pull towards zero (or
        towards the genres) fades as ratings come in; lambda counts in ratings, and 10
        is a fair start. True: the number of ratings of the user, film or genre (ALS-WR,
        Zhou et al. 2008). The pull keeps pace with the evidence, so that users with many
        ratings are held back as much as those with few; 0.1 is a fair start.
    n_sweeps : int
        Upper bound on sweeps; each solves films, genres and users once.
    tol : float
        Stop when a sweep lowers the objective by less than this share of it.
    patience : int
        With validation ratings: stop after this many sweeps without a better
        validation RMSE, and go back to the best sweep.
    solver : {"cholesky", "cg"}
        Exact, or `cg_steps` conjugate gradient steps a row, started from the last
        sweep's solution: cheaper for a large rank, and the objective still never rises.
    cg_steps : int
        At least 1.
    init_scale : float
        Standard deviation of the random user factors that the first sweep starts from.
    dtype : {"float32", "float64"}
        Of factors and arithmetic. Sums over many ratings are compensated either way.
    n_threads : int, optional
        Default: Numba's number of threads.
    random_state : int or numpy.random.Generator
        The same integer gives the same model to the last bit, whatever the threads.
    verbose : bool
        Show a progress bar when fitting takes more than two seconds.

    Attributes
    ----------
    mean_ : float
        Global mean, in stars.
    user_factors_, item_factors_ : ndarray, shape (m, k) and (n, k)
        p and q; the latter with the part of the genres.
    user_bias_, item_bias_ : ndarray, shape (m,) and (n,)
        Zero (or the genres') where there is no training rating.
    genre_names_ : list of str
        With ``genres=True``; also `genre_factors_`, shape (G, k), and `genre_bias_`, shape (G,).
    history_ : DataFrame
        One row a sweep: objective, train_rmse, validation_rmse (NaN without), seconds.
    best_sweep_ : int
        The sweep whose factors the model holds, counted from 1.

    Notes
    -----
    A sweep costs about 2 nnz k (k + 1) + (m + n) k^3 / 3 operations and reads the ratings
    twice. Memory: both orientations of the ratings and the factors.

    An unknown user or film, with a code of -1, has no bias and no factors: the prediction
    falls back to what is known of the other.
    """

    def __init__(
        self,
        n_factors=32,
        reg=10.0,
        *,
        bias_reg=3.0,
        genres=False,
        genre_reg=10.0,
        genre_bias_reg=5.0,
        weighted=False,
        n_sweeps=20,
        tol=1e-4,
        patience=5,
        solver="cholesky",
        cg_steps=3,
        init_scale=0.1,
        dtype="float32",
        n_threads=None,
        random_state=0,
        verbose=True,
    ):
        self.n_factors = n_factors
        self.reg = reg
        self.bias_reg = bias_reg
        self.genres = genres
        self.genre_reg = genre_reg
        self.genre_bias_reg = genre_bias_reg
        self.weighted = weighted
        self.n_sweeps = n_sweeps
        self.tol = tol
        self.patience = patience
        self.solver = solver
        self.cg_steps = cg_steps
        self.init_scale = init_scale
        self.dtype = dtype
        self.n_threads = n_threads
        self.random_state = random_state
        self.verbose = verbose

    # ---- fitting --------------------------------------------------------------

    def _fit(self, ratings, validation):
        self._check_parameters(ratings)
        dtype = np.dtype(self.dtype)
        rng = np.random.default_rng(self.random_state)
        k, (m, n) = self.n_factors, ratings.shape
        self.mean_ = float(ratings.values.mean(dtype=np.float64))
        self.user_factors_ = rng.standard_normal((m, k), dtype=dtype)
        self.user_factors_ *= dtype.type(self.init_scale)
        self.user_bias_ = np.zeros(m, dtype)
        self.item_factors_, self.item_bias_ = np.zeros((n, k), dtype), np.zeros(n, dtype)
        nothing = prior = np.zeros((1, k), dtype), np.zeros(1, dtype)
        genres = _Genres(self, ratings) if self.genres else None
        check = None if validation is None else (self._pair_codes(validation), validation.values)
        history, best, kept = [], None, None
        start = time.perf_counter()
        with tqdm(
            total=self.n_sweeps, desc="BiasedALS", delay=2, leave=False, disable=not self.verbose
        ) as bar:
            for sweep in range(1, self.n_sweeps + 1):
                self._solve_items(ratings, prior)
                if genres is not None:
                    prior = genres.solve()
                squared = self._solve_users(ratings, nothing)
                objective = squared + self._penalty(ratings, genres)
                row = {
                    "sweep": sweep,
                    "objective": objective,
                    "train_rmse": np.sqrt(squared / len(ratings)),
                    "validation_rmse": np.nan,
                }
                if check is not None:
                    error = self._predict_codes(*check[0]) - check[1]
                    row["validation_rmse"] = float(np.sqrt(np.mean(error * error)))
                row["seconds"] = time.perf_counter() - start
                start = time.perf_counter()
                history.append(row)
                bar.update()
                if check is not None:
                    if best is None or row["validation_rmse"] < history[best - 1]["validation_rmse"]:
                        best, kept = sweep, self._copy_state(genres)
                    elif sweep - best >= self.patience:
                        break
                if sweep > 1 and history[-2]["objective"] - objective <= self.tol * objective:
                    break
        if kept is not None and best != sweep:
            for name, value in kept.items():
                setattr(self, name, value)
        self.history_ = pd.DataFrame(history).set_index("sweep")
        self.best_sweep_ = sweep if best is None else best

    def _check_parameters(self, ratings):
        check_positive_int("n_factors", self.n_factors, minimum=0)
        for name in ("reg", "bias_reg", "tol", "init_scale"):
            check_non_negative(name, getattr(self, name))
        for name in ("n_sweeps", "patience", "cg_steps"):
            check_positive_int(name, getattr(self, name))
        check_choice("solver", self.solver, SOLVERS)
        check_choice("dtype", self.dtype, DTYPES)
        if self.n_threads is not None:
            check_positive_int("n_threads", self.n_threads)
        if self.n_factors and self.init_scale == 0:
            raise ValueError("init_scale: got 0; expected more, as factors that start at 0 stay there")
        if self.genres:
            for name in ("genre_reg", "genre_bias_reg"):
                if check_non_negative(name, getattr(self, name)) == 0:
                    raise ValueError(f"{name}: got 0; expected a number above 0")
            if ratings.movies is None or "genres" not in ratings.movies.columns:
                raise ValueError(
                    "genres: got True, but the ratings carry no movies table with a column genres"
                )

    def _solve_items(self, ratings, prior):
        return self._half_sweep(
            ratings.by_item, self.user_factors_, self.user_bias_, prior, self.item_factors_, self.item_bias_
        )

    def _solve_users(self, ratings, prior):
        return self._half_sweep(
            ratings.by_user, self.item_factors_, self.item_bias_, prior, self.user_factors_, self.user_bias_,
            errors=True,
        )  # fmt: skip

    def _half_sweep(self, matrix, factors, bias, prior, out, out_bias, *, errors=False, exact=False):
        """Solve all rows of one side in place; returns the sum of squared errors if wanted."""
        number = out.dtype.type
        steps = 0 if exact or self.solver == "cholesky" else self.cg_steps
        # Read-only views, as Ratings gives them: one compiled version serves all callers.
        indptr, indices, values = (_read_only(x) for x in (matrix.indptr, matrix.indices, matrix.data))
        squares = np.zeros(out.shape[1], out.dtype)
        if steps:
            squares = np.einsum("ij,ij->j", factors, factors) / number(max(len(factors), 1))

        def work(first, stop):
            return solve_rows(
                first, stop, indptr, indices, values, number(self.mean_), factors, bias,
                number(self.reg), number(self.bias_reg), bool(self.weighted), *prior, steps, squares, errors,
                out, out_bias,
            )  # fmt: skip

        cuts = _balanced_cuts(matrix.indptr, out.shape[1])
        threads = min(self.n_threads or numba.get_num_threads(), len(cuts) - 1)
        if threads == 1:
            results = [work(*span) for span in zip(cuts[:-1], cuts[1:], strict=True)]
        else:
            # The compiled code releases the lock, so plain threads run side by side, and
            # each takes the next piece when it is done with its last.
            with ThreadPoolExecutor(threads) as pool:
                results = list(pool.map(work, cuts[:-1], cuts[1:]))
        failed = sum(r[0] for r in results)
        if failed:
            raise ValueError(
                f"reg: got {self.reg!r} with bias_reg={self.bias_reg!r}; {failed} row(s) have no unique "
                f"solution with it; expected values above 0, since rows with few ratings need them"
            )
        return sum(r[1] for r in results)

    def _penalty(self, ratings, genres):
        """The regularization part of the objective, in float64."""
        user_weight = ratings.user_counts if self.weighted else 1.0
        total = self.reg * np.sum(user_weight * _squares(self.user_factors_))
        total += self.bias_reg * np.sum(user_weight * _squares(self.user_bias_[:, None]))
        item_weight = ratings.item_counts if self.weighted else 1.0
        factors, bias = self.item_factors_, self.item_bias_
        if genres is not None:
            factors, bias = factors - genres.prior[0], bias - genres.prior[1]
            total += genres.penalty()
        total += self.reg * np.sum(item_weight * _squares(factors))
        total += self.bias_reg * np.sum(item_weight * _squares(bias[:, None]))
        return float(total)

    def _copy_state(self, genres):
        names = ["user_factors_", "user_bias_", "item_factors_", "item_bias_"]
        if genres is not None:
            names += ["genre_factors_", "genre_bias_"]
        return {name: getattr(self, name).copy() for name in names}

    # ---- predicting -------------------------------------------------------------

    def explain(self, user, movie):
        """How much each training rating of a user contributed to one prediction.

        See `NewUser.explain`; this is the same for a user of the training data.

        Parameters
        ----------
        user, movie : int
            A userId and a movieId from training.

        Returns
        -------
        DataFrame
        """
        self._check_fitted()
        code = self._known_user(user)
        matrix = self.train_.by_user
        span = slice(matrix.indptr[code], matrix.indptr[code + 1])
        return self._explain(matrix.indices[span], matrix.data[span], self._known_item(movie))

    def _penalties(self, n):
        return (n if self.weighted else 1) * np.append(np.full(self.n_factors, self.reg), self.bias_reg)

    def _solve_row(self, codes, values):
        """One row of the user half-sweep: the ratings of a training user give that user's factors."""
        dtype = self.user_factors_.dtype
        row = _Row(np.array([0, len(codes)], np.int32), codes, values)
        factors, bias = np.zeros((1, self.n_factors), dtype), np.zeros(1, dtype)
        nothing = np.zeros_like(factors), np.zeros_like(bias)
        self._half_sweep(row, self.item_factors_, self.item_bias_, nothing, factors, bias, exact=True)
        return factors[0], float(bias[0])

    # ---- keeping ------------------------------------------------------------------

    def save(self, path):
        """Write the fitted model to one npz file, without pickle.

        Holds parameters, factors, ids, titles and the training ratings (which films are
        left out of recommendations, and explanations, need them); not the timestamps.
        The file appears complete or not at all: it is written beside `path` and renamed.

        Parameters
        ----------
        path : str or Path
            Ends in .npz.

        Raises
        ------
        ValueError
            If the name does not end in .npz.
        """
        self._check_fitted()
        path = Path(path)
        if path.suffix != ".npz":
            raise ValueError(f"path: got {path.name!r}; expected a name that ends in .npz")
        matrix, train = self.train_.by_user, self.train_
        parameters = self.get_params()
        if not isinstance(parameters["random_state"], int | None):
            parameters["random_state"] = None
        about = {
            "format": FORMAT,
            "version": FORMAT_VERSION,
            "package": __version__,
            "parameters": parameters,
            "scale": train.scale,
            "name": train.name,
            "best_sweep": self.best_sweep_,
            "genre_names": self.genre_names_ if self.genres else [],
        }
        arrays = {
            "about": np.array(json.dumps(about, default=_plain)),
            "mean": np.array(self.mean_),
            "user_ids": train.user_ids,
            "item_ids": train.item_ids,
            "user_factors": self.user_factors_,
            "user_bias": self.user_bias_,
            "item_factors": self.item_factors_,
            "item_bias": self.item_bias_,
            "indptr": matrix.indptr,
            "indices": matrix.indices,
            "values": matrix.data,
            "history": self.history_.to_numpy(dtype=np.float64),
        }
        if self.genres:
            arrays |= {"genre_factors": self.genre_factors_, "genre_bias": self.genre_bias_}
        if train.movies is not None:
            for name in ("movieId", "title", "genres"):
                if name in train.movies.columns:
                    column = train.movies[name]
                    arrays[f"movies_{name}"] = (
                        column.to_numpy() if name == "movieId" else column.fillna("").to_numpy(dtype=str)
                    )
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, draft = tempfile.mkstemp(dir=path.parent, prefix=path.stem, suffix=".part")
        try:
            with os.fdopen(handle, "wb") as file:
                np.savez(file, **arrays)
                file.flush()
                os.fsync(file.fileno())
            os.replace(draft, path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.remove(draft)
            raise

    @classmethod
    def load(cls, path):
        """Read a model that `save` wrote.

        Parameters
        ----------
        path : str or Path

        Returns
        -------
        BiasedALS

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If the file is damaged, of another kind, or of a later format.
        """
        path = Path(path)
        try:
            with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            about = json.loads(str(arrays["about"]))
            if about["format"] != FORMAT:
                raise ValueError(f"its format is {about['format']!r}")
            version = int(about["version"])
        except FileNotFoundError:
            raise
        except (
            ValueError, KeyError, TypeError, EOFError, OSError, AttributeError, zipfile.BadZipFile
        ) as error:  # fmt: skip
            raise ValueError(
                f"{path}: not a file of BiasedALS.save, or a damaged one ({type(error).__name__}: {error}); "
                "fit the model again, or fetch the file again"
            ) from error
        if version > FORMAT_VERSION:
            raise ValueError(
                f"{path}: format version {version}; this recsys_helpers {__version__} reads up to "
                f"{FORMAT_VERSION}; install a later one"
            )
        try:
            return cls._from_arrays(about, arrays)
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise ValueError(
                f"{path}: parts of the file are missing or do not fit together "
                f"({type(error).__name__}: {error}); fit the model again, or fetch the file again"
            ) from error

    @classmethod
    def _from_arrays(cls, about, arrays):
        model = cls(**about["parameters"])
        m, n, k = len(arrays["user_ids"]), len(arrays["item_ids"]), model.n_factors
        n_genres = len(about["genre_names"])
        expected = {
            "user_factors": (m, k), "user_bias": (m,), "item_factors": (n, k), "item_bias": (n,),
            "indptr": (m + 1,), "values": arrays["indices"].shape,
        }  # fmt: skip
        if model.genres:
            expected |= {"genre_factors": (n_genres, k), "genre_bias": (n_genres,)}
            model.genre_names_ = list(about["genre_names"])
        for name, shape in expected.items():
            if arrays[name].shape != shape:
                raise ValueError(f"{name} has shape {arrays[name].shape}; expected {shape}")
        movies = None
        if "movies_movieId" in arrays:
            names = [c for c in ("movieId", "title", "genres") if f"movies_{c}" in arrays]
            movies = pd.DataFrame({c: arrays[f"movies_{c}"] for c in names})
            if "title" in movies:
                movies["title"] = movies["title"].where(movies["title"] != "")
        model.train_ = Ratings(
            np.repeat(np.arange(m, dtype=np.int32), np.diff(arrays["indptr"])),
            arrays["indices"],
            arrays["values"],
            None,
            arrays["user_ids"],
            arrays["item_ids"],
            scale=about["scale"],
            movies=movies,
            name=about["name"],
        )
        model.mean_ = float(arrays["mean"])
        model.best_sweep_ = int(about["best_sweep"])
        for name in expected:
            if name not in ("indptr", "values"):
                setattr(model, f"{name}_", arrays[name])
        columns = ["objective", "train_rmse", "validation_rmse", "seconds"]
        model.history_ = pd.DataFrame(arrays["history"], columns=columns)
        model.history_.index = pd.RangeIndex(1, len(model.history_) + 1, name="sweep")
        return model

    def record_run(self, folder, name=None):
        """Write what this fit was: parameters, data, history and its figure.

        Parameters
        ----------
        folder : str or Path
            For example "experiments"; made if it does not exist.
        name : str, optional
            Name of the run; by default the time, with a number where runs collide.

        Returns
        -------
        Path
            The run's own new folder, with run.json, history.csv and history.png.

        Raises
        ------
        FileExistsError
            If a run of the given name is there already; nothing is overwritten.
        """
        self._check_fitted()
        from matplotlib.figure import Figure

        folder = Path(folder)
        stem, number = name or time.strftime("%Y%m%d-%H%M%S"), 1
        run = folder / stem
        while True:
            try:
                run.mkdir(parents=True)
                break
            except FileExistsError:
                if name is not None:
                    raise
                number += 1
                run = folder / f"{stem}-{number}"
        parameters = self.get_params() | {"random_state": repr(self.random_state)}
        facts = {
            "model": type(self).__name__,
            "parameters": parameters,
            "data": {"name": self.train_.name, "ratings": len(self.train_), "shape": self.train_.shape},
            "best_sweep": self.best_sweep_,
            "last": self.history_.iloc[-1].to_dict(),
            "versions": {
                "recsys_helpers": __version__, "numpy": np.__version__, "numba": numba.__version__,
                "python": platform.python_version(),
            },
            "machine": platform.platform(),
            "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        }  # fmt: skip
        facts["last"] = {key: None if np.isnan(x) else x for key, x in facts["last"].items()}
        (run / "run.json").write_text(json.dumps(facts, indent=2, default=_plain) + "\n")
        self.history_.to_csv(run / "history.csv")
        figure = Figure(figsize=(8, 3.2), layout="constrained")
        left, right = figure.subplots(1, 2)
        left.plot(self.history_["objective"], marker="o")
        left.set(xlabel="sweep", ylabel="objective")
        for column, marker in (("train_rmse", "o"), ("validation_rmse", "s")):
            if self.history_[column].notna().any():
                right.plot(self.history_[column], marker=marker, label=column.replace("_", " "))
        right.set(xlabel="sweep", ylabel="RMSE (stars)")
        right.legend()
        figure.savefig(run / "history.png")
        return run


class _Row(NamedTuple):
    """One row of ratings in CSR form."""

    indptr: np.ndarray
    indices: np.ndarray
    data: np.ndarray


class _Genres:
    """The turn of the genres: a ridge regression of films' factors on their genres.

    Given the films, the ratings do not enter: the best genre factors minimize
    ``sum_i w_i reg |q_i - mean of g|^2 + sum_g w_g genre_reg |g|^2``, one small system of
    G equations with k + 1 right-hand sides, in float64. Films without ratings do not
    count; they take their genres' mean afterwards.
    """

    def __init__(self, model, ratings):
        self.model = model
        names, self.share = genre_shares(ratings)
        counts = ratings.item_counts
        self.rated = counts > 0
        self.weight = (counts if model.weighted else self.rated).astype(np.float64)
        # A genre's number of ratings, each split among the film's genres.
        self.genre_weight = np.ones(len(names))
        if model.weighted:
            self.genre_weight = np.maximum(self.share.T @ counts, 1.0)
        model.genre_names_ = names
        model.genre_factors_ = np.zeros((len(names), model.n_factors), model.dtype)
        model.genre_bias_ = np.zeros(len(names), model.dtype)
        self.prior = model.item_factors_ * 0, model.item_bias_ * 0

    def solve(self):
        model = self.model
        weighted = csr_array(self.share.multiply(self.weight[:, None]))
        gram = (weighted.T @ self.share).toarray()
        right = weighted.T @ np.column_stack([model.item_factors_, model.item_bias_]).astype(np.float64)
        for reg, own, target, columns in (
            (model.genre_reg, model.reg, model.genre_factors_, right[:, :-1]),
            (model.genre_bias_reg, model.bias_reg, model.genre_bias_, right[:, -1]),
        ):
            target[...] = np.linalg.solve(own * gram + np.diag(reg * self.genre_weight), own * columns)
        self.prior = (
            np.ascontiguousarray((self.share @ model.genre_factors_).astype(model.dtype)),
            (self.share @ model.genre_bias_).astype(model.dtype),
        )
        model.item_factors_[~self.rated] = self.prior[0][~self.rated]
        model.item_bias_[~self.rated] = self.prior[1][~self.rated]
        return self.prior

    def penalty(self):
        model = self.model
        return model.genre_reg * np.sum(
            self.genre_weight * _squares(model.genre_factors_)
        ) + model.genre_bias_reg * np.sum(self.genre_weight * _squares(model.genre_bias_[:, None]))


def genre_shares(ratings):
    """Which genres each film has, as shares that sum to 1.

    Parameters
    ----------
    ratings : Ratings
        With a movies table that has a column genres, names joined by "|".

    Returns
    -------
    names : list of str
        Sorted; "(no genres listed)" is not a genre.
    shares : scipy.sparse.csr_array, shape (n, G)
        1 / (number of the film's genres) for each of them; an empty row where none is known.
    """
    listed = ratings.movies.set_index("movieId")["genres"].reindex(ratings.item_ids).fillna("")
    split = [[g for g in text.split("|") if g and g != NO_GENRE] for text in listed]
    names = sorted({g for genres in split for g in genres})
    code = {g: c for c, g in enumerate(names)}
    rows = np.repeat(np.arange(len(split)), [len(g) for g in split])
    columns = np.array([code[g] for genres in split for g in genres], dtype=np.int64)
    values = np.repeat([1 / max(len(g), 1) for g in split], [len(g) for g in split])
    return names, csr_array((values, (rows, columns)), shape=(len(split), len(names)))


def _balanced_cuts(indptr, k):
    """Cut rows into spans of about equal work; the cuts do not depend on the threads."""
    n = np.diff(indptr).astype(np.float64)
    work = np.cumsum((n * (k + 20) + (k + 20) ** 2) * (k + 1))
    pieces = int(np.clip(work[-1] / CHUNK_WORK, 1, 512)) if len(work) else 1
    inner = np.searchsorted(work, work[-1] * np.arange(1, pieces) / pieces) + 1
    return np.unique(np.concatenate([[0], inner, [len(n)]])).tolist()


def _plain(value):
    """NumPy numbers for JSON."""
    return value.item()
