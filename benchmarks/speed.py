"""How fast: fit against a hand-written torch loop, transform against the bare encoder.

    OMP_NUM_THREADS=1 python benchmarks/speed.py            # about 25 minutes on one core
    OMP_NUM_THREADS=1 python benchmarks/speed.py --quick    # about 1 minute
    OMP_NUM_THREADS=1 python benchmarks/speed.py --small    # iris, and 60 fits of a grid search
    python benchmarks/speed.py --only fit --device cuda --clock wall    # both sides on a GPU

fit. Ours is the whole `NoisyDIMTransformer.fit`, as a user calls it, with one callback. The other
side does the same work by hand, with the same modules, objective, optimiser and schedule, and the
same tricks: rows scaled once and taken by index_select, fused AdamW, gradients set to None, nats
read once an epoch, batch statistics recalibrated and the exact whitening set at the end, and the
information measured. The callback runs one epoch of the loop after each of ours, so both
sides meet the same noise of the machine. Column "fit": everything, setup and end included, one
ratio a run. Column "epochs": epoch against epoch, one ratio a pair. The control is the loop against
itself.

refined. transform with the default refinement over transform without.

transform. 1,000,000 x 50 float32, whole (checks, scaling, target). The bare encoder is the module
of network and normalisation on rows that need no scaling, into an output that is there already, in
its best batch size. Extra memory is the peak of the process above its start and the output.

The clock is CPU time by default, which other processes on the machine disturb least;
with one thread and an idle machine it is wall time (`--clock wall`).
"""

from __future__ import annotations

import argparse
import copy
import cProfile
import os
import platform
import pstats
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import sklearn
import skorch
import torch
from joblib.externals.loky import get_reusable_executor
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from skorch.callbacks import Callback

from sknoisydim import NoisyDIMTransformer
from sknoisydim._objective import Nats, Objective
from sknoisydim._optimizers import one_cycle
from sknoisydim._references import FITTED_ROWS
from sknoisydim._settings import resolve_settings
from sknoisydim.scaling import fit_scaling

D = 16
COLUMNS = 50
CLOCKS = {"cpu": time.process_time, "wall": time.perf_counter}


def waiting(now: Callable[[], float], device: str) -> Callable[[], float]:
    """Return a clock that is read when the GPU has done what it was given."""

    def read() -> float:
        torch.cuda.synchronize(device)
        return now()

    return read


def table(n_rows: int) -> np.ndarray:
    """Correlated columns of float32."""
    rng = np.random.default_rng(0)
    mixing = rng.standard_normal((COLUMNS, COLUMNS), dtype=np.float32)
    return rng.standard_normal((n_rows, COLUMNS), dtype=np.float32) @ mixing


def hand_written(X: np.ndarray, model: NoisyDIMTransformer) -> Iterator[None]:
    """Train what `model` would by a plain torch loop; pause after the setup and each epoch."""
    parts = resolve_settings(model, X.shape[1])
    batch_size, epochs, d = parts.batch_size, parts.max_epochs, parts.n_components
    start_of_weights = torch.Generator().manual_seed(0)
    generator = torch.Generator(parts.device).manual_seed(0)
    scaling = fit_scaling(parts.scaling, X, 0)
    with torch.no_grad():
        rows = scaling(torch.from_numpy(X)).to(parts.device)
    n = len(rows)
    channel = parts.noise.build(d, batch_size)
    objective = Objective(
        parts.encoder.build(X.shape[1], d, start_of_weights),
        parts.normalization.build(d),
        channel,
        parts.critic.build(d, channel, start_of_weights) if parts.clean_weight < 1 else None,
        parts.bound,
        parts.augmentation,
        parts.clean_weight,
        (parts.keep_weight,),
        parts.match_weight,
    ).to(parts.device)
    kept = parts.keep.build(rows[:FITTED_ROWS].cpu(), d, 0).to(parts.device)
    optimizer = torch.optim.AdamW(
        objective.parameters(), lr=parts.lr, weight_decay=1e-2, fused=True
    )
    starts = range(0, n - batch_size + 1, batch_size)
    step, n_steps = 0, epochs * len(starts)
    yield
    objective.train()
    for _ in range(epochs):
        order = torch.randperm(n, generator=generator, device=parts.device)
        sums = torch.zeros(len(Nats._fields), device=parts.device)
        for start in starts:
            x = rows.index_select(0, order[start : start + batch_size])
            rate = one_cycle(step, n_steps, parts.lr)
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.zero_grad(set_to_none=True)
            nats = objective(x, (kept(x),), generator)
            (-nats.objective).backward()
            optimizer.step()
            sums += torch.stack([value.detach() for value in nats])
            step += 1
        assert (sums / len(starts)).isfinite().all()
        yield
    finish(objective, rows, batch_size, generator)


@torch.no_grad()
def finish(
    objective: Objective, rows: torch.Tensor, batch_size: int, generator: torch.Generator
) -> float:
    """Set the statistics of evaluation on clean rows, and measure the information."""
    encoder, channel = objective.encoder, objective.channel
    norms = [module for module in encoder.modules() if isinstance(module, torch.nn.BatchNorm1d)]
    order = torch.randperm(len(rows), generator=generator, device=rows.device)
    sample = order[: 2**15].split(batch_size)
    sample = [index for index in sample if len(index) == batch_size]
    encoder.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    for index in sample:
        encoder(rows[index])
    encoder.eval()
    z = torch.cat([encoder(part) for part in rows.split(1024)]).cpu().double()
    objective.normalizer.set_statistics(z.mean(0), z.T.cov(correction=0))
    objective.eval()
    nats = []
    for index in sample:
        clean = objective.embed(rows[index])
        nats.append(objective.bound(channel.log_ratio(clean, channel.transmit(clean, generator))))
    return torch.stack(nats).mean().item()


class Interleave(Callback):
    """Run a part of the other side after each epoch, and keep both sides' seconds."""

    def __init__(self, other: Iterator[None], now: Callable[[], float]) -> None:
        self.other = other
        self.now = now
        self.ours: list[float] = []
        self.theirs: list[float] = []

    def on_train_begin(self, net: Any, X: Any = None, y: Any = None, **kwargs: Any) -> None:
        self.started = self.now()

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        ended = self.now()
        self.ours.append(ended - self.started)
        next(self.other)
        self.started = self.now()
        self.theirs.append(self.started - ended)


def one_run(
    X: np.ndarray, model: NoisyDIMTransformer, now: Callable[[], float]
) -> tuple[float, list[float]]:
    """Return the ratio of whole fits, and the ratios of epochs."""
    start = now()
    other = hand_written(X, model)
    next(other)
    theirs = now() - start
    start = now()
    model.set_params(callbacks=[("interleave", Interleave(other, now))]).fit(X)
    ours = now() - start
    interleave = dict(model.net_.callbacks_)["interleave"]  # a fit works on a copy
    ours -= sum(interleave.theirs)
    start = now()
    next(other, None)
    theirs += now() - start + sum(interleave.theirs)
    return ours / theirs, list(np.divide(interleave.ours, interleave.theirs))


def one_control(
    X: np.ndarray, model: NoisyDIMTransformer, now: Callable[[], float]
) -> tuple[float, list[float]]:
    """Return the same ratios for the hand-written loop against itself."""
    seconds: tuple[list[float], list[float]] = ([], [])
    sides = [hand_written(X, model) for _ in seconds]
    for _ in range(model.max_epochs + 2):
        for side, log in zip(sides, seconds, strict=True):
            start = now()
            next(side, None)
            log.append(now() - start)
    ratios = np.divide(*seconds)
    return sum(seconds[0]) / sum(seconds[1]), list(ratios[1:-1])


def spread(values: list[float]) -> str:
    """Format the median and the quartiles."""
    low, median, high = np.percentile(values, [25, 50, 75])
    return f"{median:.3f} ({low:.3f}-{high:.3f})"


def print_fit(
    cases: list[tuple[int, int, int]], runs: int, now: Callable[[], float], device: str
) -> None:
    print("\nfit, ratio to the hand-written loop: median (quartiles)\n")
    print("| rows | batch | clean_weight | fit | epochs | pairs |\n|---|---|---|---|---|---|")
    for number, (n_rows, batch_size, epochs) in enumerate(cases):
        X = table(n_rows)
        rows: list[tuple[str, float, Callable[..., Any]]] = [
            ("1 (default)", 1.0, one_run),
            ("0.5", 0.5, one_run),
        ]
        if number == 0:
            rows.insert(0, ("1, control", 1.0, one_control))
        for name, w, run in rows:
            model = NoisyDIMTransformer(
                D,
                clean_weight=w,
                refine=None,
                batch_size=batch_size,
                max_epochs=epochs,
                device=device,
                random_state=0,
            )
            results = [run(X, model, now) for _ in range(runs)]
            pairs = [ratio for _, ratios in results for ratio in ratios]
            fits = spread([whole for whole, _ in results])
            print(
                f"| {n_rows:,} | {batch_size} | {name} | {fits} | {spread(pairs)} | {len(pairs)} |",
                flush=True,
            )


def bare(model: NoisyDIMTransformer, X: np.ndarray, out: np.ndarray, batch_size: int) -> None:
    """Network and normalisation alone, batch by batch into `out`."""
    network = torch.nn.Sequential(model.encoder_.encoder, model.encoder_.normalizer).eval()
    rows, z = torch.from_numpy(X), torch.from_numpy(out)
    with torch.inference_mode():
        for start in range(0, len(X), batch_size):
            z[start : start + batch_size] = network(rows[start : start + batch_size])


def print_transform(n_rows: int, pairs: int, now: Callable[[], float]) -> None:
    X = table(n_rows)
    out = np.empty((n_rows, D), np.float32)
    model = NoisyDIMTransformer(D, refine=None, max_epochs=1, random_state=0).fit(X[:20_000])

    def seconds(work: Callable[[], Any]) -> float:
        start = now()
        work()
        return now() - start

    head = slice(min(n_rows, 200_000))
    sizes = [256, 512, 1024, 2048, 4096, 8192]
    times = {
        size: min(seconds(lambda s=size: bare(model, X[head], out[head], s)) for _ in range(3))
        for size in sizes
    }
    best = min(times, key=times.__getitem__)
    print(f"\ntransform of {n_rows:,} x {COLUMNS} float32, ratio to the bare encoder: median")
    print(f"(quartiles); its best batch size is {best}\n")
    print("| what | ratio | extra memory, MB |\n|---|---|---|")
    ways: dict[str, Callable[[], Any]] = {
        "the bare encoder, control": lambda: bare(model, X, out, best),
        "transform, normal": lambda: model.transform(X),
        "transform, uniform": lambda: model.retarget("uniform").transform(X),
    }
    for name, way in ways.items():
        ratios = []
        for _ in range(pairs):
            reference = seconds(lambda: bare(model, X, out, best))
            ratios.append(seconds(way) / reference)
        target = name.rpartition(" ")[2]
        memory = extra_memory(n_rows, target) if name.startswith("transform") else ""
        print(f"| {name} | {spread(ratios)} | {memory} |", flush=True)


def print_refined(n_rows: int, pairs: int, now: Callable[[], float]) -> None:
    """Print what a refinement costs in transform, and how exact its inverse is."""
    print(f"\ntransform of {n_rows:,} x 20 with a refinement over without: median (quartiles)\n")
    print("| d | dtype | ratio | error of the inverse |\n|---|---|---|---|")
    # Sums of a curved kind, on which all layers are fitted.
    hidden = np.random.default_rng(0).laplace(size=(n_rows, 20))
    X = np.tanh(hidden @ np.random.default_rng(1).normal(size=(20, 20)) / 3) + 0.1 * hidden
    for d in (8, 16):
        model = NoisyDIMTransformer(d, random_state=0).fit(X[:4000])
        plain = copy.copy(model)
        plain.refinement_ = None
        for dtype in (np.float32, np.float64):
            rows, ratios = X.astype(dtype), []
            for _ in range(pairs):
                times = []
                for one in (plain, model):
                    start = now()
                    one.transform(rows)
                    times.append(now() - start)
                ratios.append(times[1] / times[0])
            z = torch.from_numpy(plain.transform(rows))
            error = (model.refinement_.inverse(model.refinement_(z)) - z).abs().max()
            print(f"| {d} | {rows.dtype} | {spread(ratios)} | {float(error):.1g} |", flush=True)


MEMORY = f"""
import ctypes, re, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import speed
n_rows, target = int(sys.argv[1]), sys.argv[2]
X = speed.table(n_rows)
model = speed.NoisyDIMTransformer({D}, target, refine=None, max_epochs=1, random_state=0)
model.fit(X[:5_000])
model.transform(X[:5_000])
def kilobytes(name):
    return int(re.search(name + r":\\s+(\\d+) kB", open("/proc/self/status").read()).group(1))
getattr(ctypes.CDLL(None), "malloc_trim", int)(0)  # what fit has freed is not ours to use
open("/proc/self/clear_refs", "w").write("5")
start = kilobytes("VmRSS")
Z = model.transform(X)
print((kilobytes("VmHWM") - start) * 1024 - Z.nbytes)
"""


def extra_memory(n_rows: int, target: str) -> str:
    """Peak of a fresh process during transform, above its start and the output."""
    if not Path("/proc/self/clear_refs").exists():
        return "not measured (no /proc)"
    command = [sys.executable, "-c", MEMORY, str(n_rows), target]
    answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return f"{int(answer) / 1e6:.1f}"


def print_import() -> None:
    code = (
        "import time, sys; start = time.perf_counter(); import sknoisydim; "
        "print(time.perf_counter() - start, 'torch' in sys.modules)"
    )
    answers = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        for _ in range(7)
    ]
    values = [answer.stdout.split() for answer in answers]
    median = np.median([float(seconds) for seconds, _ in values])
    loaded = "loads" if any(torch_in == "True" for _, torch_in in values) else "does not load"
    print(f"\n`import sknoisydim` takes {1e3 * median:.1f} ms, and {loaded} torch")


def print_small(n_fits: int) -> None:
    X, _ = load_iris(return_X_y=True)
    NoisyDIMTransformer(max_epochs=1).fit(X)  # what the first fit of a process loads
    print("\n| small data | CPU s | wall s |\n|---|---|---|")

    def line(name: str, work: Callable[[], Any]) -> None:
        before, wall = sum(os.times()[:4]), time.perf_counter()
        work()
        wall = time.perf_counter() - wall
        get_reusable_executor().shutdown(wait=True)  # workers are counted when they have ended
        print(f"| {name} | {sum(os.times()[:4]) - before:.2f} | {wall:.2f} |", flush=True)

    line("iris, defaults", lambda: NoisyDIMTransformer(random_state=0).fit(X))
    one_step = NoisyDIMTransformer(max_epochs=1, random_state=0)
    line("iris, 20 fits of one step each", lambda: [one_step.fit(X) for _ in range(20)])
    cancer, labels = load_breast_cancer(return_X_y=True)
    pipeline = make_pipeline(NoisyDIMTransformer(random_state=0), LogisticRegression(max_iter=1000))
    grid = {
        "noisydimtransformer__n_components": [4, 8, 16],
        "noisydimtransformer__noise": ["auto", 0.5, 1.0, 2.0][: n_fits // 15],
    }
    search = GridSearchCV(pipeline, grid, cv=5, n_jobs=2)
    line(f"breast cancer, a grid of {n_fits} fits, n_jobs=2", lambda: search.fit(cancer, labels))
    print("\nWhere a fit of one step spends its time (iris, 20 fits, milliseconds a fit):")
    profile = cProfile.Profile()
    profile.runcall(lambda: [one_step.fit(X) for _ in range(20)])
    stats: Any = pstats.Stats(profile)
    wanted = [
        (seconds[3] / 20 * 1e3, f"{Path(file).name}:{name}")
        for (file, _, name), seconds in stats.stats.items()
        if "sknoisydim" in file or name in ("initialize", "validate_data", "step", "run_backward")
    ]
    for milliseconds, name in sorted(wanted, reverse=True)[:20]:
        print(f"  {milliseconds:7.2f}  {name}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="few pairs, 20,000 rows only")
    parser.add_argument("--small", action="store_true", help="small data only")
    parser.add_argument("--clock", choices=CLOCKS, default="cpu", help="default: cpu")
    parser.add_argument("--device", default="cpu", help="of the part fit; default: cpu")
    parser.add_argument("--runs", type=int, default=None, help="fits a cell")
    parser.add_argument(
        "--only", choices=["fit", "transform", "refined", "import"], help="one part only"
    )
    arguments = parser.parse_args()
    now = CLOCKS[arguments.clock]
    if arguments.device.startswith("cuda"):
        now = waiting(now, arguments.device)
    modules = ", ".join(f"{m.__name__} {m.__version__}" for m in (torch, skorch, sklearn, np))
    print(f"python {platform.python_version()}, {modules}")
    print(f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, ", end="")
    print(f"{torch.get_num_threads()} torch threads, {arguments.clock} clock", flush=True)
    if arguments.small:
        print_small(60)
        return
    if arguments.only in (None, "import"):
        print_import()
    if arguments.only in (None, "transform"):
        print_transform(100_000 if arguments.quick else 1_000_000, 3 if arguments.quick else 9, now)
    if arguments.only in (None, "refined"):
        print_refined(20_000, 5 if arguments.quick else 15, now)
    if arguments.only in (None, "fit"):
        cases = [(20_000, 512, 4), (20_000, 128, 2)]
        if not arguments.quick:
            cases = [(20_000, 512, 10), (20_000, 128, 8), (20_000, 2048, 10)]
            cases += [(200_000, 512, 3), (200_000, 128, 2), (200_000, 2048, 2)]
        runs = arguments.runs or (1 if arguments.quick else 3)
        print_fit(cases, runs, now, arguments.device)


if __name__ == "__main__":
    main()
