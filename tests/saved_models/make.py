"""Save the models of the current format: python tests/saved_models/make.py

Run it once, when `FORMAT_VERSION` in sknoisydim/_persistence/_file.py moves, in the version that
is released with it. What is here already is never written again.
"""

from pathlib import Path

import numpy as np
from scipy import stats
from sklearn.preprocessing import StandardScaler

from sknoisydim import NoisyDIMTransformer
from sknoisydim._persistence._file import FORMAT_VERSION
from sknoisydim.augmentations import Compose, FeatureCorruption
from sknoisydim.bounds import DonskerVaradhan
from sknoisydim.critics import SeparableCritic
from sknoisydim.encoders import MLPEncoder
from sknoisydim.targets import MultivariateNormal, Uniform, UniformBall

HERE = Path(__file__).parent
COLUMNS = 4
MODELS = {
    "plain": {},
    "uniform": {"target": "uniform", "critic": "concat", "bound": "smile", "scaling": "standard"},
    "quantile": {"scaling": "quantile", "critic": "bilinear", "bound": "dv", "target": Uniform(-1)},
    "scaler": {"scaling": StandardScaler(), "critic": "exact", "bound": "nwj", "noise": 0.5},
    "views": {"augmentation": Compose(["jitter", FeatureCorruption(0.3, groups=[[0, 1]])])},
    "residual": {"encoder": MLPEncoder((8, 8), "gelu", residual=True), "normalization": "batch"},
    "laws": {"target": ["uniform", stats.expon(), stats.beta(2, b=5)], "n_components": 3},
    "newer-law": {"target": stats.Uniform(a=-1.0, b=2.0), "bound": DonskerVaradhan(0.2)},
    "joint": {"target": MultivariateNormal([1, 0], [[2, 0.5], [0.5, 1]]), "n_components": 2},
    "ball": {"target": UniformBall(2.0), "scaling": None, "augmentation": None},
    "rotation": {"refine": "rotation", "clean_weight": 1.0},
    "separable": {"critic": "separable"},
}


def main():
    folder = HERE / f"format-{FORMAT_VERSION}"
    folder.mkdir()  # an error where it is there already
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, COLUMNS)) @ rng.normal(size=(COLUMNS, COLUMNS)) + 5
    rows = rng.normal(size=(10, COLUMNS)) + 5
    np.save(folder / "rows.npy", rows)
    for name, parameters in MODELS.items():
        small = {"encoder": MLPEncoder((8,)), "critic": SeparableCritic((8,), 4)}
        small |= {"refine": None, "max_epochs": 2, "batch_size": 64, "random_state": 0}
        model = NoisyDIMTransformer(**small | parameters).fit(X)
        model.save(folder / f"{name}.safetensors")
        np.save(folder / f"{name}.npy", model.transform(rows))


if __name__ == "__main__":
    main()
