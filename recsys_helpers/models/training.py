"""The one training loop of all models that learn by passes over the ratings.

A model does a pass, reports objective and errors, and the loop decides: it keeps the history
and the best state, shows progress, notices convergence and divergence, warns when the bound
ends it, and writes checkpoints that a killed fit resumes from.

    with Loop(model, "sweep", bound, get=..., put=...) as loop:
        for sweep in loop:
            ...                       # one pass
            loop.report(objective=..., train_rmse=...)
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.exceptions import ConvergenceWarning
from tqdm import tqdm

from ..files import atomic_write

# A checkpoint is written after the first pass that ends this many seconds after the last one.
CHECKPOINT_SECONDS = 30.0
# An objective that has grown by this much since the first pass will not come back.
DIVERGED = 4.0


class DivergenceError(ValueError):
    """A fit moved away from its goal without bound, and did not return a model."""


class Loop:
    """Passes 1, 2, … over the ratings, until the fit has converged, stopped getting better, or a bound.

    Parameters
    ----------
    model : Recommender
        Gets ``history_`` and ``best_<unit>_`` when the loop is left in peace. Its ``tol``,
        ``patience`` and ``verbose`` are read where it has them.
    unit : {"sweep", "epoch"}
        What a pass is called.
    bound : int
        Most passes.
    get : callable
        ``get() -> dict of str to ndarray``: the state, as it is now; copied where it is kept.
    put : callable
        ``put(dict)``: make this the state.
    publish : callable, optional
        Called before validation, to set what `predict` reads.
    validation : Ratings, optional
        Held-out ratings: watched, and the best state comes back at the end.
    window : int
        Passes that `tol` looks back over.
    monotone : bool
        The objective cannot rise but for rounding (alternating exact steps). False: where it
        rises over `window` passes the fit stops, and goes back to its best pass.
    draws : bool
        Passes are draws of a sampler: the objective moves up and down, and only one that is not finite is
        an error.
    advice : str
        What to change when the fit diverges.
    checkpoint : str or Path, optional
        A file to resume from, if it is there, and to write while the fit goes on; removed at the end.
    rng : numpy.random.Generator, optional
        Its state is part of the checkpoint.
    """

    def __init__(
        self, model, unit, bound, *, get, put, publish=None, validation=None, window=1, monotone=True,
        draws=False, advice="use a smaller learning rate or more regularization", checkpoint=None, rng=None,
    ):  # fmt: skip
        self.model, self.unit, self.bound = model, unit, bound
        self.get, self.put, self.publish = get, put, publish
        self.window, self.monotone, self.draws, self.advice = window, monotone, draws, advice
        self.tol = getattr(model, "tol", 0.0)
        self.patience = getattr(model, "patience", None)
        self.held = None
        if validation is not None:
            self.held = (*model._pair_codes(validation), validation.values.astype(np.float64))
        # Below this, a figure is rounding noise of a perfect fit, and its growth says nothing.
        values = model.train_.values.astype(np.float64)
        self.floor = {"objective": 1e-6 * float(values @ values) + 1e-12, "online_rmse": 1e-6}
        self.history, self.best, self.kept = [], 0, None
        self.stopped = self.converged = False
        self.checkpoint = _Checkpoint(checkpoint, model, validation, rng) if checkpoint else None

    # ---- the passes -----------------------------------------------------------------

    def __enter__(self):
        self.first = 1
        if self.checkpoint is not None:
            self.first = self._resume()
        self.bar = tqdm(
            total=self.bound, initial=self.first - 1, desc=type(self.model).__name__, delay=2, leave=False,
            disable=not getattr(self.model, "verbose", False),
        )  # fmt: skip
        return self

    def __iter__(self):
        self.clock = time.perf_counter()
        for number in range(self.first, self.bound + 1):
            if self.stopped:
                return
            yield number

    def report(self, *, objective=None, train_rmse=np.nan, **extra):
        """Tell what a pass came to; the loop decides whether another one follows.

        Parameters
        ----------
        objective : float, optional
            After this pass; left out where it is not computed, as long as there is an online_rmse.
        train_rmse : float
        **extra : float
            More columns of the history.

        Raises
        ------
        DivergenceError
            If the objective, or what stands in its place, is not finite or has grown without bound.
        """
        objective = np.nan if objective is None else float(objective)
        row = {self.unit: len(self.history) + 1, "objective": objective, "train_rmse": float(train_rmse)}
        row |= {"validation_rmse": np.nan} | extra
        self._check_divergence(row)
        if self.held is not None:
            row["validation_rmse"] = self._validate()
        now = time.perf_counter()
        row["seconds"] = now - self.clock
        self.history.append(row)
        self._keep_best(row)
        self._decide()
        self.bar.update()
        if self.checkpoint is not None and not self.stopped:
            self.checkpoint.write_at_times(self)
        self.clock = time.perf_counter()

    def __exit__(self, kind, error, trace):
        self.bar.close()
        if kind is not None:
            # An interrupted fit goes on from its checkpoint; a diverged one must not.
            if self.checkpoint is not None and issubclass(kind, DivergenceError):
                self.checkpoint.remove()
            return
        if self.kept is not None and self.best != len(self.history):
            self.put(self.kept)
        elif self.publish is not None:
            self.publish()
        self.model.history_ = pd.DataFrame(self.history).set_index(self.unit)
        setattr(self.model, f"best_{self.unit}_", self.best or len(self.history))
        self._warn_at_bound()
        if self.checkpoint is not None:
            self.checkpoint.remove()

    # ---- decisions ------------------------------------------------------------------

    def _check_divergence(self, row):
        name = "online_rmse" if "online_rmse" in row else "objective"
        figure = row[name]
        start = max(self.history[0][name] if self.history else abs(figure), self.floor[name])
        if np.isfinite(figure) and (self.draws or figure <= DIVERGED * start):
            return
        grew = f"grew from {start:.3g} to {figure:.3g}" if np.isfinite(figure) else "grew beyond all numbers"
        raise DivergenceError(
            f"{type(self.model).__name__} diverged: the {name.replace('_', ' ')} {grew} by {self.unit} "
            f"{row[self.unit]}; {self.advice}"
        )

    def _validate(self):
        if self.publish is not None:
            self.publish()
        users, items, values = self.held
        error = self.model._predict_codes(users, items) - values
        return float(np.sqrt(np.mean(error * error)))

    def _keep_best(self, row):
        """The best pass by validation; by the objective where that may rise."""
        if self.held is not None:
            figure = "validation_rmse"
        elif not self.monotone and np.isfinite(row["objective"]):
            figure = "objective"
        else:
            return
        if not self.best or row[figure] < self.history[self.best - 1][figure]:
            self.best = len(self.history)
            self.kept = {name: np.array(array) for name, array in self.get().items()}

    def _decide(self):
        passes = len(self.history)
        if self.held is not None and passes - self.best >= self.patience:
            self.stopped = True
        if not self.tol or passes <= self.window:
            return
        before, now = (self.history[at]["objective"] for at in (-1 - self.window, -1))
        if not np.isfinite(now):
            return
        # A rise is no convergence: exact methods rise by rounding only, which a tolerance above it covers.
        if abs(before - now) <= self.tol * abs(now):
            self.stopped = self.converged = True
        elif now > before and not self.monotone:
            self.stopped = True

    def _warn_at_bound(self):
        if not self.tol or self.stopped or len(self.history) <= self.window or not self.monotone:
            return
        before, now = (self.history[at]["objective"] for at in (-1 - self.window, -1))
        name = f"n_{self.unit}s"
        warnings.warn(
            f"{type(self.model).__name__} stopped at {name}={self.bound} while a {self.unit} still "
            "lowered the "
            f"objective by {(before - now) / max(abs(now), 1e-300):.1e} of it, above tol={self.tol:g}; "
            f"raise {name} or tol, or pass tol=0 for a fixed number",
            ConvergenceWarning,
            stacklevel=outside(),
        )

    # ---- checkpoints ----------------------------------------------------------------

    def _resume(self):
        found = self.checkpoint.read()
        if found is None:
            return 1
        self.history, self.best, kept, state = found
        self.put(state)
        self.kept = kept
        self._decide()
        return len(self.history) + 1


class _Checkpoint:
    """A file with the state of an unfinished fit, good for the same model on the same ratings only."""

    def __init__(self, path, model, validation, rng):
        self.path, self.rng = Path(path), rng
        if self.path.suffix != ".npz":
            raise ValueError(f"checkpoint: got {self.path.name!r}; expected a name that ends in .npz")
        self.key = _key(model, validation)
        self.written = time.perf_counter()

    def write_at_times(self, loop):
        if time.perf_counter() - self.written >= CHECKPOINT_SECONDS:
            self.write(loop)
            self.written = time.perf_counter()

    def write(self, loop):
        about = {"key": self.key, "history": loop.history, "best": loop.best}
        if self.rng is not None:
            about["rng"] = self.rng.bit_generator.state
        arrays = {f"state_{name}": array for name, array in loop.get().items()}
        arrays |= {f"kept_{name}": array for name, array in (loop.kept or {}).items()}
        with atomic_write(self.path) as file:
            np.savez(file, about=np.array(json.dumps(about, default=lambda x: x.item())), **arrays)

    def read(self):
        """(history, best, kept, state), or None where there is no file yet."""
        try:
            with open(self.path, "rb") as stream, np.load(stream, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            about = json.loads(str(arrays.pop("about")))
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, EOFError, OSError, zipfile.BadZipFile) as error:
            raise ValueError(
                f"checkpoint: {self.path} is no checkpoint, or a damaged one ({type(error).__name__}: "
                f"{error}); "
                "remove it to begin anew"
            ) from error
        if about.get("key") != self.key:
            raise ValueError(
                f"checkpoint: {self.path} belongs to other parameters or other ratings; remove it, or name "
                "another file"
            )
        if self.rng is not None:
            self.rng.bit_generator.state = about["rng"]
        parts = {}
        for whole, array in arrays.items():
            kind, name = whole.split("_", 1)
            parts.setdefault(kind, {})[name] = array
        return about["history"], about["best"], parts.get("kept"), parts["state"]

    def remove(self):
        self.path.unlink(missing_ok=True)


def _key(model, validation):
    """A digest of what a fit depends on: class, parameters, ratings."""
    digest = hashlib.sha256(type(model).__qualname__.encode())
    ignored = {"verbose", "n_threads", "random_state"}
    parameters = {n: repr(v) for n, v in model.get_params().items() if n not in ignored}
    parameters["random_state"] = repr(model.random_state) if not isinstance(
        model.random_state, np.random.Generator
    ) else "generator"  # fmt: skip
    digest.update(json.dumps(parameters, sort_keys=True).encode())
    for ratings in (model.train_, validation):
        if ratings is not None:
            for array in (ratings.user_codes, ratings.item_codes, ratings.values):
                digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()


def outside():
    """The stack level of the first caller outside this package, for warnings."""
    level, frame = 1, sys._getframe(1)
    root = str(Path(__file__).resolve().parents[1])
    while frame is not None and frame.f_code.co_filename.startswith(root):
        frame, level = frame.f_back, level + 1
    return level
