"""Save models of the current format: PYTHONPATH=tests python tests/saved_models/make.py

Run it once, when `FORMAT_VERSION` in sknoisydim/_persistence/_file.py moves, in the version that
is released with it. What is here already is never written again.
"""

from pathlib import Path

import numpy as np
from test_persistence import X_NEW, choose

from sknoisydim._persistence._file import FORMAT_VERSION

HERE = Path(__file__).parent
# Of the choices of tests/test_persistence.py.
NAMES = ["critic-concat", "critic-separable", "bound-dv", "bound-smile", "noise-number", "compose"]
NAMES += ["scaling-quantile", "scikit-learn-scaling", "missing", "residual", "rotation-object"]
NAMES += ["product", "newer-uniform", "covariance", "ball", "box"]


if __name__ == "__main__":
    folder = HERE / f"format-{FORMAT_VERSION}"
    folder.mkdir()  # an error where it is there already
    np.save(folder / "rows.npy", X_NEW[:10])
    for name in NAMES:
        model = choose(name)
        model.save(folder / f"{name}.safetensors")
        np.save(folder / f"{name}.npy", model.transform(X_NEW[:10]))
