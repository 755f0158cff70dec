"""Rows of more dimensions than one, and callbacks of scikit-learn: what a file makes of them."""

import pickle

import numpy as np
import onnxruntime
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from over import over
from sklearn.datasets import load_digits
from torch import nn

from sknoisydim import NoisyDIMTransformer
from sknoisydim._persistence import _file

X = load_digits().data[:300].reshape(-1, 1, 8, 8)
ROWS = X.astype(np.float32)[:40] + np.float32(0.5)


class Convolutions(nn.Module):
    """An encoder of images, which is told their shape."""

    def __init__(self, shape, n_components):
        super().__init__()
        channels, height, width = shape
        self.layers = nn.Sequential(
            nn.Conv2d(channels, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(height * width, n_components),
        )

    def forward(self, x):
        return self.layers(x)


def chain(shape, n_components):
    """One that ends in a linear layer, and so is folded."""
    return Convolutions(shape, n_components).layers


# Encoders and scalings that meet.
PAIRS = [("class", "squash"), ("chain", "standard"), ("module", "quantile"), ("chain", None)]
ENCODERS = {"class": Convolutions, "chain": chain, "module": Convolutions((1, 8, 8), 2)}


def dim(**parameters):
    given = {
        "n_components": 2,
        "refine": None,
        "encoder": Convolutions,
        "max_epochs": 2,
        "batch_size": 64,
    }
    return NoisyDIMTransformer(**given | {"random_state": 0} | parameters)


@pytest.fixture(scope="module")
def fitted():
    return dim(target="uniform").fit(X)


class TestFile:
    @over(pair=PAIRS)
    def test_gives_the_same_bits(self, pair, tmp_path):
        encoder, scaling = ENCODERS[pair[0]], pair[1]
        model = dim(encoder=encoder, scaling=scaling).fit(X)
        model.save(tmp_path / "model")
        # A chain of torch's own layers is held by the file, and its factory is a function.
        loaded = NoisyDIMTransformer.load(tmp_path / "model", encoder=encoder)
        for rows in (X, ROWS):
            assert_array_equal(loaded.transform(rows), model.transform(rows))
            assert_array_equal(loaded.score_samples(rows), model.score_samples(rows))
        assert loaded.score(X) == model.score(X)
        assert loaded.encoder_.row_shape == loaded.row_shape_ == (1, 8, 8)
        with pytest.raises(ValueError, match="shape"):
            loaded.transform(X.reshape(300, 64))

    def test_is_saved_again_and_goes_on(self, tmp_path):
        model = dim(warm_start=True).fit(X)
        model.save(tmp_path / "model")
        loaded = NoisyDIMTransformer.load(tmp_path / "model", encoder=Convolutions)
        loaded.save(tmp_path / "again")
        assert (tmp_path / "again").read_bytes() == (tmp_path / "model").read_bytes()
        assert_array_equal(
            loaded.partial_fit(X[:64]).transform(X),
            pickle.loads(pickle.dumps(model)).partial_fit(X[:64]).transform(X),
        )
        assert_array_equal(loaded.fit(X).n_epochs_, model.fit(X).n_epochs_)

    def test_another_encoder_than_was_saved(self, fitted, tmp_path):
        fitted.save(tmp_path / "model")
        for encoder in ("mlp", nn.Linear):
            with pytest.raises(ValueError, match=r"model cannot be loaded"):
                NoisyDIMTransformer.load(tmp_path / "model", encoder=encoder)

    @over(shape=[(1, 8, 7), (64,), (), (-1, -64), (1, 0, 64), (2, 4, 8), (1.0, 8, 8)])
    def test_a_shape_that_is_none(self, shape, fitted, tmp_path):
        fitted.save(tmp_path / "model")
        header, arrays = _file.read(tmp_path / "model")
        header["parts"]["row_shape"] = {"tuple": list(shape)}
        _file.write(tmp_path / "other", header, arrays)
        with pytest.raises(ValueError, match=r"other cannot be loaded"):
            NoisyDIMTransformer.load(tmp_path / "other", encoder=Convolutions)


class TestServed:
    @over(pair=PAIRS)
    def test_module_takes_images(self, pair):
        encoder, scaling = ENCODERS[pair[0]], pair[1]
        model = dim(encoder=encoder, scaling=scaling).fit(X)
        module = model.to_torch()
        z = module(torch.from_numpy(ROWS)).numpy()
        assert_allclose(z, model.transform(ROWS), rtol=1e-5, atol=1e-5)
        wide = module.double()(torch.from_numpy(X)).numpy()
        assert_allclose(wide, model.transform(X), rtol=1e-8, atol=1e-8)

    def test_onnx(self, fitted, tmp_path):
        fitted.to_onnx(tmp_path / "model.onnx")
        session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
        (given,) = session.get_inputs()
        assert given.name == "X"
        assert given.shape[1:] == [1, 8, 8]
        for n in (1, 2, len(ROWS)):
            (z,) = session.run(["Z"], {"X": ROWS[:n]})
            assert_allclose(z, fitted.transform(ROWS[:n]), rtol=1e-5, atol=1e-5)


class Silent:
    """A callback of scikit-learn's kind, which no file could hold."""

    def setup(self, estimator, context): ...

    def teardown(self, estimator, context): ...

    def on_fit_task_begin(self, estimator, context): ...

    def on_fit_task_end(self, estimator, context): ...


def test_callbacks_of_scikit_learn_are_no_part_of_a_file(tmp_path):
    pytest.importorskip("sklearn.callback", reason="scikit-learn >= 1.9 has callbacks")
    table = X.reshape(300, 64)
    model = NoisyDIMTransformer(2, max_epochs=1, random_state=0)
    plain = NoisyDIMTransformer(2, max_epochs=1, random_state=0)
    model.set_callbacks(Silent()).fit(table).save(tmp_path / "model")
    loaded = NoisyDIMTransformer.load(tmp_path / "model")
    assert_array_equal(loaded.transform(table), plain.fit(table).transform(table))
    assert not hasattr(loaded, "_skl_callbacks")
    assert len(model._skl_callbacks) == 1  # the estimator keeps its own
    assert vars(loaded).keys() == vars(plain).keys()
