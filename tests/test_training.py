"""The one training loop: a fit that is killed, and goes on from its checkpoint."""

import importlib.util
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.base import clone

import recsys_helpers
from recsys_helpers import BiasedALS, FunkSVD, splits
from recsys_helpers.data import synthetic_ratings
from recsys_helpers.models import DivergenceError, training

ROOT = Path(__file__).parents[1]
KILLED_AFTER = 4
MODELS = {
    "BiasedALS": "BiasedALS(4, n_sweeps=9, tol=0, patience=9, verbose=False)",
    "BiasedALS, cg": "BiasedALS(4, solver='cg', n_sweeps=9, tol=0, patience=9, verbose=False)",
    "ImplicitALS": "ImplicitALS(4, solver='subspace', block_size=2, n_sweeps=9, tol=0, verbose=False)",
    "NMF": "NMF(3, n_sweeps=9, tol=0, patience=9, verbose=False)",
    "FunkSVD": "FunkSVD(4, n_epochs=9, patience=9, verbose=False)",
    "SVDpp": "SVDpp(4, n_epochs=9, patience=9, verbose=False)",
    "BayesianMF": "BayesianMF(4, n_sweeps=9, n_burn_in=2, verbose=False)",
    "BPR": "BPR(4, n_epochs=9, verbose=False)",
    "GradientMF": "GradientMF(4, n_epochs=9, patience=9, verbose=False)",
}
# What a killed process did: a checkpoint after every pass, and the end in the middle of a fit.
KILLED = f"""
import os, signal, sys
from recsys_helpers import *
from recsys_helpers.models import training
sys.path.insert(0, {str(ROOT / "tests")!r})
from test_training import parts

training.CHECKPOINT_SECONDS = 0.0
report = training.Loop.report

def dying(self, **row):
    report(self, **row)
    if len(self.history) == {KILLED_AFTER}:
        os.kill(os.getpid(), signal.SIGKILL)

training.Loop.report = dying
train, held = parts()
{{model}}.fit(train, *[held][: {{watched}}], checkpoint=sys.argv[1])
"""


def parts():
    ratings = synthetic_ratings(60, 50, 1500, seed=2)
    return splits.random_holdout(ratings, 0.2, seed=0)[:2]


@pytest.mark.parametrize("name", MODELS)
def test_a_killed_fit_goes_on_to_the_same_end(name, tmp_path):
    if name == "GradientMF" and not importlib.util.find_spec("optax"):
        pytest.skip("JAX is not installed")
    path = tmp_path / "fit.npz"
    watched = int(name not in ("ImplicitALS", "BPR"))  # models of likes do not watch ratings
    script = KILLED.format(model=MODELS[name], watched=watched)
    done = subprocess.run([sys.executable, "-c", script, path], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert path.exists() and [p.name for p in tmp_path.iterdir()] == ["fit.npz"]
    train, held = parts()
    family = MODELS[name].split("(")[0]
    model = eval(MODELS[name], {family: getattr(recsys_helpers, family)})
    begun = []
    whole = clone(model).fit(train, *[held][:watched])
    resumed = clone(model)
    steps = training.Loop.report
    try:
        training.Loop.report = lambda self, **row: (begun.append(len(self.history)), steps(self, **row))[1]
        resumed.fit(train, *[held][:watched], checkpoint=path)
    finally:
        training.Loop.report = steps
    assert begun[0] == KILLED_AFTER, "it went on, and did not begin anew"
    np.testing.assert_array_equal(resumed.predict(train), whole.predict(train))
    learned = [name for name in vars(whole) if name.endswith(("_factors_", "_draws_"))]
    assert learned
    for attribute in learned:
        np.testing.assert_array_equal(getattr(resumed, attribute), getattr(whole, attribute))
    columns = [c for c in whole.history_.columns if c != "seconds"]
    np.testing.assert_array_equal(resumed.history_[columns], whole.history_[columns])
    assert not path.exists(), "a fit that ended leaves no checkpoint"


@pytest.fixture
def begun(tmp_path, monkeypatch):
    """A checkpoint of BiasedALS(3) after some passes."""
    path = tmp_path / "fit.npz"
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0.0)
    report = training.Loop.report

    def interrupted(self, **row):
        report(self, **row)
        if len(self.history) == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training.Loop, "report", interrupted)
        with pytest.raises(KeyboardInterrupt):
            BiasedALS(3, verbose=False).fit(parts()[0], checkpoint=path)
    return path


def test_a_checkpoint_serves_its_own_fit_only(begun):
    train, held = parts()
    for model, ratings in ((BiasedALS(4, verbose=False), train), (BiasedALS(3, verbose=False), held)):
        with pytest.raises(ValueError, match="belongs to other parameters or other ratings; remove it"):
            model.fit(ratings, checkpoint=begun)
    assert begun.exists()
    BiasedALS(3, verbose=True, n_threads=1).fit(train, checkpoint=begun)  # what changes no result may differ


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 nothing", b"\x93NUMPY"])
def test_a_damaged_checkpoint_is_named(tmp_path, content):
    path = tmp_path / "fit.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="fit.npz is no checkpoint, or a damaged one.*remove it"):
        BiasedALS(3, verbose=False).fit(parts()[0], checkpoint=path)
    with pytest.raises(ValueError, match=r"checkpoint: got 'fit.txt'; expected a name that ends in .npz"):
        BiasedALS(3, verbose=False).fit(parts()[0], checkpoint=tmp_path / "fit.txt")


def test_a_fit_that_diverges_leaves_no_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0.0)
    path = tmp_path / "fit.npz"
    model = FunkSVD(8, reg=0.0, bias_reg=0.0, learning_rate=1.0, decay=1.0, verbose=False)
    with pytest.raises(DivergenceError):
        model.fit(parts()[0], checkpoint=path)
    assert not path.exists()
