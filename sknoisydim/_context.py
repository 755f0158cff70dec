"""A context of our own in public functions, whose results never depend on the caller's."""

import contextlib
import functools
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np


@contextlib.contextmanager
def own_context(*, gradients: bool = True) -> Iterator[None]:
    """Compute as if the caller were in no context; as a decorator, a whole function.

    It is the context that numpy and torch start with: floating-point errors, the CPU for tensors,
    no autocast, and gradients (`gradients=False` leaves these to the caller, whose tensors they
    are). The default dtype of torch belongs to the process: name the dtype of each tensor. Not for
    generators, which would leak to their caller.
    """
    with contextlib.ExitStack() as stack:
        # What numpy does about floating-point errors unless it is told otherwise.
        stack.enter_context(np.errstate(all="warn", under="ignore"))
        if "torch" in sys.modules:  # without, there is no context of torch; targets do without
            _enter_torch(stack, gradients)
        yield


def _enter_torch(stack: contextlib.ExitStack, gradients: bool) -> None:
    import torch

    accelerator = torch.accelerator.current_accelerator()
    for kind in {"cpu", accelerator.type if accelerator else "cpu"}:
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
    """Decorate the `forward` of a module that users call themselves."""
    import torch

    in_own_context = own_context(gradients=False)(forward)

    @functools.wraps(forward)
    def inside(*args: object, **kwargs: object) -> Any:  # a compiler or an export keeps no context
        compiling = torch.compiler.is_compiling()
        return forward(*args, **kwargs) if compiling else in_own_context(*args, **kwargs)

    return inside


@contextlib.contextmanager
def extra(name: str, what: str) -> Iterator[None]:
    """Say how to install what is imported inside, where it is missing."""
    try:
        yield
    except ImportError as error:
        message = f'{what} needs an extra: pip install "sknoisydim[{name}]" ({error}).'
        raise ImportError(message) from error
