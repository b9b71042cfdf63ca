"""What parameters and attributes mean that several models share, written once.

``@documented`` fills ``{name}`` lines of a class's docstring from here, so that the text a
reader sees is whole.
"""

from __future__ import annotations

import re
from textwrap import dedent, indent

TEXTS = {
    "n_threads": """
        n_threads : int, optional
            Default: all processors.""",
    "random_state": """
        random_state : int or numpy.random.Generator
            The same integer gives the same model to the last bit, whatever the threads.""",
    "verbose": """
        verbose : bool
            Show a progress bar when fitting takes more than two seconds.""",
    "tol": """
        tol : float
            Stop when a sweep changes the objective by no more than this share of it; 0 takes all sweeps.
            Where `n_sweeps` ends the fit before, a ConvergenceWarning says so.""",
    "patience": """
        patience : int
            With validation ratings: stop after this many passes without a better
            validation RMSE, and go back to the best one.""",
    "dtype": """
        dtype : {"float32", "float64"}
            Of factors and arithmetic.""",
    "history": """
        history_ : DataFrame
            One row a pass: objective, train_rmse, validation_rmse (NaN without), seconds.""",
    "best_sweep": """
        best_sweep_ : int
            The sweep whose factors the model holds, counted from 1.""",
    "best_epoch": """
        best_epoch_ : int
            The epoch whose factors the model holds, counted from 1.""",
    "fallback": """
        An unknown user or item, with a code of -1, has no bias and no factors: the prediction
        falls back to what is known of the other.""",
}
_LINE = re.compile(r"^( *)\{(\w+)\}$", re.MULTILINE)


def documented(cls):
    """Fill the lines ``{name}`` of a class's docstring from `TEXTS`."""
    if cls.__doc__:  # none under python -OO
        cls.__doc__ = _LINE.sub(lambda found: _text(found[2], found[1]), cls.__doc__)
    return cls


def _text(name, margin):
    return indent(dedent(TEXTS[name]).strip("\n"), margin)
