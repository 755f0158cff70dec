"""A plain torch module as an ONNX file."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import nn

from ._file import replace


def write_onnx(module: nn.Module, row_shape: tuple[int, ...], path: Any) -> None:
    """Write a module of rows (n, *row_shape) with the input "X" and the output "Z".

    Raises
    ------
    ImportError
        If onnx or onnxscript is not installed.
    """
    try:
        import onnx  # noqa: F401 (torch needs both, and says so less well)
        import onnxscript  # noqa: F401 (as above)
    except ImportError as error:
        raise ImportError(
            'to_onnx needs onnx and onnxscript: pip install "sknoisydim[onnx]".'
        ) from error
    # Two rows: a dynamic dimension is not traced with one.
    example = torch.zeros(2, *row_shape, dtype=torch.float32)
    rows = torch.export.Dim("rows", min=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what torch and onnxscript say of their own insides
        program = torch.onnx.export(
            module,
            (example,),
            dynamo=True,
            input_names=["X"],
            output_names=["Z"],
            dynamic_shapes=({0: rows},),
            verbose=False,
        )
    replace(path, program.model_proto.SerializeToString())  # type: ignore[union-attr]  # dynamo=True
