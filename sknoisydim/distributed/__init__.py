"""Training in several processes, and collections of Dask, by the extras `accelerate` and `dask`.

Neither engine is imported before it is used. A grid search needs none: what runs joblib runs it.
"""

from ._accelerate import fit_data_parallel
from ._dask import DaskTransformer

__all__ = ["DaskTransformer", "fit_data_parallel"]
