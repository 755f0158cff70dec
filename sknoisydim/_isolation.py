"""Seeds and generators, and contexts that isolate other people's code from the process."""

from __future__ import annotations

import contextlib
import importlib
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from sklearn.utils import check_random_state

# What scikit-learn takes as `random_state`.
RandomState = int | np.random.RandomState | None
# torch's global generator belongs to the process, so only one thread may use it at a time.
_GLOBAL_GENERATOR = threading.RLock()
_COMPILER = threading.Lock()


def import_compiler() -> None:
    """Import torch's compiler, as torch does for its first optimizer, and keep warning filters.

    The compiler imports sympy, which adds a filter to those of the process.
    """
    with _COMPILER:  # a thread that finds the import begun waits for its end
        if "torch._dynamo" not in sys.modules:
            with warnings.catch_warnings():
                importlib.import_module("torch._dynamo")


def draw_seed(random_state: RandomState) -> int:
    """Return a seed from scikit-learn's `random_state`.

    None draws fresh entropy and leaves numpy's global generator alone, unlike
    `sklearn.utils.check_random_state`.
    """
    if random_state is None:
        return int(np.random.SeedSequence().generate_state(1)[0])
    try:
        generator = check_random_state(random_state)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"random_state must be an integer in [0, 2**32 - 1], a numpy.random.RandomState or "
            f"None, got {random_state!r}."
        ) from error
    return int(generator.randint(np.iinfo(np.int32).max))


def make_generator(seed: int, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a generator of our own, seeded and on `device`."""
    return torch.Generator(device=device).manual_seed(seed)


@contextlib.contextmanager
def fork_global_rng(seed: int) -> Iterator[None]:
    """Seed torch's global generators, and put them back as they were.

    For code that is not ours and knows no other generator: a user's module draws its
    weights, and its dropout, from the global one. Threads take turns, so that each gets
    the numbers of its own seed.
    """
    # GPUs that nobody has used stay out of it: to read their state would start every one. torch
    # warns of that where there are several, and in a forked process it fails.
    started = torch.cuda.is_initialized()
    devices = range(torch.cuda.device_count()) if started else ()
    with _GLOBAL_GENERATOR, torch.random.fork_rng(devices):
        if started or not torch.cuda.is_available():
            torch.manual_seed(seed)
        else:  # which would leave the seed for the GPUs to start from
            torch.default_generator.manual_seed(seed)
        yield


def global_rng_states() -> dict[str, Any]:
    """Return the states of torch's global generators, inside of `fork_global_rng`."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def set_global_rng_states(states: Mapping[str, Any]) -> None:
    """Put torch's global generators into such states, inside of `fork_global_rng`."""
    torch.set_rng_state(states["cpu"])
    if states["cuda"]:
        torch.cuda.set_rng_state_all(states["cuda"])
