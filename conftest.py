"""What holds for every test: set before anything imports scipy or matplotlib."""

import os

# scipy reads this once, when it is imported. Without it scikit-learn refuses to turn its array-API
# dispatch on, and the estimator checks that need it skip themselves without a word.
os.environ["SCIPY_ARRAY_API"] = "1"
# No test opens a window.
os.environ["MPLBACKEND"] = "Agg"

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module")
def fitted(request: pytest.FixtureRequest) -> object:
    """What `dim` of a module makes of its X, for tests that only look at it."""
    return request.module.dim().fit(request.module.X)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """What is drawn is the same bit for bit for one number of threads; other processes have one."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)  # noqa: TID251 (it is put back)
    yield
    torch.set_num_threads(before)  # noqa: TID251 (as it was)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") is not None:
        import torch

        if not torch.cuda.is_available():
            # Such tests are about the device itself; without one nothing is left of them.
            pytest.skip("needs a CUDA device")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # The longest test first: the other processes take what is left meanwhile.
    items.sort(key=lambda item: "test_site.py" not in item.nodeid)
