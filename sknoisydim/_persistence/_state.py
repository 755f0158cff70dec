"""A fitted transformer as JSON and arrays, and back; components of the user's own are left out.

Nothing runs: an object is the name of its class, which has to be a known one, and its attributes.
"""

import copy
import functools
import inspect
import sys
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeAlias

import numpy as np
import torch
from scipy import stats
from sklearn import preprocessing
from sklearn.base import BaseEstimator, clone
from sklearn.utils.validation import check_is_fitted
from torch import nn

from sknoisydim import augmentations, bounds
from sknoisydim._model import Embedder
from sknoisydim._modules import make_generator
from sknoisydim._net._skorch import DIMNet
from sknoisydim._objective import Objective
from sknoisydim.critics import resolve_critic
from sknoisydim.encoders import IndicateMissing, resolve_encoder
from sknoisydim.noise import resolve_noise
from sknoisydim.normalization import resolve_normalization
from sknoisydim.scaling import SklearnScaling
from sknoisydim.targets import Target, resolve_target

# Parameters and classes that older files call otherwise.
RENAMED = {"laws": "marginals", "_decoder.KernelRidge": "_kernel_ridge.KernelRidge"}
JSON: TypeAlias = Any
Arrays = dict[str, np.ndarray]
# Where classes come from whose objects a file can hold.
MODULES = (
    *("_decoder", "_kernel_ridge", "_modules", "augmentations", "bounds", "critics", "encoders"),
    *("noise", "normalization", "refinement", "scaling", "targets"),
)
SCALERS = (
    *("MaxAbsScaler", "MinMaxScaler", "Normalizer", "PowerTransformer", "QuantileTransformer"),
    *("RobustScaler", "StandardScaler"),
)
# Of an empty module all but what it is made of: hooks and the like, of which none may be in use.
PARTS = {"training", "_parameters", "_buffers", "_modules"}
HOOKS = {name: value for name, value in vars(nn.Module()).items() if name not in PARTS}
_Frozen = type(stats.norm())
_MultivariateNormal = type(stats.multivariate_normal([0.0], [[1.0]]))
# Classes of the newer generation's distributions; and a function that makes one.
CALLED = {name: getattr(stats, name) for name in ("Normal", "Uniform", "multivariate_normal")}


class Unknown(ValueError):
    """A value that JSON and arrays cannot say."""

    def __init__(self, what: str) -> None:
        reason = "which a file that is safe to load cannot hold. Pickle the estimator instead."
        super().__init__(f"{what}, {reason}")


@functools.cache
def known() -> Mapping[str, Any]:
    """Return, by name, the classes whose objects are written, and what is written by name alone."""
    found: dict[str, Any] = {f"sklearn.{name}": getattr(preprocessing, name) for name in SCALERS}
    for name, module in list(sys.modules.items()):
        package, part = (*name.split("."), "")[:2]
        if package == "sknoisydim" and part in MODULES:
            classes = [kind for kind in vars(module).values() if inspect.isclass(kind)]
            found |= {f"{part}.{c.__qualname__}": c for c in classes if c.__module__ == name}
    functions: list[Any] = [augmentations.identity, bounds.dv, *bounds.BOUNDS.values()]
    found |= {f"bounds.{value.__name__}": value for value in functions}
    for name, value in (vars(torch) | vars(torch.optim) | vars(nn)).items():
        is_part = inspect.isclass(value) and issubclass(value, (nn.Module, torch.optim.Optimizer))
        if is_part or isinstance(value, torch.dtype):
            found[f"torch.{name}"] = value
    return found


class Writer:
    """Turn values into JSON, and collect their arrays, each named by the path of its value."""

    def __init__(self) -> None:
        self.arrays: Arrays = {}
        self.names = {value: name for name, value in known().items()}

    def put(self, value: object, path: str, parameter: str = "") -> JSON:
        """Return JSON; for what it cannot say, which parameter the caller of `load` has to name."""
        before = dict(self.arrays)
        try:
            return self.write(value, path)
        except Unknown:
            self.arrays = before
        of_itself = inspect.isclass(value) or inspect.isroutine(value)
        kind: Any = value if of_itself else type(getattr(value, "transformer", value))
        name, state = f"{kind.__module__}.{kind.__qualname__}", None
        if not parameter:
            raise Unknown(f"{path.rpartition('.')[2]!r} holds a {name}")
        if isinstance(value, nn.Module) and path.startswith("parts."):
            state = self.write(dict(value.state_dict()), path)
        return {"own": {"parameter": parameter, "type": name, "state": state}}

    def write(self, value: Any, path: str) -> JSON:
        """Return JSON for a value; raises Unknown if it is, or holds, what cannot be said."""
        kind = type(value)
        if value is None or kind in (bool, int) or (kind is float and np.isfinite(value)):
            return value
        if isinstance(value, str):
            return str(value)
        if kind in (list, tuple):
            items = [self.write(item, f"{path}.{i}") for i, item in enumerate(value)]
            return items if kind is list else {"tuple": items}
        if kind in (dict, OrderedDict):
            pairs = value.items()
            return {"dict": [[self.write(k, path), self.write(v, f"{path}.{k}")] for k, v in pairs]}
        if kind is float or isinstance(value, torch.device):
            return {kind.__name__: str(value)}
        if isinstance(value, (np.ndarray, np.generic, torch.Tensor)):
            return self._array(value, path)
        if inspect.isclass(value) or inspect.isroutine(value) or isinstance(value, torch.dtype):
            if value not in self.names:
                raise Unknown(f"{path} is {value!r}")
            return {"name": self.names[value]}
        if kind in self.names:
            return {"object": [self.names[kind], self.write(self._state(value, path), path)]}
        if kind is np.random.RandomState:
            return {"random": self.write(list(value.get_state(legacy=True)), path)}
        return {"distribution": self._distribution(value, path)}

    def _array(self, value: Any, path: str) -> JSON:
        if isinstance(value, torch.Tensor):
            how: Any = [isinstance(value, nn.Parameter), value.requires_grad]
            try:
                value = value.detach().cpu().numpy()
            except TypeError as error:
                raise Unknown(f"{path}: {error}") from error
        elif value.dtype == object and all(isinstance(item, str) for item in value.flat):
            return {"strings": [str(item) for item in value]}
        else:  # the last bits of a matrix product depend on the layout, so it is kept
            how = ["S" if isinstance(value, np.generic) else "F" if value.flags.fnc else "C"]
            value = np.asarray(value, dtype=value.dtype.newbyteorder("="))
        if value.dtype.kind not in "fiub" or value.dtype.itemsize > 8:
            raise Unknown(f"{path} is an array of {value.dtype}")
        while path in self.arrays:
            path += "'"
        self.arrays[path] = value
        return {"tensor" if len(how) == 2 else "array": [path, *how]}

    def _state(self, value: Any, path: str) -> tuple[object, ...] | dict[str, object]:
        if isinstance(value, tuple):
            return tuple(value)
        state = dict(value.__getstate__() or {})
        for name, unused in HOOKS.items() if isinstance(value, nn.Module) else ():
            if state.pop(name, None) not in (None, unused):
                raise Unknown(f"{path} has hooks")
        state.pop("_sklearn_version", None)
        return state

    def _distribution(self, value: Any, path: str) -> JSON:
        newer = type(value).__name__.removeprefix("Standard")  # of Normal(mu=0, sigma=1)
        if type(value) is _Frozen:
            dist: Any = value.dist
            own: Any = getattr(stats, dist.name, None)
            same = type(own) is type(dist)
            if same and repr(own._updated_ctor_param()) == repr(dist._updated_ctor_param()):
                given = (value.args, value.kwds)
                return [str(dist.name), *(self.write(part, path) for part in given)]
        elif newer in CALLED and isinstance(value, CALLED[newer]):
            return [newer, [], self.write(dict(value._original_parameters), path)]
        elif type(value) is _MultivariateNormal:
            both = {name: np.asarray(getattr(value, name)) for name in ("mean", "cov")}
            return ["multivariate_normal", [], self.write(both, path)]
        raise Unknown(f"{path} is a {type(value).__module__}.{type(value).__qualname__}")


def read(node: JSON, arrays: Arrays) -> Any:
    """Return the value of JSON that a `Writer` made; raises anything for other JSON."""
    if isinstance(node, list):
        return [read(item, arrays) for item in node]
    if not isinstance(node, dict):
        return node
    ((tag, content),) = node.items()
    match tag:
        case "tuple":
            return tuple(read(item, arrays) for item in content)
        case "dict":
            return {read(key, arrays): read(value, arrays) for key, value in content}
        case "float":
            return float(content)
        case "device":
            return torch.device(content)
        case "name":
            return known()[content]
        case "strings":
            return np.array([str(item) for item in content], dtype=object)
        case "array":
            name, order = content
            return arrays[name][()] if order == "S" else np.array(arrays[name], order=order)
        case "tensor":
            name, is_parameter, requires_grad = content
            tensor = torch.from_numpy(np.array(arrays[name], order="C"))
            return nn.Parameter(tensor, requires_grad) if is_parameter else tensor
        case "object":
            kind, state = known()[RENAMED.get(content[0], content[0])], content[1]
            if issubclass(kind, Target):  # older files hold what `bind` makes besides
                pairs = [[RENAMED.get(name, name), node] for name, node in state["dict"]]
                state = {"dict": [pair for pair in pairs if pair[0] in kind._get_param_names()]}
            state = read(state, arrays)
            if issubclass(kind, tuple):
                return kind(*state)
            made = kind.__new__(kind)
            if isinstance(made, nn.Module):
                nn.Module.__init__(made)
            vars(made).update(state)
            return made
        case "distribution":
            name, arguments, keywords = content
            kind = CALLED.get(name) or getattr(stats, name)
            if name not in CALLED and not isinstance(kind, stats.rv_continuous):
                raise ValueError(f"{name!r} is no continuous distribution of scipy.stats.")
            return kind(*read(arguments, arrays), **read(keywords, arrays))
        case "own":
            return read(content["state"], arrays)
        case "random":
            generator = np.random.RandomState(0)
            generator.set_state(tuple(read(content, arrays)))
            return generator
    raise ValueError(f"{tag!r} is unknown.")


# Of each part of a fit the parameter that it was made of, and how it is made of what the caller of
# `load` passes for that, and of the parts before it.
MADE: Mapping[str, tuple[str, Callable[[Any, dict[str, Any]], Any]]] = {
    "channel": ("noise", lambda own, p: resolve_noise(own).build(p["d"], p["batch_size_"])),
    "augmentation": ("augmentation", lambda own, p: augmentations.resolve_augmentation(own)),
    "bound": ("bound", lambda own, p: bounds.resolve_bound(own)),
    "critic": ("critic", lambda own, p: resolve_critic(own).build(p["d"], p["channel"], p["rng"])),
    "encoder": ("encoder", lambda own, p: resolve_encoder(own).build(p["width"], p["d"], p["rng"])),
    "normalizer": ("normalization", lambda own, p: resolve_normalization(own).build(p["d"])),
    "scaling": ("scaling", lambda own, p: SklearnScaling(own) if not check_is_fitted(own) else own),
    "target": ("target", lambda own, p: resolve_target(own, p["d"])),
}
EMBEDDER = tuple(inspect.signature(Embedder).parameters)
OBJECTIVE = tuple(inspect.signature(Objective).parameters)


def _parts(estimator: BaseEstimator) -> dict[str, Any]:
    """Return everything that the fitted attributes are put together of."""
    objective, embedder = estimator.net_.module_, estimator.encoder_
    parts = {name: getattr(objective, name) for name in OBJECTIVE}
    shared = all(parts.get(n, value) is value for n, value in embedder.named_children())
    if not shared or parts["channel"] is not estimator.channel_:
        raise ValueError("encoder_ or channel_ is no longer what was trained.")
    parts |= {name: getattr(embedder, name) for name in (*EMBEDDER, "row_shape", "in_double")}
    front, n_columns = parts["encoder"], estimator.n_features_in_
    try:
        n_columns = embedder.scaled(np.zeros((1, n_columns), np.float32)).shape[1]
    except (TypeError, ValueError):  # a transformer of the user's that does not take zeros
        n_columns += len(getattr(front, "columns", ()))
    parts["width"] = parts["row_shape"] or n_columns
    if isinstance(front, IndicateMissing):
        cells = [front.columns, front.fill, getattr(parts["scaling"], "fill", None)]
        parts |= {"encoder": front.encoder, "missing": cells}
    unbound = clone(estimator.target_, safe=False)
    return parts | {"refinement": estimator.refinement_, "target": unbound}


def pack(estimator: BaseEstimator, apart: Collection[str] = ()) -> tuple[dict[str, JSON], Arrays]:
    """Return a fitted estimator as JSON and arrays; of names in `apart`, parameters are None."""
    writer, parameters = Writer(), estimator.get_params(deep=False)
    parameters |= dict.fromkeys(parameters.keys() & apart)
    assembled = ("net_", "encoder_", "refinement_", "target_", "channel_")  # of the parts
    rest = (*parameters, *assembled, *apart)
    fitted = {name: value for name, value in vars(estimator).items() if name not in rest}
    parts = _parts(estimator).items()
    header = {
        "parameters": {n: writer.put(v, f"parameters.{n}", n) for n, v in parameters.items()},
        "parts": {n: writer.put(v, f"parts.{n}", MADE.get(n, ("",))[0]) for n, v in parts},
        "fitted": {name: writer.put(value, name) for name, value in fitted.items()},
    }
    return header, writer.arrays


def _is_own(node: JSON) -> bool:
    return isinstance(node, dict) and "own" in node


def left_out(header: Mapping[str, JSON]) -> dict[str, str]:
    """Return the parameters that are left to the caller of `load`, and what they were."""
    nodes = filter(_is_own, [*header["parts"].values(), *header["parameters"].values()])
    return {node["own"]["parameter"]: node["own"]["type"] for node in nodes}


def unpack(
    header: Mapping[str, JSON], arrays: Arrays, named: Mapping[str, object]
) -> dict[str, Any]:
    """Return the attributes of the estimator; `named` are the components that were left out."""
    needed = left_out(header)
    if needed.keys() != named.keys():
        call = ", ".join(["path", *(f"{name}=..." for name in needed)])
        kinds = list(needed.values())
        raise ValueError(f"the file holds all components but {kinds}: write load({call}).")
    found, fitted = (read({"dict": header[p].items()}, arrays) for p in ("parameters", "fitted"))
    nodes = header["parts"]
    parts = {**fitted, "d": fitted["n_components_"], "rng": make_generator(0)}
    parts["width"] = read(nodes["width"], arrays)
    # Components are made for so many columns: not for more than there are numbers in the file.
    numbers = max(10**5, sum(array.size for array in arrays.values()))
    for size in (*np.atleast_1d(parts["width"]).tolist(), fitted["n_features_in_"], parts["d"]):
        if type(size) is not int or not 1 <= size <= numbers:
            raise ValueError(f"{size!r} columns are not what its tensors are for.")
    for name in sorted(nodes, key=lambda name: name != "channel"):  # which a critic knows
        parts[name] = read(nodes[name], arrays)
        if _is_own(nodes[name]):
            parameter, make = MADE[name]
            parts[name] = _with_state(make(named[parameter], parts), parts[name], parameter)
    if "scaling" in named:  # it is fitted
        named = {**named, "scaling": clone(named["scaling"])}
    return {**found, **named, **fitted, **_assemble(parts)}


def _with_state(part: Any, state: Any, parameter: str) -> Any:
    """Return a part that the caller of `load` has named, with its tensors, if there are any."""
    if state is None:
        return part
    try:
        part = copy.deepcopy(part).float()
        part.load_state_dict(state)
    except (AttributeError, RuntimeError, TypeError) as error:
        raise ValueError(f"the weights in the file do not fit {parameter}: {error}") from error
    return part


def _assemble(parts: dict[str, Any]) -> dict[str, Any]:
    """Put the fitted attributes together of their parts."""
    if "missing" in parts:
        columns, fill, shown = parts["missing"]
        parts["encoder"] = IndicateMissing(parts["encoder"], columns, fill)
        if shown is not None:
            parts["scaling"].fill = shown
    objective = Objective(**{name: parts[name] for name in OBJECTIVE}).eval()
    embedder = Embedder(**{name: parts[name] for name in EMBEDDER}).eval()
    embedder.row_shape, embedder.in_double = parts["row_shape"], parts["in_double"]
    parts["target"] = parts["target"].bind(parts["d"])
    net = DIMNet.at_rest(objective, parts["history_"], batch_size=parts["batch_size_"])
    found = {f"{name}_": parts[name] for name in ("refinement", "target", "channel")}
    return {"net_": net, "encoder_": embedder, **found}
