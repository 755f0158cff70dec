"""
A Dask collection, block by block
=================================

A table that no machine holds: trained on as a stream of its blocks, in another order in each pass,
and embedded lazily, block by block. With a :class:`distributed.Client` the blocks stay on the
workers, and the model goes to them.
"""

import argparse

import dask.array as da
from dask.distributed import Client, LocalCluster

from sknoisydim import NoisyDIMTransformer
from sknoisydim.distributed import DaskTransformer


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=400_000)
    parser.add_argument("--blocks", type=int, default=8)
    parser.add_argument("--max-epochs", type=int, default=2)
    args = parser.parse_args()
    # A thread for each worker: torch in it takes one, and the workers are as many as the cores.
    cluster = LocalCluster(
        n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=":0"
    )
    with cluster, Client(cluster):
        chunks = (args.rows // args.blocks, 20)
        X = da.random.default_rng(0).standard_normal((args.rows, 20), chunks=chunks)
        embedder = DaskTransformer(
            NoisyDIMTransformer(4, batch_size=2048, random_state=0), max_epochs=args.max_epochs
        )
        embedder.fit(X)
        Z = embedder.transform(X)
        print(f"lazy: {Z.shape[0]:,} x {Z.shape[1]} of {Z.dtype} in {Z.numblocks[0]} blocks")
        mean, deviation = da.compute(Z.mean(), Z.std())
        print(f"computed: mean {mean:.2f}, standard deviation {deviation:.2f}")


if __name__ == "__main__":
    main()
