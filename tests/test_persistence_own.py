"""Components of the user's own: what a file leaves out, and the caller of `load` names."""

import importlib
import pickle
import sys

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from over import over
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from test_persistence import X_NEW, check_same, fit
from torch import nn

from sknoisydim import NoisyDIMTransformer
from sknoisydim.targets import PushForward


class Tower(nn.Module):
    width = 8

    def __init__(self, n_features, n_components):
        super().__init__()
        self.first = nn.Linear(n_features, self.width)
        self.last = nn.Linear(self.width, n_components)

    def forward(self, x):
        return self.last(self.first(x).sin())


class Narrow(Tower):
    width = 7


def own_bound(scores):
    return scores.diagonal().mean() - scores.logsumexp(1).mean()


def own_view(x, generator):
    return x * 0.9


LOGNORMAL = PushForward(np.exp, np.log, log_abs_det_jacobian=lambda z: z.sum(1))


class Scale(nn.Module):
    def __init__(self):
        super().__init__()
        self.factor = nn.Parameter(torch.ones(()))

    def forward(self, view, noisy):
        return self.factor * noisy @ view.T


class ScaleCritic:
    def build(self, n_components, channel, generator):
        return Scale()


OWN = {"encoder": Tower, "bound": own_bound, "augmentation": own_view}
OWN |= {"critic": ScaleCritic(), "target": LOGNORMAL}


class TestOwnComponents:
    @over(name=sorted(OWN))
    def test_is_refused_unless_it_is_named(self, name, tmp_path):
        model = fit(**{name: OWN[name]})
        model.save(tmp_path / "model")
        with pytest.raises(ValueError, match=rf"load\(path, {name}=\.\.\.\)"):
            NoisyDIMTransformer.load(tmp_path / "model")
        loaded = NoisyDIMTransformer.load(tmp_path / "model", **{name: OWN[name]})
        assert_array_equal(loaded.transform(X_NEW), model.transform(X_NEW))
        assert getattr(loaded, name) is OWN[name]
        weights, again = (m.net_.module_.state_dict() for m in (model, loaded))
        assert all(torch.equal(value, again[key]) for key, value in weights.items())

    def test_scaling_is_passed_fitted(self, tmp_path):
        model = fit(scaling=make_pipeline(StandardScaler(), PCA(3)))
        model.save(tmp_path / "model")
        with pytest.raises(ValueError, match="not fitted yet"):
            NoisyDIMTransformer.load(tmp_path / "model", scaling=model.scaling)
        learnt = model.encoder_.scaling.transformer
        loaded = NoisyDIMTransformer.load(tmp_path / "model", scaling=learnt)
        assert_array_equal(loaded.transform(X_NEW), model.transform(X_NEW))
        assert not hasattr(loaded.scaling[0], "mean_")

    def test_another_than_was_saved(self, tmp_path):
        fit(encoder=Tower).save(tmp_path / "model")
        for encoder in (Narrow, "mlp"):
            with pytest.raises(ValueError, match="do not fit encoder"):
                NoisyDIMTransformer.load(tmp_path / "model", encoder=encoder)

    def test_loading_runs_no_code_of_the_file(self, tmp_path, monkeypatch):
        fit(encoder=Tower).save(tmp_path / "model")

        def refuse(*args, **kwargs):
            raise AssertionError("a file decides what is imported or unpickled")

        for module in (pickle, sys.modules["_pickle"]):
            monkeypatch.setattr(module, "loads", refuse)
            monkeypatch.setattr(module, "Unpickler", refuse)
        monkeypatch.setattr(importlib, "import_module", refuse)
        monkeypatch.setattr(torch, "load", refuse)
        NoisyDIMTransformer.load(tmp_path / "model", encoder=Tower)

    def test_is_carried_along_by_a_pickle(self, tmp_path):
        model = fit(encoder=Tower, bound=own_bound, callbacks=[])
        again = pickle.loads(pickle.dumps(model))
        check_same(model, again)
        assert len(pickle.dumps(model)) < 1.5 * len(pickle.dumps(model.net_.module_)) + 2**13
        again.save(tmp_path / "model")
        named = {"encoder": Tower, "bound": own_bound}
        check_same(model, NoisyDIMTransformer.load(tmp_path / "model", **named))

    def test_what_cannot_be_named(self, tmp_path):
        refined, noted = fit(refine=OwnRefinement()), fit()
        noted.note_ = object()
        for model, name in [(refined, "refinement"), (noted, "note_")]:
            with pytest.raises(ValueError, match=f"'{name}' holds a .*Pickle the estimator"):
                model.save(tmp_path / "model")
            check_same(model, pickle.loads(pickle.dumps(model)))
        assert not list(tmp_path.iterdir())


class OwnMap(nn.Module):
    def forward(self, z):
        return z + 1

    def inverse(self, z):
        return z - 1

    def log_abs_det(self, z):
        return torch.zeros_like(z[:, 0])


class OwnRefinement:
    def build(self, z, seed, held_out):
        return OwnMap()
