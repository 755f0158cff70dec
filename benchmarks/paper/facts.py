"""The nine facts that decide whether noise-injected Deep InfoMax works, measured again.

Each fact is a sub-command, on data that is bundled or generated; without one, all nine are
measured and written to docs/paper/fact_*.csv, which the page "Nine facts" shows.

    OMP_NUM_THREADS=1 python benchmarks/paper/facts.py
    OMP_NUM_THREADS=1 python benchmarks/paper/facts.py whitening --seeds 3

Judged on held-out rows, medians over seeds: *boosting* and *mlp* are AUCs of classifiers that tell
them from draws of the target (0.5 is perfect), *relative* the sliced Wasserstein distance over that
of two samples of the target (1 is perfect), *corr* the largest correlation; LR, NB and kNN are
accuracies.
"""

from __future__ import annotations

import argparse
import math
import time
import warnings
from typing import Any

import common
import datasets
import numpy as np
import torch
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import QuantileTransformer, StandardScaler

from sknoisydim import NoisyDIMTransformer
from sknoisydim.bounds import infonce
from sknoisydim.metrics import (
    classifier_auc,
    energy_test,
    kolmogorov_smirnov,
    max_correlation,
    relative_distance,
)
from sknoisydim.noise import GaussianNoise, UniformNoise, auto_scale

EPOCHS = {"synthetic": 30, "digits": 60}
JUDGED = 2000
MATCH = ("boosting", "mlp", "relative", "corr")
USE = ("LR", "NB", "kNN")
MODELS = (LogisticRegression(max_iter=2000), GaussianNB(), KNeighborsClassifier(5))


def load(name: str) -> Any:
    X, y = datasets.synthetic(10_000) if name == "synthetic" else datasets.digits()
    return train_test_split(X.astype(np.float32), y, test_size=0.3, stratify=y, random_state=0)


def fit(data: Any, seed: int, name: str = "synthetic", **parameters: Any) -> NoisyDIMTransformer:
    settings = {"max_epochs": EPOCHS[name], "random_state": seed}
    settings |= {"keep": None, "match_weight": 0.0, "refine": None} | parameters
    return NoisyDIMTransformer(**settings).fit(data[0], data[2])


def match(Z: np.ndarray, seed: int, reference: str = "normal") -> list[float]:
    rows = Z[:JUDGED].astype(np.float64)
    found = [
        classifier_auc(rows, reference, classifier=c, random_state=seed)
        for c in ("boosting", "mlp")
    ]
    found.append(relative_distance("sliced_wasserstein", rows, reference, random_state=seed))
    return [*found, max_correlation(rows, reference)]


def use(embed: Any, data: Any) -> list[float]:
    X, X_test, y, y_test = data
    Z, Z_test = embed(X), embed(X_test)
    return [model.fit(Z, y).score(Z_test, y_test) for model in MODELS]


def capped(seed: int) -> tuple[Any, list[list[Any]]]:
    """1: InfoNCE cannot see more than log(batch size) nats."""
    data, rows = load("synthetic"), []
    for noise, title in ((0.1, "s = 0.1"), ("auto", f"auto, s = {auto_scale(16, 512):.2f}")):
        for normalization in ("batch", "whiten"):
            settings = {"noise": noise, "normalization": normalization, "clean_weight": 1.0}
            model = fit(data, seed, n_components=16, **settings)
            information = [model.capacity_, model.mutual_information_]
            found = match(model.transform(data[1]), seed)
            rows.append([title, normalization, *information, math.log(512), *found])
    return ("noise, d = 16", "normalised", "capacity", "I", "log B", *MATCH), rows


def whitening(seed: int) -> tuple[Any, list[list[Any]]]:
    """2: normalising each component by itself is not enough for d > 4."""
    rows = []
    for name, d in (("synthetic", 4), ("synthetic", 16), ("digits", 32)):
        data = load(name)
        for normalization in ("batch", "whiten"):
            settings = {"normalization": normalization, "clean_weight": 1.0}
            model = fit(data, seed, name, n_components=d, **settings)
            rows.append([name, d, normalization, *match(model.transform(data[1]), seed)])
    return ("table", "d", "normalised", *MATCH), rows


def statistics(seed: int) -> tuple[Any, list[list[Any]]]:
    """3: finish on clean data: the statistics of views are not those that `transform` meets."""
    data, rows = load("synthetic"), []
    model = fit(data, seed, n_components=8, clean_weight=0.0)
    parts, normalizer = model.encoder_, model.encoder_.normalizer
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        x, test = (parts.scaling(torch.from_numpy(part)) for part in data[:2])
        views = torch.cat([model.net_.module_.augmentation(x, generator) for _ in range(4)])
        for title, source in (("views", views), ("clean rows", x)):
            output = parts.encoder(source).double()
            normalizer.set_statistics(output.mean(0), output.T.cov(correction=0))
            z = normalizer(parts.encoder(test)).numpy().astype(np.float64)
            variances = np.linalg.eigvalsh(np.cov(z.T))
            rows.append([title, float(variances[0]), float(variances[-1]), *match(z, seed)])
    return ("statistics of", "least variance", "largest variance", *MATCH), rows


def native(seed: int) -> tuple[Any, list[list[Any]]]:
    """4: native uniform noise does not scale: below one cell the optimum is the corners."""
    data, rows = load("synthetic"), []
    for d in (1, 2, 4, 16):
        share = math.expm1(0.8 * math.log(512) / d)  # 1/2e at 0.8 log B
        for noise in (UniformNoise(0.5 / share), GaussianNoise()):
            model = fit(data, seed, n_components=d, target="uniform", noise=noise, clean_weight=1.0)
            Z = model.transform(data[1]).astype(np.float64)
            edge = float(((Z < 0.1) | (Z > 0.9)).mean())
            name = "uniform" if isinstance(noise, UniformNoise) else "Gaussian"
            auc = match(Z, seed, "uniform")[:3] if d > 1 else [math.nan, math.nan, math.nan]
            rows.append([d, name, share if name == "uniform" else math.nan, edge, *auc])
    return ("d", "noise", "1/2e", "within 0.1 of an end", *MATCH[:3]), rows


def critic(seed: int) -> tuple[Any, list[list[Any]]]:
    """5: the exact critic is tightest without views, and needs the spread of views with them."""
    data, rows = load("synthetic"), []
    for name in ("exact", "separable"):
        start = time.perf_counter()
        settings = {"critic": name, "augmentation": None, "clean_weight": 0.0}
        model = fit(data, seed, n_components=8, **settings)
        shown = model.history_["train_information"][-1]
        seconds = time.perf_counter() - start
        rows.append(["none", "auto", name, shown, model.mutual_information_, seconds])
    for s in (0.1, 0.3):
        for name in ("exact", "separable"):
            start = time.perf_counter()
            model = fit(data, seed, n_components=8, critic=name, noise=s, clean_weight=0.0)
            shown = model.history_["train_information"][-1]
            seconds = time.perf_counter() - start
            row = ["corruption", f"{s}", name, shown, model.mutual_information_, seconds]
            rows.append(row)
        generator = torch.Generator().manual_seed(seed)
        objective = model.net_.module_
        with torch.no_grad():
            x = model.encoder_.scaling(torch.from_numpy(data[0][:512]))
            view = objective.embed(objective.augmentation(x, generator))
            noisy = model.channel_.transmit(objective.embed(x), generator)
            bare = infonce(model.channel_.log_ratio(view, noisy)).item()
        rows.append(["corruption", f"{s}", "bare density of the noise", bare, math.nan, math.nan])
    return ("view", "s", "critic", "nats it shows", "I of clean rows", "seconds"), rows


def mix(seed: int) -> tuple[Any, list[list[Any]]]:
    """6: mix the two terms: w moves between matching and what views have in common."""
    data, rows = load("synthetic"), []
    for w in (0.0, 0.5, 0.8, 1.0):
        model = fit(data, seed, n_components=8, clean_weight=w)
        rows.append([w, *match(model.transform(data[1]), seed), *use(model.transform, data)])
    return ("w", *MATCH, *USE), rows


def labels(seed: int) -> tuple[Any, list[list[Any]]]:
    """7: labels, where there are some, stay readable."""
    data, rows = load("digits"), []
    rows.append(
        ["raw columns", "", *[math.nan] * 3, *use(StandardScaler().fit(data[0]).transform, data)]
    )
    for supervision, w in ((0.0, 0.0), (0.0, 0.5), (10.0, 0.5), (10.0, 1.0)):
        settings = {"supervision": supervision, "clean_weight": w}
        model = fit(data, seed, "digits", n_components=8, **settings)
        Z = model.transform(data[1]).astype(np.float64)
        found = match(Z, seed)
        p = energy_test(Z, random_state=seed).pvalue
        title = "labels" if supervision else "no labels"
        rows.append([title, w, found[0], found[2], p, *use(model.transform, data)])
    return ("digits, d = 8", "w", "boosting", "relative", "energy test, p", *USE), rows


def blind(seed: int) -> tuple[Any, list[list[Any]]]:
    """8: sliced distances and tests of components are nearly blind to the joint distribution."""
    data, rows = load("synthetic"), []
    quantile = QuantileTransformer(output_distribution="normal", random_state=seed)
    pca = PCA(8, whiten=True, random_state=seed)
    embedders = {
        "PCA(8, whiten) + QuantileTransformer": make_pipeline(StandardScaler(), pca, quantile).fit(
            data[0]
        ),
        "DIM, d = 8, w = 1": fit(data, seed, n_components=8, clean_weight=1.0),
        "DIM, d = 8, w = 0.5": fit(data, seed, n_components=8, clean_weight=0.5),
    }
    for title, embedder in embedders.items():
        Z = embedder.transform(data[1]).astype(np.float64)[:JUDGED]
        rejected = float((kolmogorov_smirnov(Z).pvalue < 0.05).mean())
        rows.append([title, rejected, *match(Z, seed)])
    return ("method", "components that KS rejects", *MATCH), rows


def fine(seed: int) -> tuple[Any, list[list[Any]]]:
    """9: noise hides structure finer than itself; a larger batch or a map afterwards helps."""
    data, rows = load("synthetic"), []
    for w in (1.0, 0.9):
        for batch_size, epochs in ((512, 30), (2048, 120)):  # as many steps
            settings = {"batch_size": batch_size, "max_epochs": epochs, "clean_weight": w}
            model = fit(data, seed, n_components=8, **settings)
            found = [*match(model.transform(data[1]), seed), *use(model.transform, data)]
            rows.append([w, batch_size, "none", model.noise_scale_, *found])
    model = fit(data, seed, n_components=8, clean_weight=1.0, refine="rotation")
    found = [*match(model.transform(data[1]), seed), *use(model.transform, data)]
    rows.append([1.0, 512, "rotation", model.noise_scale_, *found])
    return ("w", "batch", "refine", "s", *MATCH, *USE), rows


FACTS = {
    f.__name__: f for f in (capped, whitening, statistics, native, critic, mix, labels, blind, fine)
}


def median(runs: list[list[list[Any]]]) -> list[list[Any]]:
    """The median of each number over seeds; names are the same in all of them."""
    out = []
    for versions in zip(*runs, strict=True):
        columns = zip(*versions, strict=True)
        out.append(
            [
                float(np.median(column)) if isinstance(column[0], float) else column[0]
                for column in columns
            ]
        )
    return out


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("fact", nargs="*", help=", ".join(FACTS) + "; default: all, and written")
    parser.add_argument("--seeds", type=int, default=1)
    options = parser.parse_args()
    unknown = set(options.fact) - FACTS.keys()
    if unknown:
        parser.error(f"there is no fact {sorted(unknown)}; there are {list(FACTS)}")
    warnings.simplefilter("ignore", ConvergenceWarning)
    print(common.versions())
    for name in options.fact or FACTS:
        start = time.perf_counter()
        runs = [FACTS[name](seed) for seed in range(options.seeds)]
        header, rows = runs[0][0], median([run[1] for run in runs])
        common.show(f"{name}: {FACTS[name].__doc__}", header, rows)
        print(f"({time.perf_counter() - start:.0f} s)", flush=True)
        if not options.fact:
            common.write_table(f"fact_{name}", header, rows)
    if not options.fact:
        seeds = "1 seed" if options.seeds == 1 else f"medians over {options.seeds} seeds"
        command = "OMP_NUM_THREADS=1 python benchmarks/paper/facts.py"
        command += f" --seeds {options.seeds}" * (options.seeds > 1)
        settings = (
            f"Synthetic table of ``benchmarks/datasets.py`` (7,000 training rows, "
            f"{EPOCHS['synthetic']} epochs) and digits (1,257 training rows, {EPOCHS['digits']} "
            f"epochs), ``keep=None, match_weight=0, refine=None``; {seeds}; {JUDGED:,} held-out "
            "rows are judged."
        )
        common.write_note("facts", command, settings)


if __name__ == "__main__":
    main()
