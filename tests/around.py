"""What belongs to the whole process, and so is not ours: it is as it was after a call."""

import random
import signal
import warnings

import numpy as np
import torch


def process():
    numpy_state = np.random.get_state()  # noqa: NPY002 (the global generator is what is tested)
    return {
        "torch generator": torch.get_rng_state().tolist(),
        "numpy generator": (numpy_state[0], numpy_state[1].tolist(), *numpy_state[2:]),
        "random generator": random.getstate(),
        "torch threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "warning filters": list(warnings.filters),
        "showwarning": warnings.showwarning,
        "default dtype": torch.get_default_dtype(),
        "default device": torch.empty(0).device,
        "grad mode": torch.is_grad_enabled(),
        "inference mode": torch.is_inference_mode_enabled(),
        "anomaly mode": torch.is_anomaly_enabled(),
        "deterministic": (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
            torch.backends.cudnn.deterministic,
            torch.backends.cudnn.benchmark,
        ),
        "matmul precision": torch.get_float32_matmul_precision(),
        "numpy errors": np.geterr(),
        "print options": np.get_printoptions(),
        "SIGINT": signal.getsignal(signal.SIGINT),
    }
