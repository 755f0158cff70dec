"""Encoders: the built-in network, and how a user's own module comes in."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from sklearn.base import BaseEstimator
from torch import nn

from sknoisydim._context import own_context
from sknoisydim._modules import ACTIVATIONS, Residual, fork_global_rng, mlp
from sknoisydim._validation import check_name, check_real, check_sizes, resolve

__all__ = ["MLPEncoder"]


class MLPEncoder(BaseEstimator):
    """Multi-layer perceptron on scaled columns.

    Parameters
    ----------
    hidden_layer_sizes : tuple of int, default=(256, 256)
        Widths of the hidden layers.
    activation : {"relu", "gelu", "silu", "tanh", "elu"}, default="relu"
        Nonlinearity behind each hidden layer.
    batch_norm : bool, default=True
        Batch normalisation between a hidden layer and its activation.
    dropout : float, default=0.3
        Probability that a hidden unit is dropped where a view is embedded, in [0, 1).
    residual : bool, default=False
        Add its input to each hidden layer that keeps the width.
    precision : {"32", "bf16"}, default="32"
        Of matrix products in training; "bf16" saves time where the hardware has such products.
    """

    own_generator = True  # draws from the one that it is given, and from no other

    def __init__(
        self,
        hidden_layer_sizes: Sequence[int] = (256, 256),
        activation: str = "relu",
        batch_norm: bool = True,
        dropout: float = 0.3,
        residual: bool = False,
        precision: str = "32",
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.batch_norm = batch_norm
        self.dropout = dropout
        self.residual = residual
        self.precision = precision

    @own_context()
    def build(self, n_features: int, n_components: int, generator: torch.Generator) -> nn.Module:
        """Return the module.

        Parameters
        ----------
        n_features, n_components : int
            Numbers p of scaled columns, with those that say which cells are missing, and d of
            components.
        generator : torch.Generator
            Of the weights, and of dropout.

        Returns
        -------
        encoder : nn.Module
            (n, p) -> (n, d).

        Raises
        ------
        TypeError, ValueError
            If a parameter is not valid; `precision` is checked by the fit.
        """
        activation = check_name(self.activation, ACTIVATIONS, "encoder activation")
        rate = check_real(self.dropout, "encoder dropout", minimum=0, maximum=1, closed="left")
        sizes = check_sizes(self.hidden_layer_sizes, "encoder hidden_layer_sizes")
        options: Any = {"activation": activation, "dropout": rate, "batch_norm": self.batch_norm}
        return mlp(n_features, sizes, n_components, generator, residual=self.residual, **options)


class _UserEncoder:
    """A module class, an instance or a factory, behind the same `build`."""

    any_shape = True  # rows may be images: then `n_features` is their shape, a tuple

    def __init__(self, source: Callable[..., object]) -> None:
        self.source = source

    @own_context()
    def build(self, n_features: object, n_components: int, generator: torch.Generator) -> nn.Module:
        if isinstance(self.source, nn.Module):
            return copy.deepcopy(self.source)
        seed = int(torch.randint(2**31 - 1, (), generator=generator))
        with fork_global_rng(seed):
            try:
                module = self.source(n_features, n_components)
            except Exception as error:  # a user's code may raise anything; it goes on
                error.add_note(f"It came from encoder({n_features}, {n_components}).")
                raise
        if not isinstance(module, nn.Module):
            raise TypeError(
                f"encoder={self.source!r} returned a {type(module).__name__}; a factory takes "
                "(n_features, n_components) and returns a torch.nn.Module."
            )
        return module


ENCODERS: Mapping[str, type] = {"mlp": MLPEncoder}


class IndicateMissing(nn.Module):
    """An encoder of rows (n, p) with `fill` (p,) for NaN, and 1 where one of k `columns` had it."""

    def __init__(self, encoder: nn.Module, columns: torch.Tensor, fill: torch.Tensor) -> None:
        super().__init__()
        self.encoder = encoder
        self.columns, self.fill = nn.Buffer(columns), nn.Buffer(fill)

    def widen(self, x: torch.Tensor) -> torch.Tensor:
        """Return rows (n, p) as the encoder takes them, (n, p + k)."""
        missing = x.isnan()
        filled = torch.where(missing, self.fill.to(x.dtype), x)
        if not len(self.columns):
            return filled
        return torch.cat([filled, missing.index_select(1, self.columns).to(x.dtype)], 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.encoder(self.widen(x))


def resolve_encoder(encoder: object) -> BaseEstimator | _UserEncoder:
    """Return the component that a value of the parameter `encoder` stands for."""
    kind = encoder if inspect.isclass(encoder) else type(encoder)
    if callable(encoder) and (issubclass(kind, nn.Module) or not hasattr(encoder, "build")):
        return _UserEncoder(encoder)
    also = ["a torch.nn.Module class, instance or factory (n_features, n_components) -> module"]
    return resolve(encoder, ENCODERS, "encoder", also=also)


def _batch_norms(encoder: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    return [m for m in encoder.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]


def check_output(encoder: nn.Module, example: torch.Tensor, n_components: int) -> None:
    """Raise ValueError where an encoder does not embed two scaled rows (2, p), each by itself."""
    if not all(layer.track_running_stats for layer in _batch_norms(encoder)):
        raise ValueError(
            "the encoder has a batch normalisation with track_running_stats=False, so a row's "
            "embedding would depend on the rows beside it. Use track_running_stats=True."
        )
    mode = encoder.training
    encoder.eval()
    try:
        with torch.no_grad():
            output, alone = encoder(example), encoder(example[:1])
    except RuntimeError as error:
        images = " For images without channels pass X[:, None]." if example.ndim == 3 else ""
        raise ValueError(
            f"the encoder does not take a batch of shape {tuple(example.shape)}, whose first "
            f"dimension is that of samples: {error}.{images}"
        ) from error
    encoder.train(mode)
    for rows, result in ((example, output), (example[:1], alone)):
        expected = (len(rows), n_components)
        shape = tuple(result.shape) if isinstance(result, torch.Tensor) else type(result).__name__
        if shape != expected:
            raise ValueError(
                f"the encoder maps a batch of shape {tuple(rows.shape)} to {shape}; "
                f"n_components={n_components} needs {expected}."
            )
    if not output.is_floating_point():
        raise ValueError(f"the encoder returns {output.dtype}; it has to return real numbers.")
    if not output.isfinite().all():
        raise ValueError("the encoder returns NaN or infinite values for finite rows.")
    # Rounding depends on the number of rows, and hardware may multiply in ten bits.
    if (alone - output[:1]).abs().max() > 0.02 * output.abs().max():
        raise ValueError(
            "the encoder returns something else for a row alone than for the same row with another "
            "beside it: its embedding would depend on the rows embedded with it, or on chance."
        )


def recalibrate(encoder: nn.Module, batches: Iterable[torch.Tensor]) -> None:
    """Set the statistics of batch normalisation layers to those of clean rows in random order."""
    layers = [m for m in _batch_norms(encoder) if m.track_running_stats]
    if not layers:
        return
    momenta = [layer.momentum for layer in layers]
    encoder.eval()
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # a cumulative average: every batch counts alike
        layer.train()
    with torch.no_grad():
        for batch in batches:
            encoder(batch)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
    encoder.eval()


def fold(encoder: nn.Module, mean: torch.Tensor, matrix: torch.Tensor) -> nn.Module | None:
    """Return the encoder with `matrix @ (output - mean)` behind it, or None if that is no chain."""
    if type(encoder) is IndicateMissing:
        inner = fold(encoder.encoder, mean, matrix)
        return inner and IndicateMissing(inner, encoder.columns, encoder.fill).eval()
    layers = list(encoder) if type(encoder) is nn.Sequential else []  # a subclass may do more
    hooked = any(m._forward_hooks or m._forward_pre_hooks for m in encoder.modules())
    if hooked or not layers or type(last := layers.pop()) is not nn.Linear:
        return None
    bias = last.bias if last.bias is not None else torch.zeros_like(mean)
    head = copy.deepcopy(last)  # a new one would draw, or import torch's compiler
    with torch.no_grad():
        head.weight = nn.Parameter(matrix @ last.weight)
        head.bias = nn.Parameter((bias - mean) @ matrix.T)
    return nn.Sequential(*_fold_batch_norms(layers), head).eval()


def _fold_batch_norms(layers: Iterable[Any]) -> list[nn.Module]:
    folded: list[nn.Module] = []
    for layer in layers:
        previous = folded[-1] if folded else None
        plain = type(layer) is nn.BatchNorm1d and layer.affine and layer.running_var is not None
        if plain and type(previous) is nn.Linear:
            folded[-1] = nn.utils.fusion.fuse_linear_bn_eval(previous, layer)
        elif type(layer) is nn.ReLU and type(previous) is nn.Linear:
            folded.append(nn.ReLU(inplace=True))  # nobody else sees the linear layer's output
        elif type(layer) is Residual and type(layer.block) is nn.Sequential:
            folded.append(Residual(nn.Sequential(*_fold_batch_norms(layer.block))))
        else:
            folded.append(layer)
    return folded
