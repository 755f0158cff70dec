"""Others at the same job: seconds, memory, joint distribution and accuracy on the same rows.

Each method embeds a table into d components. One process a method and seed, one thread, so that
time and memory are its own:

    fit s     CPU seconds of the fit, imports and compilation apart (a small fit goes before)
    rows/ms   transform of the training rows, thousands of rows a second of CPU time
    peak MB   peak of the process in fit and transform, above its start with the data loaded
    relative, boosting, mlp   the match of held-out rows, as in match.py (1, 0.5, 0.5 are perfect)
    LR, kNN   accuracy on held-out rows

CEBRA and UMAP have no target distribution. Their embedding goes through a QuantileTransformer
(normal), as a user would do, and this counts as part of the method. CEBRA has no view of a row of a
table: its positives are rows of the same class, so it sees the labels, and stands beside ours with
labels. The flow does not reduce: it stands behind PCA. SIGReg (LeJEPA, arXiv:2511.08544) has our
encoder, optimiser, schedule and steps, views by corruption, and its objective in the place of ours:
0.95 prediction loss + 0.05 mean over 256 slices of the Epps-Pulley statistic.

    OMP_NUM_THREADS=1 python benchmarks/peers.py             # about 25 minutes
    OMP_NUM_THREADS=1 python benchmarks/peers.py --quick     # one seed of digits

Peers are no dependency of the package: umap-learn, cebra, zuko. One that is not installed is listed
as absent. ParametricUMAP needs tensorflow, and is tried too.
"""

from __future__ import annotations

import argparse
import copy
import ctypes
import importlib
import json
import math
import os
import platform
import re
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from match import accuracies, load
from rivals import epps_pulley
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import LabelEncoder, QuantileTransformer, StandardScaler

from sknoisydim import NoisyDIMTransformer
from sknoisydim._optimizers import one_cycle
from sknoisydim._settings import auto_epochs, resolve_settings
from sknoisydim.metrics import classifier_auc, relative_distance
from sknoisydim.scaling import fit_scaling

COMPONENTS = {"digits": 16, "synthetic": 8, "mnist": 32}
JUDGED_ROWS, COMPARED_ROWS = 4000, 2000
WARM_UP_ROWS = 300
COLUMNS = ("fit s", "rows/ms", "peak MB", "relative", "boosting", "mlp", "LR", "kNN")

# What a method returns: rows to embedding.
Embed = Callable[[np.ndarray], np.ndarray]


def ours(**parameters: Any) -> Callable[..., Embed]:
    """NoisyDIMTransformer, with these parameters besides the defaults."""

    def fit(X: np.ndarray, y: np.ndarray, d: int, seed: int) -> Embed:
        return NoisyDIMTransformer(d, random_state=seed, **parameters).fit(X, y).transform

    return fit


def pca_quantile(X: np.ndarray, y: np.ndarray, d: int, seed: int) -> Embed:
    """Whitened principal components, each mapped by itself."""
    pipe = make_pipeline(
        StandardScaler(),
        PCA(d, whiten=True, random_state=seed),
        QuantileTransformer(output_distribution="normal", random_state=seed),
    )
    return pipe.fit(X).transform


def _with_quantiles(Z: np.ndarray, embed: Embed, seed: int) -> Embed:
    quantile = QuantileTransformer(
        n_quantiles=min(1000, len(Z)), output_distribution="normal", random_state=seed
    ).fit(Z)
    return lambda X: quantile.transform(embed(X))


def umap(X: np.ndarray, y: np.ndarray, d: int, seed: int) -> Embed:
    """UMAP with its own defaults, on scaled columns."""
    from umap import UMAP

    pipe = make_pipeline(StandardScaler(), UMAP(n_components=d, random_state=seed, n_jobs=1))
    return _with_quantiles(pipe.fit_transform(X), pipe.transform, seed)


def parametric_umap(X: np.ndarray, y: np.ndarray, d: int, seed: int) -> Embed:
    """UMAP's objective through a network."""
    from umap.parametric_umap import ParametricUMAP

    scaler = StandardScaler().fit(X)
    model = ParametricUMAP(n_components=d, random_state=seed, verbose=False)
    Z = model.fit_transform(scaler.transform(X))
    return _with_quantiles(Z, lambda rows: model.transform(scaler.transform(rows)), seed)


def cebra(X: np.ndarray, y: np.ndarray, d: int, seed: int) -> Embed:
    """CEBRA with the class as its discrete behaviour, and as many steps as ours takes."""
    from cebra import CEBRA

    scaler = StandardScaler().fit(X)
    batch = min(512, len(X))
    torch.manual_seed(seed)
    model = CEBRA(
        model_architecture="offset1-model",
        batch_size=batch,
        output_dimension=d,
        max_iterations=auto_epochs(len(X), batch) * (len(X) // batch),
        num_hidden_units=256,
        device="cpu",
        verbose=False,
    )
    model.fit(scaler.transform(X).astype(np.float32), LabelEncoder().fit_transform(y))

    def embed(rows: np.ndarray) -> np.ndarray:
        return model.transform(scaler.transform(rows).astype(np.float32))

    return _with_quantiles(embed(X), embed, seed)


def pca_flow(X: np.ndarray, y: np.ndarray, d: int, seed: int) -> Embed:
    """A neural spline flow on whitened principal components, by maximum likelihood.

    It overfits small tables, so a tenth of the rows is held out: training stops after 20 epochs
    without improvement, and goes back to the best weights.
    """
    import zuko

    pipe = make_pipeline(StandardScaler(), PCA(d, whiten=True, random_state=seed)).fit(X)
    Z = torch.as_tensor(pipe.transform(X), dtype=torch.float32)
    torch.manual_seed(seed)
    Z = Z[torch.randperm(len(Z))]
    Z, held_out = Z[len(Z) // 10 :], Z[: len(Z) // 10]
    flow = zuko.flows.NSF(d, transforms=3, hidden_features=(128, 128))
    batch = min(512, len(Z))
    optimizer = torch.optim.AdamW(flow.parameters(), lr=1e-3, weight_decay=1e-2, fused=True)
    best, since, weights = math.inf, 0, copy.deepcopy(flow.state_dict())
    for _ in range(auto_epochs(len(Z), batch)):
        for rows in torch.randperm(len(Z))[: len(Z) // batch * batch].split(batch):
            loss = -flow().log_prob(Z[rows]).mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            loss = -float(flow().log_prob(held_out).mean())
        since += 1
        if loss < best:
            best, since, weights = loss, 0, copy.deepcopy(flow.state_dict())
        if since == 20:
            break
    flow.load_state_dict(weights)

    @torch.no_grad()
    def embed(rows: np.ndarray) -> np.ndarray:
        z = torch.as_tensor(pipe.transform(rows), dtype=torch.float32)
        transform = flow().transform
        return torch.cat([transform(part) for part in z.split(4096)]).double().numpy()

    return embed


def sigreg(X: np.ndarray, y: np.ndarray, d: int, seed: int, share: float = 0.05) -> Embed:
    """LeJEPA's objective with our encoder, optimiser, schedule and steps, and corrupted views."""
    parts = resolve_settings(NoisyDIMTransformer(d), X.shape[1])
    generator = torch.Generator().manual_seed(seed)
    scaling = fit_scaling(parts.scaling, X, seed)
    with torch.no_grad():
        rows = scaling(torch.from_numpy(X)).float()
    encoder = parts.encoder.build(X.shape[1], d, generator)
    batch = min(parts.batch_size, len(rows))
    epochs = auto_epochs(len(rows), batch)
    steps, step = epochs * (len(rows) // batch), 0
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=parts.lr, weight_decay=1e-2, fused=True)
    encoder.train()
    for _ in range(epochs):
        order = torch.randperm(len(rows), generator=generator)
        for index in order[: len(order) // batch * batch].split(batch):
            for group in optimizer.param_groups:
                group["lr"] = one_cycle(step, steps, parts.lr)
            x = rows[index]
            views = [encoder(parts.augmentation(x, generator)) for _ in range(2)]
            centre = (views[0] + views[1]) / 2
            prediction = sum((z - centre).square().mean() for z in views) / 2
            regulariser = sum(epps_pulley(z, generator) for z in views) / 2
            loss = (1 - share) * prediction + share * regulariser
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            step += 1
    encoder.eval()

    @torch.no_grad()
    def embed(raw: np.ndarray) -> np.ndarray:
        parts_of = torch.from_numpy(raw).split(4096)
        return torch.cat([encoder(scaling(part).float()) for part in parts_of]).double().numpy()

    return embed


def quarter(X: np.ndarray, y: np.ndarray, d: int, seed: int) -> Embed:
    """Ours, stopped early by its number of epochs."""
    epochs = math.ceil(auto_epochs(len(X), min(512, len(X))) / 4)
    return ours(max_epochs=epochs)(X, y, d, seed)


# Name, the package it needs, and what fits it.
METHODS: dict[str, tuple[str | None, Callable[..., Embed]]] = {
    "PCA + QuantileTransformer": (None, pca_quantile),
    "PCA + spline flow (zuko)": ("zuko", pca_flow),
    "UMAP + Quantile": ("umap", umap),
    "ParametricUMAP + Quantile": ("tensorflow", parametric_umap),
    "SIGReg (LeJEPA)": (None, sigreg),
    "ours, a quarter of the epochs": (None, quarter),
    "ours": (None, ours()),
    "ours, keep=None": (None, ours(keep=None)),
    "CEBRA + Quantile, labels": ("cebra", cebra),
    "ours, supervision=100": (None, ours(supervision=100.0)),
}


def kilobytes(name: str) -> int:
    """Read one number of /proc/self/status."""
    status = Path("/proc/self/status").read_text()
    found = re.search(name + r":\s+(\d+) kB", status)
    if found is None:
        raise RuntimeError(f"{name} is not in /proc/self/status: memory needs Linux.")
    return int(found.group(1))


def measure(name: str, table: str, d: int, seed: int) -> list[float]:
    """Fit and judge one method in this process."""
    torch.set_num_threads(1)
    X, X_test, y, y_test = load(table)
    fit = METHODS[name][1]
    small = slice(WARM_UP_ROWS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit(X[small], y[small], min(d, 4), seed)(X[small])
        trim = getattr(ctypes.CDLL(None), "malloc_trim", int)
        trim(0)
        Path("/proc/self/clear_refs").write_text("5")
        start = kilobytes("VmRSS")
        clock = time.process_time()
        embed = fit(X, y, d, seed)
        fit_seconds = time.process_time() - clock
        clock = time.process_time()
        Z = embed(X)
        rate = len(X) / (time.process_time() - clock) / 1000
        peak = (kilobytes("VmHWM") - start) / 1024
        Z_test = np.asarray(embed(X_test), dtype=np.float64)
        judged = Z_test[:JUDGED_ROWS]
        relative = relative_distance(
            "sliced_wasserstein", judged[:COMPARED_ROWS], random_state=seed
        )
        aucs = [
            classifier_auc(judged, classifier=c, random_state=seed) for c in ("boosting", "mlp")
        ]
        logistic, _, neighbours = accuracies(Z, y, Z_test, y_test)
    return [fit_seconds, rate, peak, relative, *aucs, logistic, neighbours]


def absent(package: str | None) -> str | None:
    """Say why a method cannot be run here."""
    if package is None:
        return None
    try:
        importlib.import_module(package)
    except ImportError as error:
        return f"absent: {error}"
    return None


def versions() -> str:
    """List what was measured."""
    found = []
    for name in ("sknoisydim", "torch", "scikit-learn", "umap-learn", "cebra", "zuko", "numpy"):
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"{name} absent")
    return ", ".join(found)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", nargs="+", default=["digits", "synthetic"], choices=COMPONENTS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", default="", help="methods whose name holds this text")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        name, table, seed = options.child
        print(json.dumps(measure(name, table, COMPONENTS[table], int(seed))))
        return
    if options.quick:
        options.data, options.seeds = ["digits"], 1
    print(f"{versions()}; Python {platform.python_version()}, {os.cpu_count()} cores")
    print(f"one thread a process; medians over {options.seeds} seeds")
    limit = dict.fromkeys(["OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "MKL_NUM_THREADS"], "1")
    for table in options.data:
        print(f"\n{table}, d = {COMPONENTS[table]}\n\n| method | {' | '.join(COLUMNS)} |")
        print("|---|" + "---|" * len(COLUMNS), flush=True)
        for name, (package, _) in METHODS.items():
            if options.only not in name:
                continue
            reason = absent(package)
            if reason is not None:
                print(f"| {name} | {reason} |", flush=True)
                continue
            runs = []
            for seed in range(options.seeds):
                command = [sys.executable, __file__, "--child", name, table, str(seed)]
                done = subprocess.run(
                    command, env=os.environ | limit, capture_output=True, text=True, check=False
                )
                if done.returncode:
                    last = (done.stderr.strip().splitlines() or ["no message"])[-1]
                    raise SystemExit(f"{name} failed on {table}, seed {seed}: {last}")
                runs.append(json.loads(done.stdout.strip().splitlines()[-1]))
            cells = np.median(runs, axis=0)
            shown = [f"{value:.1f}" for value in cells[:3]] + [f"{v:.3f}" for v in cells[3:]]
            print(f"| {name} | {' | '.join(shown)} |", flush=True)


if __name__ == "__main__":
    main()
