"""The methods that take a fitted transformer out of its process."""

import json
import logging
import os
import warnings
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted
from torch import nn

from sknoisydim._context import extra, own_context
from sknoisydim._files import write_bytes
from sknoisydim._model import FittedModel, embeddings
from sknoisydim.encoders import IndicateMissing

from . import _file
from ._state import left_out, pack, unpack

# What belongs to a session, by `set_callbacks` of scikit-learn, and to a machine: no file has it.
APART = ("_skl_callbacks", "checkpoint")


def _check_works(model: BaseEstimator) -> None:
    """See that the parts fit together, with two rows; raises anything where they do not."""
    rows = np.zeros((2, model.n_features_in_), np.float32)
    if isinstance(model.encoder_.encoder, IndicateMissing):
        rows[1] = np.nan
    z = embeddings(model.encoder_, rows, torch.device("cpu"), model.refinement_)
    if not np.isfinite(model.target_.push(z)).all():
        raise ValueError("it embeds rows of zeros as NaN or infinity.")


def _matters(record: logging.LogRecord) -> bool:
    """Whether torch logs of a package that a model here may need."""
    return "torchvision is not installed" not in record.getMessage()


class Persistent:
    """Saving, loading and serving of a fitted `NoisyDIMTransformer`, which it is mixed into."""

    n_features_in_: int
    encoder_: Any

    @own_context()
    def __getstate__(self) -> dict[str, object]:
        state: Any = super().__getstate__()
        try:
            header, arrays = pack(self)
        except (AttributeError, ValueError):  # before a fit; and where the user changed attributes
            return state
        return state if left_out(header) else {"header": json.dumps(header), "arrays": arrays}

    @own_context()
    def __setstate__(self, state: dict[str, Any]) -> None:
        if state.keys() == {"header", "arrays"}:
            state = unpack(json.loads(state["header"]), state["arrays"], {})
        self.__dict__.update(state)

    @own_context()
    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted transformer to one file that is safe to load.

        The file is a `safetensors` container: tensors, and a JSON header with the rest and with the
        versions of libraries and format; not what `set_callbacks` set, and not `checkpoint`.

        Parameters
        ----------
        path : path-like
            A file there is replaced at once.

        Raises
        ------
        NotFittedError, OSError
            Before `fit`; if the file cannot be written.
        ValueError
            If the estimator holds something that neither the file can hold nor the caller of `load`
            could name: a refinement of your own, for instance.
        """
        check_is_fitted(self)
        _file.write(path, *pack(self, APART))

    @classmethod
    @own_context()
    def load(cls, path: str | os.PathLike[str], **own: object) -> Self:
        """Return the transformer that a file holds, on the CPU; nothing in the file is run.

        Parameters
        ----------
        path : path-like
            From `save`.
        **own : object
            Components of your own, by parameter, those that the file was saved with: `encoder`
            (what was passed to the estimator: its weights come from the file), `target`, `scaling`
            (fitted), `critic`, `noise`, `augmentation`, `bound`, `normalization`, `optimizer`,
            `callbacks`.

        Returns
        -------
        model : NoisyDIMTransformer
            Fitted, and of the class that the method is called of.

        Raises
        ------
        OSError
            If the file cannot be read.
        ValueError
            If it is not a whole and unchanged file of ours, has another format (the message says
            what reads it), or if components of your own are missing, or do not fit.
        """
        header, arrays = _file.read(path)
        try:
            state = unpack(header, arrays, own) | {"checkpoint": None}
            model = cls(**{name: state[name] for name in header["parameters"]})
            model.__dict__.update(state)
            if "scaling" not in own:  # which need not take rows of zeros
                _check_works(model)
        except Exception as error:  # what a damaged file says may be anything
            raise ValueError(f"{path} cannot be loaded: {error}") from error
        return model

    @own_context()
    def to_torch(self, *, target: bool = True) -> nn.Module:
        """Return the fitted transformer as a torch module, on the CPU and independent of it.

        It maps samples (n, p), or (n, ...) as in `fit`, to embeddings (n, d) of float32, or of
        float64 after `double()`. `torch.export` takes it, with any n.

        Parameters
        ----------
        target : bool, default=True
            Whether the target's map is part of it; without, embeddings are close to N(0, I).

        Returns
        -------
        module : torch.nn.Module

        Raises
        ------
        NotFittedError
            Before `fit`.
        ValueError
            If the scaling, the refinement or the target has no form in torch. Of the targets,
            "normal", `MultivariateNormal` and all with independent components have one.
        """
        check_is_fitted(self)
        return FittedModel.of(self, target)

    @own_context()
    def to_onnx(self, path: str | os.PathLike[str], *, target: bool = True) -> None:
        """Write the module of `to_torch` to an ONNX file, with input "X" and output "Z".

        Parameters
        ----------
        path : path-like
            A file there is replaced at once.
        target : bool, default=True
            As of `to_torch`.

        Raises
        ------
        ImportError
            If onnx or onnxscript is not installed: `pip install "sknoisydim[onnx]"`.
        NotFittedError, ValueError, OSError
            As `to_torch`; if the file cannot be written.
        """
        with extra("onnx", "to_onnx"):
            import onnx  # noqa: F401 (torch needs both, and says so less well)
            import onnxscript  # noqa: F401 (as above)
        module = self.to_torch(target=target)
        shape = self.encoder_.row_shape or (self.n_features_in_,)
        example = torch.zeros(2, *shape, dtype=torch.float32)  # one would make the number static
        options: Any = {"input_names": ["X"], "output_names": ["Z"], "verbose": False}
        options |= {"dynamo": True, "dynamic_shapes": ({0: torch.export.Dim("rows", min=1)},)}
        logger = logging.getLogger("torch.onnx._internal.exporter._registration")
        logger.addFilter(_matters)
        try:
            with warnings.catch_warnings(action="ignore"):  # of insides of torch and onnxscript
                program: Any = torch.onnx.export(module, (example,), **options)
        finally:
            logger.removeFilter(_matters)
        write_bytes(path, program.model_proto.SerializeToString())
