"""Where one process is not enough: training in several, and collections of Dask.

The engines are Accelerate (the extra `accelerate`) and Dask (the extra `dask`); neither is imported
before it is used. A grid search over processes needs nothing of this: whatever runs joblib runs it.
"""

from ._accelerate import fit_data_parallel
from ._dask import DaskTransformer

__all__ = ["DaskTransformer", "fit_data_parallel"]
