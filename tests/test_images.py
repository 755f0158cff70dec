"""Rows of more dimensions than one, with an encoder of one's own."""

from functools import partial

import numpy as np
import onnxruntime
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from over import over
from sklearn.datasets import load_digits
from sklearn.preprocessing import MinMaxScaler
from small import fails, small
from torch import nn

from sknoisydim import NoisyDIMTransformer
from sknoisydim._persistence import _file

DIGITS, Y = load_digits(return_X_y=True)
X = DIGITS[:300].reshape(-1, 1, 8, 8)
TABLE = X.reshape(300, 64)


def chain(shape, n_components):
    """An encoder of images, which is told their shape; it ends in a linear layer: it is folded."""
    channels, height, width = shape
    layers = [nn.Conv2d(channels, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU()]
    layers += [nn.Dropout2d(0.2), nn.MaxPool2d(2), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(4 * (height // 2) * (width // 2), n_components))


class Convolutions(nn.Module):
    def __init__(self, shape, n_components):
        super().__init__()
        self.layers = chain(shape, n_components)

    def forward(self, x):
        return self.layers(x)


dim = small(2, batch_size=64, encoder=Convolutions)


@over(encoder=[Convolutions, chain, Convolutions((1, 8, 8), 2), partial(Convolutions)])
def test_images_are_embedded_and_scored(encoder):
    model = dim(encoder=encoder).fit(X)
    z = model.transform(X)
    assert (z.shape, model.score_samples(X).shape) == ((300, 2), (300,))
    assert_allclose(z.mean(0), 0, atol=1e-5)
    assert_allclose(np.cov(z.T, ddof=0), np.eye(2), atol=1e-2)
    assert 0 < model.score(X) <= 1
    assert (model.n_features_in_, model.row_shape_) == (64, (1, 8, 8))


def test_other_shapes_are_refused(fitted):
    for rows in (TABLE, X.reshape(300, 8, 8), X[:, :, :4], X.reshape(300, 2, 4, 8)):
        for method in (fitted.transform, fitted.score):
            fails("shape", method, rows)
    with pytest.raises(ValueError, match=r"shape \(2, 8, 8\).*channels pass X\[:, None\]\.$"):
        dim(encoder=Convolutions((1, 8, 8), 2)).fit(X[:, 0])
    table = NoisyDIMTransformer(2, encoder=nn.Linear, max_epochs=1).fit(TABLE)
    fails("Found array with dim 4", table.transform, X)


@over(scaling=["squash", "quantile", MinMaxScaler()])
def test_cells_are_scaled_as_columns(scaling):
    flat = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    images, table = (dim(encoder=flat, scaling=scaling).fit(rows) for rows in (X, TABLE))
    assert_allclose(images.transform(X), table.transform(TABLE), atol=1e-6)


def test_a_stream_of_images():
    model = dim()
    for part in np.split(X, 5):
        model.partial_fit(part)
    assert model.n_samples_seen_ == 300
    assert_allclose(model.transform(X).mean(0), 0, atol=0.2)
    fails("fitted to rows of shape", model.partial_fit, TABLE)


@over("encoder, scaling", [(Convolutions, "squash"), (chain, "quantile")])
def test_a_file_and_a_module_of_torch_give_the_same(encoder, scaling, tmp_path):
    model = dim(encoder=encoder, scaling=scaling).fit(X)
    model.save(tmp_path / "model")
    # A chain of torch's own layers is held by the file, and its factory is a function.
    loaded = NoisyDIMTransformer.load(tmp_path / "model", encoder=encoder)
    assert_array_equal(loaded.transform(X), model.transform(X))
    assert loaded.score(X) == model.score(X)
    assert loaded.encoder_.row_shape == loaded.row_shape_ == (1, 8, 8)
    fails("shape", loaded.transform, TABLE)
    z = model.to_torch().double()(torch.from_numpy(X)).numpy()
    assert_allclose(z, model.transform(X), rtol=1e-8, atol=1e-8)


@over(shape=[(1, 8, 7), (64,), (), (-1, -64), (1, 0, 64), (2, 4, 8), (1.0, 8, 8)])
def test_a_file_with_a_shape_that_is_none(shape, fitted, tmp_path):
    fitted.save(tmp_path / "model")
    header, arrays = _file.read(tmp_path / "model")
    header["parts"]["row_shape"] = {"tuple": list(shape)}
    _file.write(tmp_path / "other", header, arrays)
    fails("cannot be loaded", NoisyDIMTransformer.load, tmp_path / "other", encoder=Convolutions)


def test_an_onnx_file_takes_images(fitted, tmp_path):
    rows = X.astype(np.float32)[:40]
    fitted.to_onnx(tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    (given,) = session.get_inputs()
    assert (given.name, given.shape[1:]) == ("X", [1, 8, 8])
    for n in (1, 40):
        (z,) = session.run(["Z"], {"X": rows[:n]})
        assert_allclose(z, fitted.transform(rows[:n]), rtol=1e-5, atol=1e-5)
