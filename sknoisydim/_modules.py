"""Seeds and generators, and layers that draw from generators of ours."""

import contextlib
import importlib
import math
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise

import numpy as np
import torch
from sklearn.utils import check_random_state
from torch import nn

# What scikit-learn takes as `random_state`.
RandomState = int | np.random.RandomState | None
# torch's global generator belongs to the process, so only one thread may use it at a time.
_GLOBAL_GENERATOR = threading.RLock()
_COMPILER = threading.Lock()


def import_compiler() -> None:
    """Import torch's compiler, as its first optimizer does, without the filter that sympy adds."""
    with _COMPILER:  # a thread that finds the import begun waits for its end
        if "torch._dynamo" not in sys.modules:
            with warnings.catch_warnings():
                importlib.import_module("torch._dynamo")


def draw_seed(random_state: RandomState) -> int:
    """Return a seed from scikit-learn's `random_state`; None leaves numpy's generator alone."""
    if random_state is None:
        return int(np.random.SeedSequence().generate_state(1)[0])
    try:
        if isinstance(random_state, (bool, np.bool_)):  # a seed of 1 is not what True asks for
            raise TypeError
        generator = check_random_state(random_state)
    except (TypeError, ValueError) as error:
        allowed = "an integer in [0, 2**32 - 1], a numpy.random.RandomState or None"
        raise ValueError(f"random_state must be {allowed}, got {random_state!r}.") from error
    return int(generator.randint(np.iinfo(np.int32).max))


def make_generator(seed: int, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a generator of our own, seeded and on `device`."""
    return torch.Generator(device=device).manual_seed(seed)


@contextlib.contextmanager
def fork_global_rng(seed: int) -> Iterator[None]:
    """Seed torch's global generators, and put them back as they were.

    For a user's module, which draws weights and dropout from them. Threads take turns, so that each
    gets the numbers of its own seed.
    """
    # GPUs that nobody has used stay out of it: to read their state would start every one, of which
    # torch warns, and in a forked process it fails.
    started = torch.cuda.is_initialized()
    devices = range(torch.cuda.device_count()) if started else ()
    with _GLOBAL_GENERATOR, torch.random.fork_rng(devices):
        if started or not torch.cuda.is_available():
            torch.manual_seed(seed)
        else:  # which would leave the seed for the GPUs to start from
            torch.default_generator.manual_seed(seed)
        yield


def global_rng_states() -> list[torch.Tensor]:
    """Return the states of torch's global generators, inside of `fork_global_rng`."""
    gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    return [torch.get_rng_state(), *gpus]


def set_global_rng_states(states: Sequence[torch.Tensor]) -> None:
    """Put torch's global generators into such states, inside of `fork_global_rng`."""
    torch.set_rng_state(states[0])
    torch.cuda.set_rng_state_all(states[1:])


_KINDS = (nn.ReLU, nn.GELU, nn.SiLU, nn.Tanh, nn.ELU)
ACTIVATIONS: Mapping[str, type[nn.Module]] = {kind.__name__.lower(): kind for kind in _KINDS}


def linear(
    n_inputs: int, n_outputs: int, generator: torch.Generator, *, bias: bool = True
) -> nn.Linear:
    """Return an `nn.Linear` with torch's usual initial distribution, drawn from `generator`."""
    layer = nn.utils.skip_init(nn.Linear, n_inputs, n_outputs, bias=bias, dtype=torch.float32)
    bound = 1 / math.sqrt(n_inputs)
    nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
    if bias:
        nn.init.uniform_(layer.bias, -bound, bound, generator=generator)
    return layer


class Dropout(nn.Module):
    """Dropout from a generator of its own, so that a seed fixes it in any thread."""

    def __init__(self, p: float, seed: int) -> None:
        super().__init__()
        self.p, self.seed = p, seed
        self._generator: torch.Generator | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training or self.p == 0:
            return x
        if self._generator is None or self._generator.device != x.device:
            self._generator = torch.Generator(x.device).manual_seed(self.seed)
        factor = torch.rand(
            x.shape, generator=self._generator, device=x.device, dtype=torch.float32
        )
        factor.ge_(self.p).mul_(1 / (1 - self.p))  # in place: half the time of a mask of booleans
        return x * factor.to(x.dtype)

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_generator": None}


class Residual(nn.Module):
    """`x + block(x)`; both have one width."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.block(x)


def mlp(
    n_inputs: int,
    hidden_layer_sizes: Sequence[int],
    n_outputs: int,
    generator: torch.Generator,
    *,
    activation: str = "relu",
    batch_norm: bool = False,
    dropout: float = 0.0,
    residual: bool = False,
) -> nn.Sequential:
    """Return a multi-layer perceptron with a linear output.

    Each hidden layer is linear, batch normalisation (if asked for), activation, dropout (if any);
    with `residual`, a layer that keeps the width adds its input.
    """
    layers: list[nn.Module] = []
    sizes = (n_inputs, *hidden_layer_sizes)
    for width, size in pairwise(sizes):
        # Batch normalisation subtracts whatever a bias before it adds.
        block: list[nn.Module] = [linear(width, size, generator, bias=not batch_norm)]
        if batch_norm:
            block.append(nn.BatchNorm1d(size, dtype=torch.float32))
        block.append(ACTIVATIONS[activation]())
        if dropout:
            seed = int(torch.randint(2**31 - 1, (), generator=generator))
            block.append(Dropout(dropout, seed))
        layers += [Residual(nn.Sequential(*block))] if residual and size == width else block
    return nn.Sequential(*layers, linear(sizes[-1], n_outputs, generator))


class Float64(nn.Module):
    """Has buffers of float64, and keeps them so when the module around is made float32."""

    def _apply(self, fn: Callable[..., object], recurse: bool = True) -> nn.Module:
        before = dict(self._buffers)
        super()._apply(fn, recurse)
        for name, moved in self._buffers.items():
            if (tensor := before[name]) is not None and moved is not None:
                self._buffers[name] = tensor.to(moved.device)
        return self


class Table(Float64):
    """A smooth function f of each column in float64, by Lagrange's cubic on an even grid.

    `function` maps knots (k, 1) to values (k, d), or to (k, 1) for all columns alike; the grid goes
    from -edge to edge. With h the `step`, the error is at most :math:`h^4 |f^{(4)}| / 42` between
    the two inner ones of four knots. Constant beyond the grid, whose outermost values it does not
    exceed. Numbers are such as float32 holds, since an export to ONNX may make that of them.
    """

    def __init__(
        self, function: Callable[[np.ndarray], np.ndarray], edge: float, step: float = 2**-7
    ) -> None:
        super().__init__()
        self.edge, self.step = edge, step
        values = function(np.arange(-edge, edge + step, step)[:, None])
        self.values = nn.Buffer(torch.as_tensor(values, dtype=torch.float64))
        self.ends = nn.Buffer(self.values[[0, -1]])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, d = self.values.shape
        place = (x.to(torch.float64).clamp(-self.edge, self.edge) + self.edge) / self.step
        first = place.floor().long().clamp(1, n - 3) - 1
        columns = torch.arange(x.shape[1], device=x.device).clamp(max=d - 1)
        a, b, c, e = (self.values[first + i, columns] for i in range(4))
        t = place - first - 1
        outer = (2 - t) * (t - 1) * t * a + (t + 1) * (t - 1) * t * e
        inner = (t + 1) * (t - 1) * (t - 2) * b - (t + 1) * t * (t - 2) * c
        low, high = self.ends.aminmax(dim=0)
        return torch.minimum(torch.maximum(outer / 6 + inner / 2, low), high)
