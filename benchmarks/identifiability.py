"""Does a linear model of the embedding find the latents behind nonlinear observations?

Latents of d independent components, normal or uniform, of unit variance, are mixed by four
additive coupling layers: half of the components is added tanh(z W) of the other half, with W twice
a random rotation. The mixing can be inverted exactly, so a pair of an observation can be drawn: its
latents s become 0.95 s + sqrt(1 - 0.95^2) s', with s' of the same distribution. These are the
mixing and the pairs of the public experiments of D. Klindt, Y. LeCun, R. Balestriero, "When Does
LeJEPA Learn a World Model?" (https://github.com/klindtlab/lejepa-identifiability), which proves
that pairs that agree and a normal embedding are enough if the latents are normal. Theirs has other
encoders and 20,000 steps. Ours, with pairs, maximises the information between the noisy embedding
of one and the embedding of the other.

5,000 observations are fitted, and 5,000 judged. What trains has the same encoder (two hidden layers
of 256 units), batches of 256 and the same number of steps. R^2 is that of a linear model from the
embedding to the latents, pooled over components: mean, and largest minus smallest over seeds.

    OMP_NUM_THREADS=1 python benchmarks/identifiability.py              # ten minutes
    OMP_NUM_THREADS=1 python benchmarks/identifiability.py --seeds 1 --d 4 --steps 500
"""

from __future__ import annotations

import argparse
import platform
import time
import warnings
from collections.abc import Callable

import numpy as np
import sklearn
import torch
from rivals import encoder, epps_pulley
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LinearRegression
from torch import nn

import sknoisydim
from sknoisydim import NoisyDIMTransformer
from sknoisydim._optimizers import one_cycle
from sknoisydim.encoders import MLPEncoder

N_ROWS, BATCH_SIZE, PEAK = 5000, 256, 3e-3
CORRELATION = 0.95

Embed = Callable[[np.ndarray], np.ndarray]


def draw(shape: tuple[int, ...], kind: str, generator: torch.Generator) -> torch.Tensor:
    """Draw latents of unit variance."""
    if kind == "normal":
        return torch.randn(shape, generator=generator)
    return (2 * torch.rand(shape, generator=generator) - 1) * 3**0.5


class World:
    """Latents, their mixing, and pairs of observations."""

    def __init__(self, d: int, kind: str, seed: int, n_layers: int = 4) -> None:
        self.d, self.kind = d, kind
        self.generator = torch.Generator().manual_seed(seed)
        squares = torch.randn((n_layers, d // 2, d // 2), generator=self.generator)
        self.weights = 2 * torch.linalg.qr(squares)[0]

    def mix(self, s: torch.Tensor) -> torch.Tensor:
        a, b = s.chunk(2, dim=1)
        for i, W in enumerate(self.weights):
            a, b = (a, b + torch.tanh(a @ W)) if i % 2 == 0 else (a + torch.tanh(b @ W), b)
        return torch.cat([a, b], dim=1)

    def unmix(self, x: torch.Tensor) -> torch.Tensor:
        a, b = x.chunk(2, dim=1)
        for i, W in reversed(list(enumerate(self.weights))):
            a, b = (a, b - torch.tanh(a @ W)) if i % 2 == 0 else (a - torch.tanh(b @ W), b)
        return torch.cat([a, b], dim=1)

    def __call__(self, x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Return an observation beside each of a batch: a view for `augmentation`."""
        other = draw(tuple(x.shape), self.kind, generator)
        return self.mix(CORRELATION * self.unmix(x) + (1 - CORRELATION**2) ** 0.5 * other)

    def observations(self) -> tuple[torch.Tensor, torch.Tensor]:
        s = draw((N_ROWS, self.d), self.kind, self.generator)
        return self.mix(s), s


def pca(world: World, X: torch.Tensor, steps: int, seed: int) -> Embed:
    """As many principal components as columns: R^2 is that of the observations themselves."""
    return PCA(whiten=True).fit(X.numpy()).transform


def ours(pairs: bool, **parameters: object) -> Callable[..., Embed]:
    """Return the transformer on the observations as they are, with pairs as views or without."""

    def fit(world: World, X: torch.Tensor, steps: int, seed: int) -> Embed:
        views = {"augmentation": world, "critic": "exact", "clean_weight": 0.0} if pairs else {}
        dim = NoisyDIMTransformer(
            world.d,
            scaling=None,
            encoder=MLPEncoder((256, 256), dropout=0.0),
            batch_size=BATCH_SIZE,
            max_epochs=max(1, steps // (N_ROWS // BATCH_SIZE)),
            random_state=seed,
            **(views | parameters),
        )
        return dim.fit(X.numpy()).transform

    return fit


def sigreg(weight: float) -> Callable[..., Embed]:
    """LeJEPA (arXiv:2511.08544): pairs agree, and random slices are normal, at this weight."""

    def fit(world: World, X: torch.Tensor, steps: int, seed: int) -> Embed:
        torch.manual_seed(seed)
        generator = torch.Generator().manual_seed(seed)
        network: nn.Module = encoder(world.d, world.d)
        optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.01, fused=True)
        for step in range(steps):
            optimizer.param_groups[0]["lr"] = one_cycle(step, steps, PEAK)
            rows = X[torch.randperm(len(X), generator=generator)[:BATCH_SIZE]]
            z, other = network(torch.cat([rows, world(rows, generator)])).chunk(2)
            agreement = (z - other).square().mean() / 4
            normality = epps_pulley(torch.cat([z, other]), generator, slices=64)
            loss = (1 - weight) * agreement + weight * normality
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        network.eval()

        @torch.no_grad()
        def embed(rows: np.ndarray) -> np.ndarray:
            return network(torch.from_numpy(rows)).numpy()

        return embed

    return fit


# Weights by trial on normal latents of d = 4, two seeds: of 0.0001, 0.001 and 0.01 for SIGReg 0.001
# is the best; of 0, 0.1 and 1 for ours the first two are alike.
METHODS: dict[str, Callable[..., Embed]] = {
    "PCA": pca,
    "ours, without pairs": ours(False),
    "ours, pairs": ours(True, keep=None, match_weight=0.1),
    "SIGReg, pairs": sigreg(0.001),
}


def measure(d: int, kind: str, seed: int, steps: int, fit: Callable[..., Embed]) -> list[float]:
    """Return the pooled R^2 of held-out latents, and seconds of the fit."""
    world = World(d, kind, seed)
    X, s = world.observations()
    X_new, s_new = world.observations()
    start = time.process_time()
    embed = fit(world, X, steps, seed)
    seconds = time.process_time() - start
    model = LinearRegression().fit(embed(X.numpy()), s.numpy())
    left = np.square(s_new.numpy() - model.predict(embed(X_new.numpy()))).sum()
    return [1 - left / np.square(s_new.numpy() - s_new.numpy().mean(0)).sum(), seconds]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--d", type=int, nargs="+", default=[4, 8, 16])
    parser.add_argument("--latents", nargs="+", default=["normal", "uniform"])
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=1000)
    given = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", ConvergenceWarning)
    print(
        f"Python {platform.python_version()}, torch {torch.__version__}, scikit-learn "
        f"{sklearn.__version__}, numpy {np.__version__}, sknoisydim {sknoisydim.__version__}; "
        f"{given.steps} steps, {given.seeds} seeds"
    )
    for kind in given.latents:
        for d in given.d:
            print(
                f"\n{kind} latents, d = {d}\n{'':26} {'R^2':>6} {'spread':>7} {'s':>6}", flush=True
            )
            for name in given.methods:
                found = np.array(
                    [measure(d, kind, s, given.steps, METHODS[name]) for s in range(given.seeds)]
                )
                r2, seconds = found.T
                print(
                    f"{name:26} {r2.mean():6.3f} {np.ptp(r2):7.3f} {seconds.mean():6.1f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
