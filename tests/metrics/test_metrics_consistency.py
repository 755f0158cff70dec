"""Two embeddings of the same samples."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.spatial import procrustes
from scipy.stats import ortho_group

from sknoisydim.metrics import align, consistency, effective_rank

RNG = np.random.default_rng(0)
Z = RNG.standard_normal((500, 4)) * [2.0, 1.0, 1.0, 0.5]
R = ortho_group.rvs(4, random_state=0)


def test_a_turn_a_shift_and_a_scale_change_nothing():
    found = consistency(Z, 1e200 * (Z @ R + 3))
    assert_allclose([found.cka, found.procrustes], 1)
    assert_allclose(align(Z @ R + 3, Z), Z)


def test_values_are_those_of_the_definitions():
    other = Z[:, :3] + RNG.standard_normal((500, 3))
    found, back = consistency(Z, other), consistency(other, Z)
    K, L = ((C @ C.T) for C in (Z - Z.mean(0), other - other.mean(0)))
    assert_allclose(found.cka, (K * L).sum() / np.linalg.norm(K) / np.linalg.norm(L))
    padded = np.column_stack([other, np.zeros(500)])
    assert_allclose(found.procrustes, 1 - procrustes(Z, padded)[2])
    assert_allclose([found.cka, found.procrustes], [back.cka, back.procrustes])


def test_what_has_nothing_in_common():
    found = consistency(Z, RNG.standard_normal((500, 4)))
    assert max(found.cka, found.procrustes) < 0.05
    constant = consistency(Z, np.full((500, 2), 7.3))
    assert constant.cka == constant.procrustes == 0


def test_the_effective_rank_counts_directions():
    assert effective_rank(np.vstack([np.eye(4), -np.eye(4)])) == pytest.approx(4)
    assert effective_rank(Z[:, :1] @ RNG.standard_normal((1, 5))) == pytest.approx(1, abs=1e-6)
    assert effective_rank(np.ones((9, 3))) == 0
    assert effective_rank(Z) == pytest.approx(effective_rank(1e-200 * Z @ R), abs=1e-6)
    assert 3 < effective_rank(Z) < 4


def test_what_does_not_fit_together():
    with pytest.raises(ValueError, match="Z1 has 500 samples and Z2 400"):
        consistency(Z, Z[:400])
    with pytest.raises(ValueError, match=r"Z1 has \d components and Z2 3: both need as many"):
        align(Z, Z[:, :3])
    with pytest.raises(ValueError, match="Z2 contains NaN"):
        consistency(Z, np.full((500, 2), np.nan))
