import numpy as np
import pytest

from recsys_helpers import metrics, splits
from recsys_helpers.baselines import BiasModel, GlobalMean
from recsys_helpers.evaluation import model_bytes, running_comparison


def test_running_comparison_agrees_with_the_metrics(medium):
    train, test = splits.random_holdout(medium)
    bias = BiasModel()
    table = running_comparison({"mean": GlobalMean(), "bias": bias}, train, test)
    assert table.index.tolist() == ["mean", "bias"]
    expected = metrics.rmse(test.values, BiasModel().fit(train).predict(test))
    assert table.loc["bias", "RMSE"] == pytest.approx(expected, abs=5e-5)
    assert (table["fit seconds"] >= 0).all()
    assert not hasattr(bias, "train_"), "the models passed in stay unfitted"


def test_model_bytes_counts_what_was_learned(medium):
    model = BiasModel().fit(medium)
    assert model_bytes(model) == 8 * (medium.n_users + medium.n_items)
    model.extra_ = medium.by_user
    model.note_ = "text"
    model.scratch = np.zeros(5)
    csr = medium.by_user
    added = csr.data.nbytes + csr.indices.nbytes + csr.indptr.nbytes
    assert model_bytes(model) == 8 * (medium.n_users + medium.n_items) + added
