"""The intrinsic dimension: that of the rows, whatever their coordinates."""

import numpy as np
import pytest

from sknoisydim.metrics import intrinsic_dimension


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def curved(latent, rng, p=12):
    """A smooth, injective map of latent rows (n, k) to p columns."""
    k = latent.shape[1]
    return np.hstack([latent, np.sin(latent @ rng.standard_normal((k, p - k)))])


@pytest.mark.parametrize("k", [1, 2, 4])
def test_of_a_curved_surface(k, rng):
    found = [intrinsic_dimension(curved(rng.uniform(size=(1500, k)), rng)) for _ in range(3)]
    # Four standard deviations of a mean of three, and what the edges take away.
    assert np.mean(found) == pytest.approx(k, abs=4 * k / np.sqrt(4500) + 0.06 * k)


def test_coordinates_do_not_matter(rng):
    rows = curved(rng.uniform(size=(500, 3)), rng)
    turn = np.linalg.qr(rng.standard_normal((12, 12)))[0]
    expected = intrinsic_dimension(rows)
    assert intrinsic_dimension(1e-6 * rows @ turn + 3.0) == pytest.approx(expected, rel=1e-4)
    assert intrinsic_dimension(np.hstack([rows, np.ones((500, 4))])) == pytest.approx(expected)
    assert intrinsic_dimension(rows[::-1]) == pytest.approx(expected)


def test_repeated_rows_count_once(rng):
    rows = rng.standard_normal((200, 3))
    assert intrinsic_dimension(np.vstack([rows, rows, rows])) == intrinsic_dimension(rows)


def test_noise_counts_as_dimensions(rng):
    flat = np.hstack([rng.standard_normal((1000, 2)), np.zeros((1000, 3))])
    noisy = flat + 0.3 * rng.standard_normal(flat.shape)
    assert intrinsic_dimension(noisy) > intrinsic_dimension(flat) + 1


@pytest.mark.parametrize(
    "rows",
    [
        np.arange(40.0)[:, None],
        np.stack(np.meshgrid(np.arange(9.0), np.arange(9.0)), axis=-1).reshape(-1, 2),
        np.ones((50, 3)),
        np.random.default_rng(0).standard_normal((19, 2)),
    ],
    ids=["numbers", "lattice", "constant", "few"],
)
def test_where_there_is_no_answer(rows):
    assert np.isnan(intrinsic_dimension(rows))


def test_large_tables_are_subsampled(rng):
    rows = rng.standard_normal((20_000, 2))
    assert intrinsic_dimension(rows, random_state=0) == intrinsic_dimension(rows, random_state=0)
    assert intrinsic_dimension(rows, random_state=0) != intrinsic_dimension(rows, random_state=1)
    assert intrinsic_dimension(rows) == pytest.approx(2, abs=0.15)
