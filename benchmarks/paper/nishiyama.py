"""Nishiyama's lower bound, one of the paper authors' bounds: what it shows, and how it trains.

First with the true log density ratio of a Gaussian channel, where InfoNCE, NWJ and SMILE show the
information; then as the `bound` of whole fits on digits (d = 2 and 8, no views, w = 0), judged by
the information of the embedding that each leaves behind (InfoNCE with the channel's own density).

    OMP_NUM_THREADS=1 python benchmarks/paper/nishiyama.py
"""

from __future__ import annotations

import math
from typing import Any

import common
import datasets
import torch

from sknoisydim import NoisyDIMTransformer
from sknoisydim.bounds import resolve_bound
from sknoisydim.metrics import relative_distance
from sknoisydim.noise import GaussianNoise

SMALLEST = 1e-8


def nishiyama(scores: torch.Tensor) -> torch.Tensor:
    r"""Least divergence of two distributions whose critics have these means and variances.

    .. math:: (A - 2 V_p) \frac{\artanh(D / A)}{D} + \frac12 \log \frac{V_p}{V_q}, \qquad
        A = (E_p - E_q)^2 + V_p + V_q, \quad D^2 = A^2 - 4 V_p V_q

    with E_p, V_p the mean and variance of the diagonal, E_q, V_q those of the rest. After T.
    Nishiyama, "A New Lower Bound for Kullback-Leibler Divergence Based on
    Hammersley-Chapman-Robbins Bound", arXiv:1907.00288.
    """
    n = len(scores)
    own = scores.diagonal()
    rivals = scores[~torch.eye(n, dtype=torch.bool, device=scores.device)]
    mean_p, mean_q = own.mean(), rivals.mean()
    var_p, var_q = own.var() + SMALLEST, rivals.var() + SMALLEST
    a = (mean_p - mean_q).square() + var_p + var_q
    # D^2 = (A - 2 sqrt(Vp Vq)) (A + 2 sqrt(Vp Vq)), which does not cancel.
    product = 2 * (var_p * var_q).sqrt()
    d = ((a - product).clamp(min=SMALLEST) * (a + product)).sqrt()
    # artanh(D / A) = log((A + D) / 2 sqrt(Vp Vq)), since (A - D) (A + D) = 4 Vp Vq.
    return (a - 2 * var_p) * ((a + d) / product).log() / d + 0.5 * (var_p / var_q).log()


def true_critic() -> list[list[Any]]:
    rows = []
    for d in (1, 4, 16):
        for nats in (0.1, 1.0, 3.0, 5.0):
            scale = 1 / math.sqrt(math.expm1(2 * nats / d))
            channel = GaussianNoise(scale).build(d, 512)
            generator = torch.Generator().manual_seed(d)
            shown = dict.fromkeys(("infonce", "nwj", "smile", "nishiyama"), 0.0)
            for _ in range(8):
                clean = channel.sample_input(512, generator).double()
                scores = channel.log_ratio(clean, channel.transmit(clean, generator))
                for name in shown:
                    bound = nishiyama if name == "nishiyama" else resolve_bound(name)
                    shown[name] += bound(scores).item() / 8
            rows.append([d, nats, *shown.values()])
    return rows


def on_digits() -> list[list[Any]]:
    X = datasets.digits()[0]
    rows = []
    for d in (2, 8):
        for critic in ("separable", "bilinear"):
            for name in ("infonce", "smile", "nishiyama"):
                try:
                    model = NoisyDIMTransformer(
                        d,
                        critic=critic,
                        bound=nishiyama if name == "nishiyama" else name,
                        augmentation=None,
                        clean_weight=0,
                        keep=None,
                        refine=None,
                        match_weight=0,
                        batch_size=128,
                        max_epochs=15,
                        random_state=0,
                    ).fit(X)
                except ValueError as error:
                    rows.append([d, critic, name, str(error)[:40], *[math.nan] * 3])
                    continue
                reported = model.history_["train_information"]
                relative = relative_distance(
                    "sliced_wasserstein", model.transform(X), random_state=0
                )
                found = [reported[0], reported[-1], model.mutual_information_, relative]
                rows.append([d, critic, name, *found])
    return rows


def main() -> None:
    print(common.versions())
    header = ("d", "nats", "infonce", "nwj", "smile", "nishiyama")
    rows = true_critic()
    common.show("The true log density ratio, n = 512", header, rows)
    common.write_table("nishiyama_true", header, rows)
    header = ("d", "critic", "bound", "reported, epoch 1", "reported, epoch 15", "I", "relative")
    rows = on_digits()
    common.show("Trained on digits, 15 epochs of batches of 128", header, rows)
    common.write_table("nishiyama_digits", header, rows)
    common.write_note(
        "nishiyama",
        "OMP_NUM_THREADS=1 python benchmarks/paper/nishiyama.py",
        "Digits, 1,797 rows, batches of 128, 15 epochs, one fit a line, seed 0.",
    )


if __name__ == "__main__":
    main()
