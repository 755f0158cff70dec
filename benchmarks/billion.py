"""What a billion rows take: steps, blocks, negatives and traffic, from steps measured here.

    OMP_NUM_THREADS=1 python benchmarks/billion.py
    OMP_NUM_THREADS=1 python benchmarks/billion.py --write docs/guide/_generated_billion.inc

Measures, in CPU time on one core, the step of one process and that of one of many: the encoder on
its rows of the batch, and all behind it, of which whitening, noise and linear information are of
the whole batch, and scores and the kernel's values of its rows of the pairs; a block of
`partial_fit`, and `transform`. The rest is arithmetic, and a simulation of processes that wait for
each other: a step takes as long as the slowest of them, which is drawn from the measured steps.
Nothing is run on more than one core.
"""

import argparse
import math
import platform
import statistics
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from sknoisydim import NoisyDIMTransformer
from sknoisydim._linear import ALL, Rows

ROWS = 10**9
COLUMNS, COMPONENTS = 50, 16
RANKS = 64
BATCHES = (512, 2048, 4096, 8192)
BLOCK_ROWS = 10**6
MEASURED_BLOCK = 10**5
# Of a network: 10 Gbit/s for each process, and 50 microseconds until a collective begins.
BANDWIDTH, LATENCY = 1.25e9, 50e-6


class FirstRows(Rows):
    """The rows of pairs of the first of many processes, without the others."""

    n_ranks = RANKS

    def part(self, n):
        return slice(0, n // RANKS)


class Given(nn.Module):
    """Stands for the encoder where everything behind it is measured."""

    def __init__(self, n_rows):
        super().__init__()
        self.output = nn.Parameter(torch.randn(n_rows, COMPONENTS))

    def forward(self, x):
        return self.output


def seconds(work, repeats):
    """CPU seconds of each call; the first is not counted."""
    work()
    found = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        found.append(time.process_time() - start)
    return found


def shared(objective, n_rows, repeats):
    """Seconds of the encoder, forward and back."""
    encoder = objective.encoder.train()
    x = torch.randn(n_rows, COLUMNS)

    def work():
        encoder(x).square().mean().backward()

    return seconds(work, repeats)


def behind(objective, n_rows, rows, repeats):
    """Seconds of all but the encoder, for a batch and some rows of its pairs."""
    encoder, objective.encoder = objective.encoder, Given(n_rows)
    objective.rows = rows
    objective.train()
    x = torch.randn(n_rows, COLUMNS)
    generator = torch.Generator().manual_seed(0)
    features = [torch.randn(n_rows, COMPONENTS) for _ in objective.linear_weights]

    def work():
        objective.encoder.output.grad = None
        objective(x, features, generator).objective.neg().backward()

    found = seconds(work, repeats)
    objective.encoder = encoder
    return found


def optimizer(objective, repeats):
    """Seconds of a step of AdamW."""
    for parameter in objective.parameters():
        parameter.grad = torch.zeros_like(parameter)
    step = torch.optim.AdamW(objective.parameters(), fused=True).step
    return seconds(step, repeats)


def slowest(found, rng):
    """Mean of the slowest of all processes, each of which takes one of these times."""
    return rng.choice(found, size=(2000, RANKS)).max(1).mean()


def traffic(objective, batch, ranks):
    """Bytes that a process receives in a step, by purpose, and the number of collectives."""
    ring = 2 * (ranks - 1) / ranks  # an all-reduce: a reduce-scatter and an all-gather
    layers = [m.num_features for m in objective.encoder.modules() if isinstance(m, nn.BatchNorm1d)]
    parameters = sum(p.numel() for p in objective.parameters() if p.requires_grad)
    # Embeddings there, their gradient back; the largest score and the sum of each column.
    gathered = ((ranks - 1) / ranks + ring) * batch * COMPONENTS * 4 + 2 * ring * batch * 4
    # Mean and square of each unit in float64, there and back.
    statistics_ = sum(ring * 2 * width * 8 * 2 for width in layers)
    # Beside these the sums of the bound and of the match, three numbers.
    return gathered, statistics_, ring * parameters * 4, 4 + 2 * len(layers) + 1 + 3


def table(title, head, rows):
    lines = [f".. list-table:: {title}", "   :header-rows: 1", ""]
    for row in [head, *rows]:
        lines += [f"   {'*' if not n else ' '} - {cell}" for n, cell in enumerate(row)]
    return "\n".join([*lines, ""])


def report(repeats):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((20_000, COLUMNS), dtype=np.float32)
    model = NoisyDIMTransformer(COMPONENTS, max_epochs=1, random_state=0).fit(X)
    objective = model.net_.module_
    step = statistics.median(optimizer(objective, repeats))
    steps, costs = [], []
    for batch in BATCHES:
        alone = shared(objective, batch, repeats)
        rest = behind(objective, batch, ALL, repeats)
        part = np.add(
            shared(objective, batch // RANKS, repeats),
            behind(objective, batch, FirstRows(), repeats),
        )
        one = statistics.median(alone) + statistics.median(rest) + step
        *sent, collectives = traffic(objective, batch, RANKS)
        wire = sum(sent) / BANDWIDTH + collectives * LATENCY
        even = statistics.median(part) + step + wire
        late = slowest(part, rng) + step + wire
        steps.append(
            [f"{batch:,}", f"{math.log(batch):.1f}", f"{ROWS // batch:,}"]
            + [f"{1e3 * s:.1f}" for s in (statistics.median(alone), statistics.median(rest))]
            + [f"{1e3 * s:.1f}" for s in (one, even, late)]
            + [f"{one / late:.1f}", f"{ROWS / batch * one / 3600:.0f}"]
            + [f"{ROWS / batch * late / 3600:.0f}"]
        )
        costs.append(
            [f"{batch:,}", f"{batch // RANKS:,}"]
            + [f"{b / 1e6:.2f}" for b in (*sent, sum(sent))]
            + [collectives, f"{1e3 * wire:.1f}", f"{4 * batch**2 / RANKS / 1e6:,.1f}"]
        )
    block = rng.standard_normal((MEASURED_BLOCK, COLUMNS), dtype=np.float32)
    stream = NoisyDIMTransformer(COMPONENTS, batch_size=2048, random_state=0).partial_fit(block)
    of_block = statistics.median(seconds(lambda: stream.partial_fit(block), 3))
    embedding = statistics.median(seconds(lambda: stream.transform(block), 3))
    n_blocks = ROWS // BLOCK_ROWS
    scale = BLOCK_ROWS / MEASURED_BLOCK
    blocks = [
        ["blocks", f"{n_blocks:,} of {BLOCK_ROWS:,} rows"],
        ["a block of float32", f"{4 * BLOCK_ROWS * COLUMNS / 1e6:,.0f} MB"],
        ["read in a pass", f"{4 * ROWS * COLUMNS / 1e9:,.0f} GB"],
        [
            f"training on a block, batch 2,048 (from {MEASURED_BLOCK:,} rows)",
            f"{scale * of_block:.0f} s",
        ],
        ["a pass, one worker after the other", f"{n_blocks * scale * of_block / 3600:.1f} h"],
        ["transform of a block, one core", f"{scale * embedding:.1f} s"],
        [f"transform of all, {RANKS} cores", f"{ROWS * embedding / MEASURED_BLOCK / RANKS:.0f} s"],
        ["embeddings of float32", f"{4 * ROWS * COMPONENTS / 1e9:,.0f} GB"],
    ]
    return "\n".join(
        [
            f"One core of {platform.machine()}, Python {platform.python_version()}, torch "
            f"{torch.__version__}, {torch.get_num_threads()} thread; {COLUMNS} columns, "
            f"{COMPONENTS} components, the default encoder; CPU time, medians of {repeats}.",
            "",
            table(
                f"Data-parallel training: milliseconds of a step, and hours of a pass over "
                f"{ROWS:,} rows",
                [
                    *("batch", "most nats", "steps in a pass", "encoder", "the rest", "1 process"),
                    *(f"{RANKS} processes", "slowest of them", "faster by"),
                    *("hours, 1 process", f"hours, {RANKS}"),
                ],
                steps,
            ),
            table(
                f"What a process receives in a step, {RANKS} processes: MB",
                [
                    *("batch", "rows each", "embeddings", "batch normalisation", "gradients"),
                    *("all", "collectives", "ms on the wire", "MB of its scores"),
                ],
                costs,
            ),
            table("A stream of blocks", ["what", "how much"], blocks),
        ]
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--write", type=Path, metavar="PATH", help="write the tables there, too")
    arguments = parser.parse_args()
    text = report(arguments.repeats)
    print(text)
    if arguments.write:
        command = f"python benchmarks/billion.py --write {arguments.write}"
        arguments.write.write_text(
            f".. Written by: {command}\n\n``OMP_NUM_THREADS=1 {command}``\n\n{text}", "utf-8"
        )


if __name__ == "__main__":
    main()
