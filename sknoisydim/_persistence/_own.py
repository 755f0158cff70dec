"""What a file leaves to the caller of `load`: components of the user's own."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted
from torch import nn

from sknoisydim._isolation import make_generator
from sknoisydim._optimizers import resolve_optimizer
from sknoisydim.augmentations import resolve_augmentation
from sknoisydim.bounds import resolve_bound
from sknoisydim.critics import CRITICS, resolve_critic
from sknoisydim.encoders import resolve_encoder
from sknoisydim.noise import resolve_noise
from sknoisydim.normalization import resolve_normalization
from sknoisydim.scaling import SklearnScaling
from sknoisydim.targets import resolve_target

from ._codec import JSON


def _scaling(given: Any, there: dict[str, Any]) -> Any:
    try:
        check_is_fitted(given)
    except (NotFittedError, TypeError) as error:
        raise ValueError(
            "scaling must be the fitted transformer, since the file does not hold what it learnt: "
            f"pass model.encoder_.scaling.transformer, kept beside the file. {error}"
        ) from error
    return SklearnScaling(given)


# Of a critic that is made anew, whose size may be the square of it.
MOST_COMPONENTS = 2**11

# How each part is made of what the caller names, given what is there already.
MAKE: Mapping[str, Callable[[Any, dict[str, Any]], Any]] = {
    "augmentation": lambda given, there: resolve_augmentation(given),
    "bound": lambda given, there: resolve_bound(given),
    "channel": lambda given, there: resolve_noise(given).build(
        there["n_components_"], there["batch_size_"]
    ),
    "critic": lambda given, there: resolve_critic(given).build(
        there["n_components_"], there["channel"], make_generator(0)
    ),
    "encoder": lambda given, there: (
        resolve_encoder(given)
        .build(there["inputs"], there["n_components_"], make_generator(0))
        .float()
    ),
    "normalizer": lambda given, there: resolve_normalization(given).build(there["n_components_"]),
    "optimizer": lambda given, there: resolve_optimizer(given),
    "scaling": _scaling,
    "target": lambda given, there: resolve_target(given, there["n_components_"]),
}


def wanted(header: Mapping[str, JSON]) -> dict[str, str]:
    """Return the parameters that a file leaves to the caller, and what they were."""
    found: dict[str, str] = {}
    for node in [*header["parts"].values(), *header["parameters"].values()]:
        if isinstance(node, dict) and node["is"] == "own":
            found[str(node["of"]["parameter"])] = str(node["of"]["type"])
    return found


def made(header: Mapping[str, JSON]) -> dict[str, str]:
    """Return the critic, if the name in the file says how to make what its tensors are for.

    A name alone: parameters of a component could ask for a network of any size.
    """
    name, node = header["parameters"]["critic"], header["parts"].get("critic")
    if not (isinstance(name, str) and isinstance(node, dict) and node["is"] == "own"):
        return {}
    d = header["fitted"]["n_components_"]
    known = node["of"].get("made") is True and node["of"]["state"] and name in CRITICS
    return {"critic": name} if known and type(d) is int and d <= MOST_COMPONENTS else {}


def check_named(header: Mapping[str, JSON], named: Mapping[str, Any]) -> None:
    """See that the caller names what the file leaves out, and nothing else.

    Raises
    ------
    ValueError
        If not.
    """
    needed = {name: kind for name, kind in wanted(header).items() if name not in made(header)}
    missing = {name: kind for name, kind in needed.items() if name not in named}
    if missing:
        kinds = ", ".join(f"{name}=<{kind}>" for name, kind in missing.items())
        example = ", ".join(f"{name}=..." for name in missing)
        raise ValueError(
            f"the file was saved with {kinds}, which it does not hold, since this is not a part "
            f"of sknoisydim that files know: name it, as in load(path, {example})."
        )
    more = sorted(named.keys() - needed.keys())
    if more:
        raise ValueError(
            f"load was given {', '.join(more)}, but the file holds its own. It takes "
            f"{', '.join(sorted(needed)) or 'none'}."
        )


def builder(named: Mapping[str, Any]) -> Callable[[str, JSON, dict[str, Any]], Any]:
    """Return the function that makes a part, or a parameter, of what the caller names."""

    def build(name: str, own: JSON, there: dict[str, Any]) -> Any:
        given = named[own["parameter"]]
        if not name.startswith("parts."):
            return clone(given) if name == "scaling" else given
        made = MAKE[name.removeprefix("parts.")](given, there)
        if own["state"]:
            state = {k: torch.from_numpy(there["arrays"].array(v)) for k, v in own["state"].items()}
            made = _with_tensors(made, state, own["parameter"])
        return made

    return build


def _with_tensors(made: Any, state: dict[str, torch.Tensor], parameter: str) -> nn.Module:
    try:
        if not isinstance(made, nn.Module):
            raise TypeError(f"a {type(made).__name__} has no weights.")
        made = copy.deepcopy(made)
        made.load_state_dict(state)
    except (RuntimeError, TypeError) as error:
        raise ValueError(
            f"the weights in the file do not fit {parameter}, which has to make what was saved: "
            f"{error}"
        ) from error
    return made
