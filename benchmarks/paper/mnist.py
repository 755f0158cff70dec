"""MNIST in two dimensions: match with the target, and accuracy of classifiers, over the noise.

The paper's experiment on the trade-off: embeddings with a normal distribution through Gaussian
noise, and with a uniform one through uniform noise, from an MLP and from a small convolutional
encoder, over six sizes of the noise each. Held-out rows: p-values of D'Agostino and Pearson's test
(the least of the components, by Holm) and of the Henze-Zirkler and the energy test, in the normal
pre-image; AUC of two classifiers that tell them from the target (0.5 is perfect); accuracy of four
classifiers on the embedding.

    OMP_NUM_THREADS=1 python benchmarks/paper/mnist.py --seeds 5      docs/paper/mnist*
    OMP_NUM_THREADS=1 python benchmarks/paper/mnist.py --data DIR     60,000 rows, in idx files
    OMP_NUM_THREADS=1 python benchmarks/paper/mnist.py --quick        prints two lines only
    OMP_NUM_THREADS=1 python benchmarks/paper/mnist.py --protocol --epochs 200      mnist_protocol*

--protocol trains as the paper and its successor do: views only (noise of 0.2 on pixels, a crop of
24 x 24), a critic of concatenated pairs, InfoNCE, Adam with a constant rate of 0.001, batches of
512. Beside it stands the default of the package for the same encoder.
"""

from __future__ import annotations

import argparse
import gzip
import time
import warnings
from pathlib import Path
from typing import Any

import common
import datasets
import matplotlib.pyplot as plt
import numpy as np
import torch
from scipy.stats import normaltest
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from skorch.callbacks import LRScheduler
from torch import Tensor, nn

from sknoisydim import NoisyDIMTransformer
from sknoisydim.metrics import classifier_auc, energy_test, henze_zirkler
from sknoisydim.noise import GaussianNoise, UniformNoise

SCALES = (0.04, 0.08, 0.15, 0.3, 0.6, 1.2)
LEVELS = (24, 12, 8, 4, 3, 2)
JUDGED, TESTED = 2000, 1000
P = ("D'Agostino p", "Henze-Zirkler p", "energy p")
AUC = ("AUC boosting", "AUC mlp")
ACCURACY = ("LR", "NB", "kNN", "MLP")
HEADER = ("target", "encoder", "noise", "capacity", "I", *P, *AUC, *ACCURACY)


# Noise, components and epochs of --protocol.
PROTOCOL_SCALES, PROTOCOL_COMPONENTS, PROTOCOL_EPOCHS = (0.1, 0.3), (2, 5), 200

# The least p-value that is drawn; that of an energy test of 199 permutations is 0.005.
LEAST_P = 1e-4
LABELS = {
    "AUC boosting": "boosted trees",
    "AUC mlp": "network",
    "Henze-Zirkler p": "Henze-Zirkler",
    "energy p": "energy test",
}


class Convolutional(nn.Module):
    """Two convolutions and two linear layers, for rows (n, 784) of pixels."""

    def __init__(self, n_features: int, n_components: int) -> None:
        super().__init__()
        if n_features != 784:
            raise ValueError(f"expected the 784 pixels of MNIST, got {n_features} columns.")
        self.layers = nn.Sequential(
            nn.Conv2d(1, 16, 5, stride=2),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(800, 128),
            nn.ReLU(),
            nn.Linear(128, n_components),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x.reshape(len(x), 1, 28, 28))
        return out


ENCODERS: dict[str, dict[str, Any]] = {
    "mlp": {},
    "convolutional": {"encoder": Convolutional, "scaling": None},
}


# Side of the images, and of the crops; standard deviation of the noise on pixels.
SIDE, CROP, PIXEL_NOISE = 28, 24, 0.2


def noisy_crops(x: Tensor, generator: torch.Generator) -> Tensor:
    """A crop of each image at a place of its own, in the middle of an empty one, and noise."""
    gap = SIDE - CROP
    corners = torch.randint(gap + 1, (2, len(x), 1), generator=generator)
    rows, columns = corners + torch.arange(CROP)
    images = x.reshape(-1, SIDE, SIDE)
    crops = images[torch.arange(len(x))[:, None, None], rows[:, :, None], columns[:, None]]
    crops = nn.functional.pad(crops, (gap // 2,) * 4).reshape(x.shape)
    return crops + PIXEL_NOISE * torch.empty_like(x).normal_(generator=generator)


def constant(epoch: int) -> float:
    """Factor of the learning rate."""
    return 1.0


def protocol(size: float, epochs: int) -> dict[str, Any]:
    """Parameters of the paper's training."""
    return {
        "noise": size,
        "augmentation": noisy_crops,
        "critic": "concat",
        "clean_weight": 0.0,
        "keep": None,
        "match_weight": 0.0,
        "refine": None,
        "optimizer": "adam",
        "lr": 1e-3,
        "callbacks": [LRScheduler("LambdaLR", lr_lambda=constant)],
        "max_epochs": epochs,
    }


def read_idx(folder: Path, name: str) -> np.ndarray:
    """Read one of MNIST's files, compressed or not."""
    path = folder / name
    raw = (
        path.read_bytes()
        if path.exists()
        else gzip.decompress((folder / f"{name}.gz").read_bytes())
    )
    shape = np.frombuffer(raw, ">i4", count=raw[3], offset=4)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * raw[3]).reshape(shape)


def load(folder: Path | None) -> Any:
    """Training and held-out rows in [0, 1], and their digits."""
    if folder is None:
        X, y = datasets.mnist()
        return train_test_split(X / 255, y, test_size=2500, stratify=y, random_state=0)
    parts = []
    for half in ("train", "t10k"):
        images = read_idx(folder, f"{half}-images-idx3-ubyte")
        parts.append(images.reshape(len(images), -1).astype(np.float32) / 255)
    digits = [
        read_idx(folder, f"{half}-labels-idx1-ubyte").astype(int) for half in ("train", "t10k")
    ]
    return *parts, *digits


def judge(model: NoisyDIMTransformer, data: Any, seed: int) -> list[float]:
    X, X_test, y, y_test = data
    z = model.retarget("normal").transform(X_test[:JUDGED]).astype(np.float64)
    few = z[:TESTED]
    found = [
        float(min(1.0, few.shape[1] * normaltest(few).pvalue.min())),
        henze_zirkler(few).pvalue,
        energy_test(few, random_state=seed).pvalue,
    ]
    found += [classifier_auc(z, classifier=c, random_state=seed) for c in ("boosting", "mlp")]
    Z, Z_test = model.transform(X), model.transform(X_test)
    for classifier in (
        LogisticRegression(max_iter=1000),
        GaussianNB(),
        KNeighborsClassifier(5),
        MLPClassifier((64,), max_iter=40, random_state=seed),
    ):
        found.append(classifier.fit(Z, y).score(Z_test, y_test))
    return found


def one(data: Any, target: str, encoder: str, size: float, epochs: Any, seed: int) -> list[float]:
    noise = GaussianNoise(size) if target == "normal" else UniformNoise(0.5 / size)
    model = NoisyDIMTransformer(
        2,
        target,
        noise=noise,
        clean_weight=0.5,
        keep=None,
        match_weight=0,
        refine=None,
        max_epochs=epochs,
        random_state=seed,
        **ENCODERS[encoder],
    ).fit(data[0])
    return [model.capacity_, model.mutual_information_, *judge(model, data, seed)]


def sweep(data: Any, sizes: Any, encoders: Any, epochs: Any, seeds: int) -> list[list[Any]]:
    rows = []
    for target, values in sizes.items():
        for encoder in encoders:
            for size in values:
                start = time.perf_counter()
                runs = [one(data, target, encoder, size, epochs, seed) for seed in range(seeds)]
                name = f"s = {size:g}" if target == "normal" else f"1/2e = {size:g}"
                rows.append([target, encoder, name, *map(float, np.median(runs, axis=0))])
                seconds = time.perf_counter() - start
                print(*map(common.cell, rows[-1]), f"({seconds:.0f} s)", flush=True)
    return rows


def follow_protocol(data: Any, epochs: int, seeds: int) -> list[list[Any]]:
    """The paper's training at each noise, and the default."""
    methods = {f"paper, s = {s:g}": protocol(s, epochs) for s in PROTOCOL_SCALES} | {"default": {}}
    rows = []
    for d in PROTOCOL_COMPONENTS:
        for name, parameters in methods.items():
            runs, start = [], time.perf_counter()
            for seed in range(seeds):
                model = NoisyDIMTransformer(
                    d, random_state=seed, **ENCODERS["convolutional"] | parameters
                ).fit(data[0])
                values = model.capacity_, model.mutual_information_, *judge(model, data, seed)
                runs.append(values)
            rows.append([str(d), name, *map(float, np.median(runs, axis=0))])
            seconds = time.perf_counter() - start
            print(*map(common.cell, rows[-1]), f"({seconds:.0f} s)", flush=True)
    return rows


def draw(rows: list[list[Any]]) -> None:
    """The trade-off: match on the left and in the middle, use on the right."""
    figure, axes = plt.subplots(2, 3, figsize=(11, 6.4))
    styles = {"mlp": "-", "convolutional": "--"}
    panels = (
        (AUC, (common.BLUE, common.SKY), "AUC against the target"),
        (P[1:], (common.RED, common.ORANGE), "p-value, cut at 0.0001"),
        (("LR", "kNN"), (common.GREEN, common.PINK), "accuracy"),
    )
    for line, target in zip(axes, ("normal", "uniform"), strict=True):
        for ax, (columns, colours, title) in zip(line, panels, strict=True):
            for encoder, style in styles.items():
                mine = [row for row in rows if row[:2] == [target, encoder]]
                x = [float(row[2].split("= ")[1]) for row in mine]
                x = x if target == "normal" else [1 / value for value in x]
                for column, colour in zip(columns, colours, strict=True):
                    values = [row[HEADER.index(column)] for row in mine]
                    if column in P:
                        values = np.maximum(values, LEAST_P)
                    label = f"{LABELS.get(column, column)}; {encoder} encoder"
                    ax.plot(x, values, style, marker="o", ms=4, color=colour, label=label)
            ax.set_xscale("log")
            noise = "Gaussian noise s" if target == "normal" else "uniform noise 2e"
            ax.set(xlabel=noise, title=f"{target} target: {title}")
            ax.title.set_fontsize(10)
            ticks = sorted(set(x))
            ax.set_xticks(ticks, [f"{tick:.2g}" for tick in ticks], fontsize=8)
            ax.minorticks_off()
    for ax in axes[:, 1]:
        ax.axhline(0.05, color="0.5", lw=1, ls=":")
        ax.set(yscale="log", ylim=(LEAST_P / 2, 2))
    for ax in axes[:, 0]:
        ax.axhline(0.5, color="0.5", lw=1, ls=":")
    for column, names in ((0, AUC), (2, ("LR", "kNN"))):
        values = [row[HEADER.index(name)] for row in rows for name in names]
        for ax in axes[:, column]:
            ax.set_ylim(min(values) - 0.02, max(values) + 0.02)
    handles = [ax.get_legend_handles_labels() for ax in axes[0]]
    for ax, (lines, names) in zip(axes[1], handles, strict=True):
        ax.legend(
            lines, names, fontsize=8, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.2)
        )
    figure.tight_layout()
    common.write_figure(figure, "mnist_trade_off")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="folder of MNIST's four idx files")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, help="default: what max_epochs='auto' takes")
    parser.add_argument("--quick", action="store_true", help="two fits, nothing is written")
    parser.add_argument("--protocol", action="store_true", help="the paper's own training")
    options = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    print(common.versions())
    try:
        data = load(options.data)
    except FileNotFoundError as error:
        print(f"skipped: MNIST is not there. {error}. Name its folder with --data.")
        return
    print(f"{len(data[0]):,} training rows, {len(data[1]):,} held out")
    if options.quick:
        small = [data[0][:2000], *data[1:2], data[2][:2000], data[3]]
        common.show(
            "MNIST, d = 2",
            HEADER,
            sweep(small, {"normal": (0.3,), "uniform": (4,)}, ENCODERS, 5, 1),
        )
        return
    command = (
        "OMP_NUM_THREADS=1 python benchmarks/paper/mnist.py" + " --protocol" * options.protocol
    )
    command += f" --seeds {options.seeds}" + f" --epochs {options.epochs}" * bool(options.epochs)
    command += " --data DIR" * bool(options.data)
    seeds = "1 seed" if options.seeds == 1 else f"medians over {options.seeds} seeds"
    text = f"{len(data[0]):,} training rows, {len(data[1]):,} held out; {seeds}"
    judged = f"Tests on {TESTED:,} rows, AUC on {JUDGED:,}."
    if options.protocol:
        epochs = options.epochs or PROTOCOL_EPOCHS
        rows = follow_protocol(data, epochs, options.seeds)
        header = ("d", "training", *HEADER[3:])
        common.show("MNIST by the paper's protocol", header, rows)
        common.write_table("mnist_protocol", header, rows)
        common.write_note("mnist_protocol", command, f"{text}, {epochs} epochs. {judged}")
        return
    sizes = {"normal": SCALES, "uniform": LEVELS}
    rows = sweep(data, sizes, ENCODERS, options.epochs or "auto", options.seeds)
    common.show("MNIST, d = 2", HEADER, rows)
    common.write_table("mnist", HEADER, rows)
    draw(rows)
    common.write_note(
        "mnist",
        command,
        f"{text}, {options.epochs or 'automatic'} epochs, "
        f"``clean_weight=0.5, keep=None, match_weight=0, refine=None``. {judged}",
    )


if __name__ == "__main__":
    main()
