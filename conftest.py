"""What holds for every test: set before anything imports scipy or matplotlib."""

import os

# scipy reads this once, when it is imported. Without it scikit-learn refuses to turn its array-API
# dispatch on, and the estimator checks that need it skip themselves without a word.
os.environ["SCIPY_ARRAY_API"] = "1"
# No test opens a window.
os.environ["MPLBACKEND"] = "Agg"

import pytest


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") is not None:
        import torch

        if not torch.cuda.is_available():
            # Such tests are about the device itself; without one nothing is left of them.
            pytest.skip("needs a CUDA device")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # The longest test first: the other processes take what is left meanwhile.
    items.sort(key=lambda item: "test_site.py" not in item.nodeid)
