"""Where the time of a step goes, and how that of a fit grows.

    OMP_NUM_THREADS=1 python benchmarks/steps.py                     # about 10 minutes on one core
    OMP_NUM_THREADS=1 python benchmarks/steps.py --only shares       # about 1 minute
    OMP_NUM_THREADS=1 python benchmarks/steps.py --picture PATH      # draws the growth, too

shares    Each part of a training step by itself, forward and backward, against the whole step, in
          turns; default settings, batch 512.
compile   torch.compile of the encoder against the encoder as it is: the ratio of whole steps, and
          how many of them pay for the compilation.
bf16      The encoder under torch.autocast in bfloat16, against float32, in whole steps.
growth    A fit of so many epochs against rows (1e3 to 1e6), columns (10 to 1,000) and components
          (2 to 128): median of repeats in turns. Rows: time = a + b rows, fitted to the logs, and
          the largest deviation from it.

The clock is CPU time, which other processes on the machine disturb least.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy.optimize import curve_fit

import sknoisydim
from sknoisydim import NoisyDIMTransformer
from sknoisydim._objective import Objective
from sknoisydim._settings import resolve_settings

BATCH = 512
COLUMNS = 50
D = 16


def table(n_rows: int, n_columns: int = COLUMNS) -> np.ndarray:
    """Correlated columns of float32."""
    rng = np.random.default_rng(0)
    mixing = rng.standard_normal((n_columns, n_columns), dtype=np.float32)
    return rng.standard_normal((n_rows, n_columns), dtype=np.float32) @ mixing


class Step:
    """One optimisation step of the default objective on rows that are scaled already."""

    def __init__(self, encoder: Callable[[Any], Any] = lambda encoder: encoder) -> None:
        parts = resolve_settings(NoisyDIMTransformer(D), COLUMNS)
        self.generator = torch.Generator().manual_seed(0)
        self.rows = torch.from_numpy(table(20_000))
        channel = parts.noise.build(D, BATCH)
        self.objective = Objective(
            encoder(parts.encoder.build(COLUMNS, D, self.generator)),
            parts.normalization.build(D),
            channel,
            parts.critic.build(D, channel, self.generator),
            parts.bound,
            parts.augmentation,
            parts.clean_weight,
        ).train()
        self.optimizer = torch.optim.AdamW(self.objective.parameters(), lr=3e-3, fused=True)

    def batch(self) -> torch.Tensor:
        """Rows by index."""
        index = torch.randint(len(self.rows), (BATCH,), generator=self.generator)
        return self.rows.index_select(0, index)

    def __call__(self) -> None:
        x = self.batch()
        self.optimizer.zero_grad(set_to_none=True)
        (-self.objective(x, x, self.generator).objective).backward()
        self.optimizer.step()


def backward(function: Callable[..., torch.Tensor], *inputs: torch.Tensor) -> Callable[[], None]:
    """Return forward and backward of a function, to its inputs and parameters."""
    leaves = [value.detach().requires_grad_() for value in inputs]

    def run() -> None:
        output = function(*leaves)
        output.backward(torch.ones_like(output))
        for leaf in leaves:
            leaf.grad = None

    return run


def medians(works: dict[str, Callable[[], Any]], rounds: int, repeat: int) -> dict[str, float]:
    """CPU seconds of one call of each, in turns."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            start = time.process_time()
            for _ in range(repeat):
                work()
            times[name].append((time.process_time() - start) / repeat)
    return {name: float(np.median(values)) for name, values in times.items()}


def print_shares(rounds: int) -> None:
    step = Step()
    for _ in range(20):
        step()
    objective, generator = step.objective, step.generator
    x = step.batch()
    view = objective._view(x, x, generator)
    with torch.no_grad():
        h = objective.encoder(x)
        z = objective.normalizer(h)
        noisy = objective.channel.transmit(z, generator)
        scores = objective.channel.log_ratio(z, noisy)

    def encode(rows: torch.Tensor, drop: bool) -> Callable[[], None]:
        def run() -> None:
            with objective._dropping(drop):
                output = objective.encoder(rows)
            output.backward(torch.ones_like(output))

        return run

    works = {
        "the whole step": step,
        "rows by index, and their views": lambda: objective._view(step.batch(), x, generator),
        "encoder, rows": encode(x, False),
        "encoder, views (with dropout)": encode(view, True),
        "whitening, twice": backward(
            lambda a, b: objective.normalizer(a) + objective.normalizer(b), h, h
        ),
        "noise": lambda: objective.channel.transmit(z, generator),
        "exact critic, (B, B) scores": backward(objective.channel.log_ratio, z, noisy),
        "separable critic, (B, B) scores": backward(objective.critic, z, noisy),
        "InfoNCE of (B, B) scores, twice": backward(
            lambda a, b: objective.bound(a) + objective.bound(b), scores, scores
        ),
        "optimiser": step.optimizer.step,
    }
    found = medians(works, rounds, 5)
    whole = found.pop("the whole step")
    print(f"\nShares of a step: batch {BATCH}, {COLUMNS} columns, d = {D}, default encoder\n")
    print("| part | ms | share |\n|---|---|---|")
    for name, seconds in found.items():
        print(f"| {name} | {1e3 * seconds:.2f} | {seconds / whole:.1%} |")
    rest = whole - sum(found.values())
    print(f"| what is left: sums, autograd | {1e3 * rest:.2f} | {rest / whole:.1%} |")
    print(f"| the whole step | {1e3 * whole:.2f} | 100 % |")


def print_compiled(rounds: int) -> None:
    plain, compiled = Step(), Step(torch.compile)
    start = time.process_time()
    compiled()
    compiled()
    warm_up = time.process_time() - start
    found = medians({"plain": plain, "compiled": compiled}, rounds, 10)
    gain = found["plain"] - found["compiled"]
    print("\ntorch.compile of the encoder, CPU seconds\n")
    print(
        f"first two steps {warm_up:.1f} s; a step {1e3 * found['compiled']:.2f} ms, without ",
        end="",
    )
    print(
        f"{1e3 * found['plain']:.2f} ms: ratio {found['compiled'] / found['plain']:.3f}; ", end=""
    )
    print(f"pays from {warm_up / gain:,.0f} steps on" if gain > 0 else "never pays")


class InBfloat16(torch.nn.Module):
    """An encoder whose matrix products are taken in bfloat16."""

    def __init__(self, encoder: torch.nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.autocast(x.device.type, torch.bfloat16):
            return self.encoder(x).float()


def print_bfloat16(rounds: int) -> None:
    found = medians({"plain": Step(), "bf16": Step(InBfloat16)}, rounds, 10)
    print("\nbfloat16 in the encoder: ratio of whole steps to float32 on this CPU: ", end="")
    print(f"{found['bf16'] / found['plain']:.3f}")


def fit_seconds(
    sizes: list[Any], make: Callable[[Any], Callable[[], Any]], rounds: int
) -> np.ndarray:
    """Median CPU seconds of a fit for each size."""
    found = medians({str(size): make(size) for size in sizes}, rounds, 1)
    return np.array(list(found.values()))


def print_growth(epochs: int, rounds: int, picture: str | None) -> None:
    def fit(X: np.ndarray, d: int) -> Callable[[], Any]:
        return lambda: NoisyDIMTransformer(d, max_epochs=epochs, random_state=0).fit(X)

    fit(table(2000), D)()
    sizes = {
        "rows": [1024, 4096, 16_384, 65_536, 262_144, 1_048_576],
        "columns": [10, 30, 100, 300, 1000],
        "components": [2, 8, 32, 128],
    }
    rows, columns, components = sizes.values()
    seconds = {
        "rows": fit_seconds(rows, lambda n: fit(table(n), D), rounds),
        "columns": fit_seconds(columns, lambda p: fit(table(20_480, p), D), rounds),
        "components": fit_seconds(components, lambda d: fit(table(20_480), d), rounds),
    }

    def affine(n: np.ndarray, a: float, b: float) -> np.ndarray:
        return np.log(np.exp(a) + np.exp(b) * n)

    n = np.array(rows, dtype=float)
    start = (np.log(seconds["rows"][0] / 2), np.log(seconds["rows"][-1] / n[-1]))
    (a, b), _ = curve_fit(affine, n, np.log(seconds["rows"]), start)
    deviation = np.exp(np.log(seconds["rows"]) - affine(n, a, b)) - 1
    print(
        f"\nSeconds of a fit of {epochs} epochs, batch {BATCH}; 20,480 rows, {COLUMNS} columns and "
    )
    print(f"d = {D} unless said\n")
    for name, values in sizes.items():
        print(f"| {name} | " + " | ".join(f"{value:,}" for value in values) + " |")
        print("|---" * (len(values) + 1) + "|")
        print("| s | " + " | ".join(f"{value:.2f}" for value in seconds[name]) + " |\n")
    print(f"rows: {np.exp(a):.2f} s + {1e6 * np.exp(b):.2f} s for a million rows; ", end="")
    print(f"largest deviation {100 * np.abs(deviation).max():.0f} %")
    if picture is not None:
        draw(picture, sizes, seconds, np.exp(affine(n, a, b)), epochs)


def draw(
    path: str,
    sizes: dict[str, list[int]],
    seconds: dict[str, np.ndarray],
    line: np.ndarray,
    epochs: int,
) -> None:
    """Draw seconds against each size."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(10, 3.2), layout="constrained")
    for axis, (name, values) in zip(axes, sizes.items(), strict=True):
        (axis.loglog if name == "rows" else axis.semilogx)(
            values, seconds[name], "o", color="#0072B2"
        )
        if name != "rows":
            axis.set_ylim(bottom=0)
        else:
            axis.loglog(values, line, color="#0072B2", linewidth=1, label="a + b rows")
            axis.legend(frameon=False)
        axis.set_xlabel(name)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel(f"seconds of a fit, {epochs} epochs")
    figure.savefig(path, dpi=150)


PARTS = ("shares", "compile", "bf16", "growth")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--picture", help="where to draw the growth")
    parser.add_argument("--quick", action="store_true", help="shares and bf16, few rounds")
    options = parser.parse_args()
    parts, rounds = options.only, 40
    if options.quick:
        parts, rounds = ["shares", "bf16"], 5
    print(
        f"sknoisydim {sknoisydim.__version__}, torch {torch.__version__} with "
        f"{torch.get_num_threads()} threads, Python {platform.python_version()}, "
        f"{platform.machine()}"
    )
    if "shares" in parts:
        print_shares(rounds)
    if "compile" in parts:
        print_compiled(rounds)
    if "bf16" in parts:
        print_bfloat16(rounds)
    if "growth" in parts:
        print_growth(options.epochs, 3, options.picture)


if __name__ == "__main__":
    main()
