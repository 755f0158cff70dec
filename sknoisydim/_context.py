"""A context of our own in public functions, so that what they return never depends on the caller's.

It is the one that numpy and torch start with.
"""

import contextlib
import functools
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

# What numpy does about floating-point errors unless it is told otherwise.
ERRORS: Any = {"divide": "warn", "over": "warn", "under": "ignore", "invalid": "warn"}


@contextlib.contextmanager
def own_context(*, gradients: bool = True) -> Iterator[None]:
    """Compute as if the caller were in no context; as a decorator, a whole function.

    Floating-point errors are numpy's defaults, tensors are made on the CPU unless their device is
    named, no autocast is on, and gradients are recorded, unless with `gradients=False` that is left
    to the caller, whose tensors they are. The default dtype of torch belongs to the process, and so
    it stays: name the dtype of each tensor. Not for generators, which would leak to their caller.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(np.errstate(**ERRORS))
        if "torch" in sys.modules:  # without, there is no context of torch; targets do without
            _enter_torch(stack, gradients)
        yield


def _enter_torch(stack: contextlib.ExitStack, gradients: bool) -> None:
    import torch

    accelerator = torch.accelerator.current_accelerator()
    for kind in {"cpu", "cpu" if accelerator is None else accelerator.type}:
        if torch.is_autocast_enabled(kind):
            stack.enter_context(torch.autocast(kind, enabled=False))
    # Only where needed: inside of it, every call of torch takes a microsecond longer. By a tensor:
    # up to torch 2.9 get_default_device raises once a default was set and taken back.
    if torch.empty(0).device.type != "cpu":
        stack.enter_context(torch.device("cpu"))
    if gradients:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())


def own_forward(forward: Callable[..., object]) -> Callable[..., Any]:
    """Decorate the `forward` of a module that users call themselves.

    A compiler, or an export, finds the plain function: a context is nothing that it could keep.
    """
    import torch

    @functools.wraps(forward)
    def inside(*args: object, **kwargs: object) -> Any:
        if torch.compiler.is_compiling():
            return forward(*args, **kwargs)
        with own_context(gradients=False):
            return forward(*args, **kwargs)

    return inside


@contextlib.contextmanager
def extra(name: str, what: str) -> Iterator[None]:
    """Say how to install what is imported inside, where it is missing."""
    try:
        yield
    except ImportError as error:
        message = f'{what} needs an extra: pip install "sknoisydim[{name}]" ({error}).'
        raise ImportError(message) from error
