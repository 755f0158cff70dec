"""UniformCodes: cells of equal probability, codes that nest, neighbours, strata."""

import numpy as np
import sklearn
from over import over
from scipy.stats import norm
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import StratifiedKFold, train_test_split
from small import fails, samples, small

from sknoisydim import NoisyDIMTransformer, UniformCodes

# About the largest distance of a point of (-4, 4)^d to the nearest of 200,000 in its cell.
SPACING = {1: 0.001, 2: 0.1, 3: 0.5, 4: 1.0}
LAYOUTS = {"even": (6, 2), "uneven": (7, 3), "one": (5, 1), "a bit each": (4, 4)}
quick = small(2, keep="pca", max_epochs=3, refine="rotation", random_state=None)


def codes(n_components=2, **parameters):
    return UniformCodes(**{"transformer": quick(n_components), "random_state": 0} | parameters)


class Embedded(UniformCodes):
    """Cells of samples that are their own normal embedding."""

    def _embed(self, X):
        return X


def cells_of(bits, d, n=2000):
    Z = np.random.default_rng([bits, d]).standard_normal((n, d))
    dim = NoisyDIMTransformer(d, max_epochs=1, random_state=0)
    return Embedded(dim, bits=bits).fit(Z[:50]), Z


@over(layout=LAYOUTS)
def test_edges_are_those_of_the_target(layout):
    model, Z = cells_of(*layout)
    assert model.n_slices_.prod() == 2 ** layout[0] > model.codes(Z).max()
    slices = np.floor(norm.cdf(Z) * model.n_slices_)
    _, one = np.unique(slices, axis=0, return_inverse=True)
    _, other = np.unique(model.codes(Z), return_inverse=True)
    assert len(np.unique(np.c_[one, other], axis=0)) == one.max() + 1 == other.max() + 1


@over("bits, d", LAYOUTS)
def test_codes_are_the_bits_and_those_of_fewer_bits_their_beginning(bits, d):
    model, Z = cells_of(bits, d)
    found = model.transform(Z)
    assert found.shape == (len(Z), bits)
    assert found.dtype == np.uint8
    written = ["".join(map(str, row)) for row in found]
    np.testing.assert_array_equal(model.codes(Z), [int(text, 2) for text in written])
    if bits > d:
        shorter = Embedded(FrozenEstimator(model.transformer_), bits=bits - 1).fit(Z)
        np.testing.assert_array_equal(model.codes(Z) >> 1, shorter.codes(Z))


@over(layout=LAYOUTS)
def test_cells_beside_each_other_differ_in_one_bit(layout):
    model, _ = cells_of(*layout)
    size = model.n_slices_[0]
    # A walk through the slices of the first component, in the middle of all others.
    walk = np.zeros((size, layout[1])) + 0.1
    walk[:, 0] = norm.ppf((np.arange(size) + 0.5) / size)
    steps = np.abs(np.diff(model.transform(walk).astype(int), axis=0)).sum(1)
    assert (steps == 1).all()


@over("bits, d", LAYOUTS)
def test_nearest_cells_are_those_of_the_shortest_distance(bits, d, monkeypatch):
    model, Z = cells_of(bits, d)
    near = model.nearest_cells(Z[:50], 2**bits)
    monkeypatch.setattr("sknoisydim._codes.N_DISTANCES", 7 * 2**bits)  # in blocks
    np.testing.assert_array_equal(model.nearest_cells(Z[:50], 2**bits), near)
    monkeypatch.undo()
    np.testing.assert_array_equal(near[:, 0], model.codes(Z[:50]))
    np.testing.assert_array_equal(np.sort(near, axis=1), np.tile(np.arange(2**bits), (50, 1)))
    # The nearest of many points of a cell is as far as the cell, but for their spacing.
    points = np.random.default_rng(0).uniform(-4, 4, size=(200_000, d))
    cell = model.codes(points)
    for z, order in zip(Z[:5], near[:5], strict=True):
        far = np.full(2**bits, np.inf)
        np.minimum.at(far, cell, np.linalg.norm(points - z, axis=1))
        assert (np.diff(far[order]) > -SPACING[d]).all()


@over(min_samples=(1, 2, 10, 50, 10_000))
def test_strata_are_joined_cells_that_a_split_can_take(min_samples):
    model, Z = cells_of(6, 2, n=500)
    labels, found = model.strata(Z, min_samples), model.codes(Z)
    counts = np.bincount(labels)
    # What is left at the end may be too little for a label, for some numbers.
    for least in range(min_samples, min_samples + 20):
        assert np.bincount(model.strata(Z, least)).min() >= min(least, len(Z))
    assert (np.diff(labels[np.argsort(found, kind="stable")]) >= 0).all()
    assert len(np.unique(np.c_[found, labels], axis=0)) == len(np.unique(found))
    if min_samples == 1:
        assert len(counts) == len(np.unique(found))
    if min_samples == 10:
        assert len(counts) > 30
        train_test_split(Z, test_size=0.1, stratify=labels)
        for _, test in StratifiedKFold(10).split(Z, labels):
            shares = np.bincount(labels[test], minlength=len(counts)) / (counts / 10)
            assert np.abs(shares - 1).max() <= 1


# Half the bits, no more than features, and a column.
@over("bits, n_features, n_components", [(7, 4, 4), (16, 3, 3), (4, 1, 1)])
def test_default_transformer(bits, n_features, n_components):
    X = samples(60, 2)[:, :n_features]
    model = UniformCodes(bits=bits, random_state=0).fit(X)
    assert model.transformer_.n_components_ == n_components
    assert (model.transform(X).shape, model.nearest_cells(X).shape) == ((60, bits), (60, 8))


def test_codes_are_those_of_the_uniform_embedding():
    X = samples(300, 3)
    dim = quick(random_state=0, target="uniform").fit(X)
    model = UniformCodes(FrozenEstimator(dim), bits=6).fit(X)
    slices = np.floor(model.transformer_.transform(X) * model.n_slices_)
    np.testing.assert_array_equal(model.codes(X), model._pack(slices.astype(int)))


def test_labels_are_for_the_transformer():
    X, y = samples(200, 6), np.repeat(["a", "b"], 100)
    model = codes(transformer=quick(supervision=10.0, missing="indicator"), bits=4).fit(X, y)
    assert sklearn.utils.get_tags(model).target_tags.required
    assert sklearn.utils.get_tags(model).input_tags.allow_nan


def test_cells_that_are_too_many_are_said():
    model = codes(bits=17).fit(samples(50, 8))
    assert model.codes(samples(50, 8)).max() < 2**17
    fails("at most 16 bits, got bits=17", model.nearest_cells, samples(5, 8))
    few, message = codes(bits=4).fit(samples(50, 8)), "n_cells must be an integer >= 1 and <= 16"
    fails(message, few.nearest_cells, samples(5, 8), 17)
    fails("min_samples must be an integer >= 1", model.strata, samples(5, 8), 0)
