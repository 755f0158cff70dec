"""Transformers that are fitted in a moment, which most tests want."""

from sknoisydim import NoisyDIMTransformer


def small(n_components="auto", **settings):
    """Return what makes a transformer of these settings, but for those that it is given."""
    settings = {"max_epochs": 2, "random_state": 0, "refine": None} | settings

    def make(n_components=n_components, **parameters):
        return NoisyDIMTransformer(n_components, **settings | parameters)

    return make
