"""
A fit in several processes
==========================

Each process embeds its part of every batch, and the objective sees the whole batch: the fit is that
of one process with the same ``batch_size``, up to rounding. Any of these starts it in two processes
on the CPU::

    torchrun --nproc-per-node 2 examples/accelerate_fit.py
    accelerate launch --num_processes 2 --cpu examples/accelerate_fit.py

and on the GPUs of a machine::

    accelerate launch --multi_gpu examples/accelerate_fit.py
"""

import argparse
import os

import accelerate
import numpy as np
import torch
from sklearn.datasets import load_digits

from sknoisydim import NoisyDIMTransformer
from sknoisydim.distributed import fit_data_parallel


def fit(max_epochs):
    X = load_digits().data.astype(np.float32)
    embedder = NoisyDIMTransformer(8, batch_size=512, max_epochs=max_epochs, random_state=0)
    fitted = fit_data_parallel(embedder, X)
    if fitted is None:
        return  # another process has the fitted transformer
    Z = fitted.transform(X)
    n_processes = accelerate.PartialState().num_processes
    print(f"{n_processes} processes, batches of {fitted.batch_size_} rows in all")
    print(f"information {fitted.mutual_information_:.3f} of {fitted.capacity_:.3f} nats")
    print(f"embedding {Z.shape}, mean {Z.mean():.2f}, standard deviation {Z.std():.2f}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--max-epochs", type=int, default=50)
    parser.add_argument(
        "--processes",
        type=int,
        default=2,
        help="how many to start where the launcher starts one, as that of Accelerate does on CPUs",
    )
    args = parser.parse_args()
    launched = "WORLD_SIZE" in os.environ
    if launched or torch.cuda.is_available() or args.processes == 1:
        fit(args.max_epochs)
    else:
        accelerate.debug_launcher(fit, (args.max_epochs,), num_processes=args.processes)


if __name__ == "__main__":
    main()
