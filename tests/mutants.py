"""Faults on purpose: each has to make a test fail that is named beside it.

`make mutants` copies the repository to a temporary folder, makes one of the changes below at a time
in the package, runs the tests named with it, and prints which changes they let pass, and the share
that they find. A text that does not stand in its file exactly once is an error, in the default run
too (tests/test_mutants.py): whoever changes such a line moves the entry along.
"""

from __future__ import annotations

import argparse
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PACKAGE = "sknoisydim"
# What a copy needs for its tests.
PARTS = (PACKAGE, "tests", "benchmarks", "docs", "conftest.py", "pyproject.toml", "setup.cfg")
LEAST_SHARE = 0.9


class Mutant(NamedTuple):
    """A change of one file of the package, and the tests that are to see it."""

    file: str
    before: str
    after: str
    tests: str


def _of(file: str, *changes: tuple[str, str, str]) -> list[Mutant]:
    return [Mutant(file, *change) for change in changes]


NET = "tests/test_training.py"
SPEED = "tests/test_speed_invariants.py"
WEIGHTS = "tests/test_weights_and_validation.py"
MUTANTS = [
    # The training loop.
    *_of(
        "_net/_callbacks.py",
        (
            "        net.module_.load_state_dict(self.weights_)\n        self.weights_ = {}\n",
            "        self.weights_ = {}\n",
            NET,
        ),
        ("if nats > self.best_:", "if nats < self.best_ or not self.weights_:", NET),
        ("if self.waited_ >= self.patience:", "if self.waited_ > self.patience:", WEIGHTS),
        ("self.reference_, self.waited_ = nats, 0", "self.reference_ = nats", NET),
    ),
    *_of(
        "_net/_skorch.py",
        (
            "        self.module_.normalizer.train()\n        x, partners = unpack_data(batch)\n",
            "        x, partners = unpack_data(batch)\n",
            NET,
        ),
        (
            "generator = make_generator(0, self.generator.device)",
            "generator = self.generator",
            WEIGHTS,
        ),
        (
            "            sums = nats if sums is None else sums + nats\n",
            "            sums = nats\n",
            NET,
        ),
        ("        self.optimizer_.zero_grad()\n", "", NET),
        ("        self.step_ += 1\n", "", NET),
        ("self.lr, warm_up=0.0)", "self.lr)", "tests/test_streaming.py::TestWarmStart"),
        (
            "min(1.0, (self.step_ + 1) / STREAM_WARM_UP)",
            "1.0",
            "tests/test_streaming.py::TestContinues",
        ),
        (
            "-information < least",
            "-information <= min(least, 0.0)",
            "tests/test_callbacks.py::TestThatWork",
        ),
    ),
    *_of(
        "_optimizers.py",
        ("    if position < warm_up:\n", "    if position < 0:\n", NET),
        ("start, end = peak / 25, peak / 1e4", "start, end = peak / 25, peak / 2", NET),
    ),
    *_of(
        "_training/_fit.py",
        (
            "    return np.sort(order[n_held_out:]), held_out",
            "    return np.sort(order), held_out",
            WEIGHTS,
        ),
        ("shuffle, partners, shuffle=False)", "shuffle, partners)", WEIGHTS),
        (
            "optimizer = training_state(net) if settings.warm_start else None",
            "optimizer = None",
            "tests/test_streaming.py::TestWarmStart",
        ),
    ),
    *_of(
        "_data.py",
        (
            "        for start in range(0, len(self) * self.batch_size, self.batch_size):\n",
            "        for start in range(0, n_rows, self.batch_size):\n",
            f"{SPEED}::TestBatches",
        ),
        ("            drawn += drawn >= own\n", "", "tests/test_data_faults.py::TestDraws"),
        (
            "_uniform(count, generator) * self._shares[-1]",
            "_uniform(count, generator) * len(self)",
            WEIGHTS,
        ),
    ),
    *_of(
        "_settings.py",
        (
            "12 * math.sqrt(n_rows), 200",
            "6 * math.sqrt(n_rows), 200",
            "tests/test_labels.py::TestBudget",
        ),
    ),
    *_of(
        "_training/_stream.py",
        ("[1.0, n_before / n_kept]", "[1.0, 1.0]", "tests/test_streaming.py::TestLaw"),
        (
            "moments = moments.merge(column_moments(table.X))",
            "moments = column_moments(table.X)",
            "tests/test_streaming.py::TestLaw",
        ),
        (
            "slots = (rng.random(n_rest) * number)",
            "slots = (rng.random(n_rest) * capacity)",
            "tests/test_streaming.py::TestLaw",
        ),
    ),
    # Statistics.
    *_of(
        "_training/_statistics.py",
        (
            "nats = measure(batches * -(-SCORE_ROWS // len(z)), channel, 0)",
            "nats = measure(batches[:1], channel, 0)",
            NET,
        ),
        ("np.random.default_rng(0).permutation(len(z))", "np.arange(len(z))", NET),
        ("    return float(np.mean(values))\n", "    return float(values[0])\n", NET),
        (
            "    recalibrate(objective.encoder, sample(rows, batch_size, seed))\n",
            "    objective.encoder.eval()\n",
            NET,
        ),
        (
            "mean + shift, products / count - torch.outer(mean, mean)",
            "mean + shift, products / count",
            NET,
        ),
        (
            "counted = output if weights is None else output * weights[number][:, None]",
            "counted = output",
            WEIGHTS,
        ),
        (
            "        mean = prior.mean + share * change\n",
            "        mean = prior.mean + change\n",
            "tests/test_streaming.py::TestContinues",
        ),
        (
            "int((variances < LEAST_VARIANCE).sum())",
            "int((variances < 0).sum())",
            "tests/test_collapse.py::test_is_told",
        ),
        ("share < LEAST_SHARE:", "share < 0:", "tests/test_collapse.py::test_is_told"),
    ),
    *_of(
        "_training/_statistics.py",
        (
            "nats / min(channel.capacity, np.log(size))",
            "nats / np.log(size)",
            "tests/test_transformer.py::TestScore",
        ),
    ),
    *_of(
        "normalization.py",
        (
            "return z if self.deviation == 1 else self.deviation * z",
            "return z",
            "tests/test_noise.py::TestUniform",
        ),
        (
            "rotation.to(self.matrix) @ self.matrix",
            "self.matrix @ rotation.to(self.matrix)",
            "tests/test_labels.py::TestAxes",
        ),
        (
            "covariance = _with_ridge(covariance, self.ridge)\n",
            "covariance = _with_ridge(covariance, 0.3)\n",
            "tests/test_transformer.py::TestClean",
        ),
    ),
    *_of(
        "encoders.py",
        (
            "head.bias.copy_((bias - mean) @ matrix.T)",
            "head.bias.copy_(bias - mean)",
            f"{SPEED}::TestFold",
        ),
    ),
    # Scaling.
    *_of(
        "scaling.py",
        ("v = (x - mean).sub_(rest)", "v = (x - mean)", f"{SPEED}::TestSquash"),
        (
            "return v.mul_(v.square().add_(1).rsqrt_()).mul_(self.bound)",
            "return v.clamp_(-1, 1).mul_(self.bound)",
            f"{SPEED}::TestSquash",
        ),
        (
            "            variance = variance + share * (1 - share) * change**2\n",
            "            pass\n",
            WEIGHTS,
        ),
        (
            "scale = np.where(constant, 1.0, np.sqrt(variance))",
            "scale = np.where(constant, 1.0, variance)",
            "tests/test_streaming.py::TestLaw",
        ),
        (
            'output_distribution="normal", random_state=seed',
            'output_distribution="uniform", random_state=seed',
            "tests/test_missing.py::TestIndicator",
        ),
    ),
    # Targets.
    *_of(
        "targets/_product.py",
        ("            np.minimum(z, self.high_, out=z)\n", "", "tests/test_targets.py::TestPush"),
        ("mul_(-math.sqrt(0.5))", "mul_(math.sqrt(0.5))", "tests/test_targets.py"),
        (
            "log_density = -np.log(np.broadcast_to",
            "log_density = np.log(np.broadcast_to",
            "tests/test_targets.py::TestLogpdf",
        ),
    ),
    *_of(
        "targets/_shells.py",
        (
            "ratio = np.exp(log_part / self.n_components_)",
            "ratio = np.exp(log_part / 2)",
            "tests/test_targets.py::TestPush",
        ),
        ("+ math.log(self._shell)\n", "\n", "tests/test_targets.py::TestLogpdf"),
    ),
    *_of(
        "targets/_joint.py",
        (
            'np.einsum("ij,kj->ik", z, self.factor_)',
            'np.einsum("ij,jk->ik", z, self.factor_)',
            "tests/test_targets.py::TestPush",
        ),
        (
            "normal_logpdf(z) - log_det)",
            "normal_logpdf(z) + log_det)",
            "tests/test_targets.py::TestLogpdf",
        ),
    ),
    *_of(
        "targets/_laws.py",
        (
            "self._names.upper_quantile)(ndtr(-z[upper]))",
            "self._names.quantile)(ndtr(z[upper]))",
            "tests/test_targets.py::TestPush",
        ),
    ),
    # Critics, bounds, noise.
    *_of(
        "critics/_separable.py",
        ("limit = math.sqrt(3 *", "limit = 10 * math.sqrt(3 *", "tests/test_critics.py"),
        (
            "_Tower(copy.deepcopy(first),",
            "_Tower(linear(n_components, width, generator, bias=False),",
            "tests/test_critics.py",
        ),
    ),
    *_of(
        "critics/_gaussian.py",
        (".square().mean(0) - self.channel.scale**2", ".square().mean(0)", "tests/test_critics.py"),
        (
            "self.start = -math.log(scale**2 + SPREAD)",
            "self.start = -math.log(scale**2 + 100 * SPREAD)",
            "tests/test_critics.py",
        ),
    ),
    *_of(
        "bounds/_infonce.py",
        (
            "result.diagonal().add_(weight)",
            "result.diagonal().add_(weight / 2)",
            "tests/test_bounds.py",
        ),
    ),
    *_of(
        "bounds/_variational.py",
        (
            "return 1 + scores.diagonal().mean() - _exp(",
            "return scores.diagonal().mean() - _exp(",
            "tests/test_bounds.py",
        ),
        ("math.log(n * (n - 1))", "math.log(n * n)", "tests/test_bounds.py"),
        (
            "past = torch.where(self.log_average.isnan(), batch, self.log_average)",
            "past = batch",
            "tests/test_bounds.py",
        ),
    ),
    *_of(
        "bounds/_jsd.py",
        (
            "objective = -softplus(-own).mean() - rivals",
            "objective = -softplus(-own).mean()",
            "tests/test_bounds.py",
        ),
    ),
    *_of(
        "noise/_gaussian.py",
        (
            "return torch.add(clean, noise, alpha=self.scale)",
            "return torch.add(clean, noise, alpha=self.scale**2)",
            "tests/test_noise.py",
        ),
        (
            "return 0.5 * self.n_components * math.log1p(self.scale**-2)",
            "return self.n_components * math.log1p(self.scale**-2)",
            "tests/test_noise.py",
        ),
        (
            "work = torch.float64 if self.scale < 0.02 else clean.dtype",
            "work = clean.dtype",
            f"{SPEED}::TestLogRatio",
        ),
    ),
    *_of(
        "noise/_uniform.py",
        (
            "noise = torch.empty_like(clean).uniform_(-e, e, generator=generator)",
            "noise = torch.empty_like(clean).uniform_(0, e, generator=generator)",
            "tests/test_noise.py",
        ),
    ),
    # Views.
    *_of(
        "augmentations/_corruption.py",
        (
            "return torch.where(mask, cells.gather(0, rows), cells).view_as(x)",
            "return torch.where(mask, cells.roll(1, 0), cells).view_as(x)",
            f"{SPEED}::TestCorruption",
        ),
    ),
    *_of(
        "augmentations/_cells.py",
        ("0.5 + 0.5 * u.double()", "u.double()", "tests/test_augmentations.py::TestMixup"),
    ),
    # The refinement.
    *_of(
        "refinement/_descent.py",
        ("    module.load_state_dict(weights)\n", "", "tests/test_refinement.py"),
    ),
    *_of(
        "refinement/_spline.py",
        (
            "log_det += np.log(np.where(column == inside, slope, 1.0))",
            "log_det -= np.log(np.where(column == inside, slope, 1.0))",
            "tests/test_refinement.py",
        ),
    ),
    *_of(
        "refinement/_rotation.py",
        (
            "    return layers[:n_best], *moved\n",
            "    return layers, *moved\n",
            "tests/test_refinement.py",
        ),
        (
            "steps = step * (1 - np.minimum(1, chance / np.maximum(departure, TINY)))",
            "steps = step * np.ones(len(departure))",
            "tests/test_refinement.py",
        ),
    ),
    # The objective.
    *_of(
        "_objective.py",
        (
            "        with self._dropping(False):\n",
            "        with self._dropping(True):\n",
            "tests/test_data_faults.py",
        ),
        (
            "        noisy = self.channel.transmit(clean, generator)\n",
            "        noisy = clean\n",
            NET,
        ),
        ("self._nats(self._score(view, noisy))", "self._nats(self._score(clean, noisy))", NET),
        (
            "(chance < self.supervision,",
            "(chance > self.supervision,",
            "tests/test_labels.py::TestViews",
        ),
        (
            "return torch.where(alone, view, torch.where(whole, partners, mixed))",
            "return torch.where(whole, partners, mixed)",
            "tests/test_labels.py::TestViews",
        ),
        (
            'options = {"enabled": self.training,',
            'options = {"enabled": False,',
            "tests/test_precision.py",
        ),
    ),
]


def found(mutant: Mutant, root: Path = ROOT) -> int:
    """Return how often the text that is changed stands in its file."""
    return (root / PACKAGE / mutant.file).read_text(encoding="utf-8").count(mutant.before)


def run(tests: str, folder: Path, seconds: float) -> bool:
    """Return whether tests pass in a copy of the repository; one that hangs has failed."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests.split()]
    settings = {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(
            command, cwd=folder, env=os.environ | settings, capture_output=True, timeout=seconds
        )
    except subprocess.TimeoutExpired:
        return False
    if done.returncode not in (0, 1):  # 1: some tests have failed
        raise RuntimeError(f"pytest {tests} did not run:\n{done.stdout.decode()[-2000:]}")
    return done.returncode == 0


def copy_of(folder: Path) -> Path:
    """Copy what the tests need."""
    for part in PARTS:
        if (ROOT / part).is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "_build", "auto_examples")
            shutil.copytree(ROOT / part, folder / part, ignore=ignored)
        else:
            shutil.copy(ROOT / part, folder / part)
    return folder


def survives(mutant: Mutant, folder: Path, seconds: float) -> bool:
    """Make the change in a copy, run its tests, and take it back."""
    path = folder / PACKAGE / mutant.file
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace(mutant.before, mutant.after), encoding="utf-8")
    try:
        return run(mutant.tests, folder, seconds)
    finally:
        path.write_text(text, encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--jobs", type=int, default=2, help="runs at the same time")
    parser.add_argument("--only", default="", help="part of a file's name, or of the changed text")
    parser.add_argument("--seconds", type=float, default=300, help="after which a run has failed")
    asked = parser.parse_args()
    wrong = [mutant for mutant in MUTANTS if found(mutant) != 1]
    if wrong:
        print(*(f"{m.file}: found {found(m)} times: {m.before!r}" for m in wrong), sep="\n")
        return 2
    chosen = [m for m in MUTANTS if asked.only in m.file or asked.only in m.before]
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as home, ThreadPoolExecutor(asked.jobs) as threads:
        folders: queue.Queue[Path] = queue.Queue()
        for number in range(asked.jobs):
            folders.put(copy_of(Path(home) / str(number)))

        def work(job: Mutant | str) -> bool:
            folder = folders.get()
            try:
                if isinstance(job, str):
                    return run(job, folder, asked.seconds)
                return survives(job, folder, asked.seconds)
            finally:
                folders.put(folder)

        tests = sorted({mutant.tests for mutant in chosen})
        failing = [
            name for name, passed in zip(tests, threads.map(work, tests), strict=True) if not passed
        ]
        if failing:
            print("these fail without a change:", *failing, sep="\n")
            return 2
        survivors = 0
        for mutant, survived in zip(chosen, threads.map(work, chosen), strict=True):
            survivors += survived
            state = "SURVIVED" if survived else "killed"
            change = " ".join(mutant.before.split())[:60]
            print(f"{state:9} {mutant.file:28} {change:60} {mutant.tests}", flush=True)
    share = 1 - survivors / len(chosen)
    took = time.perf_counter() - started
    print(f"{len(chosen) - survivors} of {len(chosen)} killed, {share:.0%}, in {took:.0f} s")
    return 0 if share >= LEAST_SHARE else 1


if __name__ == "__main__":
    sys.exit(main())
