"""An encoder whose rows are shared among processes: each embeds its part, and all get the whole.

What is drawn, and everything behind the encoder, is of the whole batch in every process, so a
fit is that of one process up to rounding. For the gradient, every process computes the same loss of
the gathered embeddings; its own part of the encoder's gradient, times the number of processes, is
then averaged over them. The gradients of what comes after are the same everywhere, and an average
leaves them as they are.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from sknoisydim._modules import Dropout
from sknoisydim.encoders import resolve_encoder

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
# These multiply by a mask; AlphaDropout and its kin do more.
DROPOUTS = (Dropout, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)


class Shard:
    """Which rows of the batch at hand are this process's.

    Parameters
    ----------
    rank : int
        Of this process.
    n_ranks : int
        Number of processes.
    """

    def __init__(self, rank: int, n_ranks: int) -> None:
        self.rank = rank
        self.n_ranks = n_ranks
        self.counts: list[int] = []

    @property
    def active(self) -> bool:
        """Whether a shared batch is on its way through the encoder."""
        return bool(self.counts)

    @property
    def total(self) -> int:
        """Rows of the whole batch."""
        return sum(self.counts)

    @property
    def part(self) -> slice:
        """The rows of this process."""
        start = sum(self.counts[: self.rank])
        return slice(start, start + self.counts[self.rank])

    @contextlib.contextmanager
    def batch(self, n_rows: int) -> Iterator[slice]:
        """Share a batch; the first processes get a row more where it cannot be shared evenly.

        Raises
        ------
        ValueError
            If there is not a row for each process.
        """
        if n_rows < self.n_ranks:
            raise ValueError(
                f"a batch of {n_rows} rows is shared among {self.n_ranks} processes, and each "
                "needs one at least: use more rows, a larger batch_size, or fewer processes."
            )
        least, more = divmod(n_rows, self.n_ranks)
        self.counts = [least + (rank < more) for rank in range(self.n_ranks)]
        try:
            yield self.part
        finally:
            self.counts = []


@contextlib.contextmanager
def waiting(shard: Shard) -> Iterator[None]:
    """Say more where the others do not answer."""
    try:
        yield
    except RuntimeError as error:
        error.add_note(
            f"Process {shard.rank} of {shard.n_ranks} waited for the others: one of them has "
            "ended, or did not answer within the time-out of the process group."
        )
        raise


class _Gather(torch.autograd.Function):
    """Embeddings of all processes, where all compute the same of them."""

    @staticmethod
    def forward(ctx: Any, output: torch.Tensor, shard: Shard) -> torch.Tensor:
        from accelerate.utils import gather

        ctx.part, ctx.n_ranks = shard.part, shard.n_ranks
        most = max(shard.counts)
        padded = output
        if len(output) < most:
            padded = torch.cat([output, output.new_zeros(most - len(output), *output.shape[1:])])
        with waiting(shard):
            gathered: torch.Tensor = gather(padded)
        if min(shard.counts) == most:
            return gathered
        parts = zip(gathered.split(most), shard.counts, strict=True)
        return torch.cat([part[:count] for part, count in parts])

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        # Nothing to send: the gradient of the whole is the same in every process.
        return gradients[0][ctx.part] * ctx.n_ranks, None


class _Sum(torch.autograd.Function):
    """The sum over all processes, of which each computes something else."""

    @staticmethod
    def forward(ctx: Any, addend: torch.Tensor, shard: Shard) -> torch.Tensor:
        ctx.shard = shard
        return _sum(addend, shard)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        return _sum(gradients[0], ctx.shard), None


def _sum(addend: torch.Tensor, shard: Shard) -> torch.Tensor:
    from accelerate.utils import reduce

    with waiting(shard):
        total: torch.Tensor = reduce(addend, "sum")
    return total


class _Forward:
    """Stands for the `forward` of a module, and can be taken away again.

    Names of parameters and types of layers stay as they are, so that all that reads them (dropout
    that is turned on and off, recalibration, a warm start) finds what it knows.
    """

    before: Any

    def __init__(self, module: nn.Module, shard: Shard) -> None:
        self.module = module
        self.shard = shard
        self.before = module.__dict__.get("forward")
        self.original = module.forward

    def install(self) -> None:
        """Take the place of `forward`."""
        vars(self.module)["forward"] = self

    def undo(self) -> None:
        """Put back what was there before."""
        del vars(self.module)["forward"]
        if self.before is not None:
            vars(self.module)["forward"] = self.before


class _Encode(_Forward):
    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        # Only training takes gradients; what it does to clean rows is in evaluation mode.
        if not torch.is_grad_enabled():
            whole: torch.Tensor = self.original(x)
            return whole
        with self.shard.batch(len(x)) as part:
            output = self.original(x[part])
            gathered: torch.Tensor = _Gather.apply(output, self.shard)
        return gathered


class _Drop(_Forward):
    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        if not (self.module.training and self.shard.active):
            alone: torch.Tensor = self.original(x)
            return alone
        # The mask of the whole batch: that of one process, and none that two processes share.
        mask = self.original(x.new_ones(self.shard.total, *x.shape[1:]))
        return x * mask[self.shard.part]


class _BatchNorm(_Forward):
    module: Any

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        layer, shard = self.module, self.shard
        if not (layer.training and shard.active):
            alone: torch.Tensor = self.original(x)
            return alone
        across = [0, *range(2, x.ndim)]
        shape = (1, -1, *[1] * (x.ndim - 2))
        given, x = x.dtype, x.float()  # in bfloat16 it would be neither the layer's nor exact
        variance, mean = (value.double() for value in torch.var_mean(x, across, correction=0))
        # In float64 the squares may cancel, and two numbers a unit are all that is sent.
        moments = torch.stack([mean, variance + mean.square()])
        mean, square = _Sum.apply(moments * (len(x) / shard.total), shard)
        variance = (square - mean.square()).clamp(min=0).to(x.dtype)
        mean = mean.to(x.dtype)
        self._remember(mean.detach(), variance.detach(), shard.total * x[0, 0].numel())
        z = (x - mean.view(shape)) * torch.rsqrt(variance + layer.eps).view(shape)
        z = z * layer.weight.view(shape) + layer.bias.view(shape) if layer.affine else z
        return z.to(given)

    def _remember(self, mean: torch.Tensor, variance: torch.Tensor, count: int) -> None:
        layer = self.module
        layer.num_batches_tracked.add_(1)
        momentum = layer.momentum
        if momentum is None:
            momentum = 1 / float(layer.num_batches_tracked)
        layer.running_mean.lerp_(mean, momentum)
        layer.running_var.lerp_(variance * (count / max(1, count - 1)), momentum)


class SharedEncoder:
    """Builds what `encoder` stands for, and shares its batches among the processes.

    Parameters
    ----------
    encoder : str, object, module or callable
        As the parameter of `NoisyDIMTransformer`.
    shard : Shard
        Of this process.
    """

    def __init__(self, encoder: Any, shard: Shard) -> None:
        self.encoder = encoder
        self.shard = shard
        self.component = resolve_encoder(encoder)
        self.own_generator = getattr(self.component, "own_generator", False)
        self.any_shape = getattr(self.component, "any_shape", False)

    def __sklearn_clone__(self) -> SharedEncoder:
        return self  # it knows its process, and a copy would know another

    def build(self, n_features: Any, n_components: int, generator: torch.Generator) -> nn.Module:
        """Return the module that shares.

        Raises
        ------
        TypeError
            If it has dropout that is no product with a mask.
        """
        module: nn.Module = self.component.build(n_features, n_components, generator)
        for layer in list(module.modules()):
            if isinstance(layer, BATCH_NORMS):
                _BatchNorm(layer, self.shard).install()
            elif isinstance(layer, DROPOUTS):
                _Drop(layer, self.shard).install()
            elif isinstance(layer, nn.modules.dropout._DropoutNd):
                raise TypeError(
                    f"the encoder has a {type(layer).__name__}, which cannot be shared among "
                    f"processes; {', '.join(kind.__name__ for kind in DROPOUTS[1:])} can."
                )
        _Encode(module, self.shard).install()
        return module


def unshare(module: nn.Module) -> None:
    """Make a module that `SharedEncoder` has built one that any process runs by itself."""
    for layer in module.modules():
        forward = layer.__dict__.get("forward")
        while isinstance(forward, _Forward):
            forward.undo()
            forward = layer.__dict__.get("forward")
