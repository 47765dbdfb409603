"""Taps: record the outputs of layers in one forward, and leave the model unchanged."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields, is_dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any, Literal, TypeAlias
from weakref import WeakSet

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from torchnle.types import Inputs, Layer, Layers, Select
from torchnle.vision.random_draws import warn_of_draws, watching
from torchnle.vision.running import check_hookable, exclusive_use, forward, of_this_thread, unwrap


@dataclass(frozen=True)
class Tap:
    """One point where a model is read: the output or the input of a module.

    Args:
        name: The dotted name, for messages and descriptions.
        module: The module itself.
        at: "output" = the module's return value; "input" = its argument.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
        >>> Tap("1", model[1], at="input").name
        '1'
    """

    name: str
    module: nn.Module
    at: Literal["output", "input"] = "output"

    @property
    def reference(self) -> str:
        """The name by which `resolve` finds it again, with its side.

        Example:
            >>> Tap("pool", nn.Identity(), at="input").reference
            'pool:input'
        """
        return self.name + _INPUT if self.at == "input" and not self.name.endswith(_INPUT) else self.name


#: Models whose first forward was watched for random draws.
_watched: WeakSet[nn.Module] = WeakSet()
#: The suffix of a layer's name that reads its input.
_INPUT = ":input"
#: All forms in which layers are named: one of them, or a list.
LayerChoice: TypeAlias = Layers | Tap | Sequence[Layer | Tap]


def resolve(
    model: Callable[..., Any],
    layers: LayerChoice,
    *,
    at: Literal["output", "input"] = "output",
) -> list[Tap]:
    """Find layers in a model.

    Args:
        model: The model; `torch.compile`d and (one-device) DataParallel models are looked into. For a plain
            function, layers must be modules.
        layers: A module, a dotted name ("layer4.1"), a glob over dotted names in which ``*`` stands for
            (part of) one component ("layer*", "blocks.*.norm1"; in module order), a `Tap`, or a list. A name
            or glob with the suffix ":input" ("pool:input") reads the module's input.
        at: Which side of the modules to read; a `Tap`, and a name with ":input", keep their own.

    Raises:
        ValueError: If `layers` is empty, a name or glob matches nothing, or a module is not in the
            model.
        TypeError: If a layer is none of the above.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
        >>> [tap.name for tap in resolve(model, "*")], resolve(model, model[1])[0].name
        (['0', '1', '2'], '1')
    """
    listed = [layers] if isinstance(layers, (nn.Module, str, Tap)) else list(layers)
    root = unwrap(model)
    taps = [tap for layer in listed for tap in _resolve_one(root, layer, at)]
    if not taps:
        raise ValueError("no layer was given. Pass a module, a dotted name, a glob, or a list of these.")
    return list(dict.fromkeys(taps))


def record(
    model: Callable[..., Any],
    taps: Sequence[Tap],
    inputs: Inputs,
    additional_forward_args: Any = None,
    *,
    select: Select | None = None,
) -> list[Tensor]:
    """Run the model once and return the tensor at every tap.

    Hooks are registered for this call only, after any that are already there, so that replacements by
    Captum's hooks are seen. The tensors are copies, so that a later in-place operation cannot overwrite them,
    and stay in the autograd graph where gradients are on. The model runs in evaluation mode, eagerly, and
    every training flag is restored.

    Args:
        model: The model, or any callable that runs the tapped modules.
        taps: Where to read, from `resolve`.
        inputs: One tensor or a tuple of tensors, batch first.
        additional_forward_args: Passed on after the inputs; anything but a tuple is one argument.
        select: Picks the tensor from a layer's output; by default the first tensor of a tuple, list, dict,
            dataclass or ModelOutput.

    Returns:
        One tensor a tap, in the order of `taps`.

    Raises:
        TypeError: If a layer gave no tensor, or the inputs are no floating tensors.
        ValueError: If the inputs are empty or not finite, or differ from the model in device or dtype.
        RuntimeError: If a layer did not run, ran several times, or runs where no hook works (TorchScript,
            DataParallel over several devices).

    Example:
        >>> model = nn.Sequential(nn.Identity(), nn.ReLU())
        >>> record(model, resolve(model, "1"), Tensor([[-1.0, 2.0]]))
        [tensor([[0., 2.]])]
    """
    return record_with_output(model, taps, inputs, additional_forward_args, select=select)[0]


def record_with_output(
    model: Callable[..., Any],
    taps: Sequence[Tap],
    inputs: Inputs,
    additional_forward_args: Any = None,
    *,
    select: Select | Sequence[Select | None] | None = None,
) -> tuple[list[Tensor], Any]:
    """Record as `record` does, and return the model's own output too; `select` may be a list, one a tap.

    Example:
        >>> model = nn.Sequential(nn.Identity(), nn.ReLU())
        >>> record_with_output(model, resolve(model, "0"), Tensor([[-1.0, 2.0]]))
        ([tensor([[-1., 2.]])], tensor([[0., 2.]]))
    """
    modules, runs = [tap.module for tap in taps], [list[Tensor]() for _ in taps]
    selects = list(select) if isinstance(select, Sequence) else [select] * len(taps)
    check_hookable(model, modules)
    root = unwrap(model)

    def run() -> Any:
        with ExitStack() as hooks:
            for tap, outputs, chosen in zip(taps, runs, selects, strict=True):
                hooks.callback(_hook(tap, outputs, chosen).remove)
            return forward(model, inputs, additional_forward_args, modules=modules)

    with exclusive_use(model if root is None else root):
        if root is None or root in _watched:
            output = run()
        else:
            with watching() as draws:
                output = run()
            _watched.add(root)
            if draws.found:
                warn_of_draws(model, lambda: forward(model, inputs, additional_forward_args), output)
    return [_only_run(tap, outputs) for tap, outputs in zip(taps, runs, strict=True)], output


def first_tensor(value: Any) -> Tensor | None:
    """Return the first tensor in a tensor, tuple, list, dict, dataclass or ModelOutput, depth first, or None.

    Example:
        >>> first_tensor({"loss": None, "maps": (Tensor([1]), Tensor([2]))})
        tensor([1.])
    """
    return next(tensors_in(value), None)


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Yield every tensor in a tensor, tuple, list, dict, dataclass or ModelOutput, depth first.

    Example:
        >>> list(tensors_in({"loss": None, "maps": (Tensor([1]), Tensor([2]))}))
        [tensor([1.]), tensor([2.])]
    """
    if isinstance(value, Tensor):
        yield value
    else:
        for part in _parts(value):
            yield from tensors_in(part)


def _parts(value: Any) -> Iterable[Any]:
    if isinstance(value, Mapping):
        return value.values()
    if isinstance(value, (tuple, list)):
        return value
    if is_dataclass(value) and not isinstance(value, type):
        return [getattr(value, field.name) for field in fields(value)]
    return ()


def _resolve_one(root: nn.Module | None, layer: Layer | Tap, at: Literal["output", "input"]) -> list[Tap]:
    if isinstance(layer, Tap):
        return [layer]
    if isinstance(layer, nn.Module):
        module = unwrap(layer) or layer
        return [Tap(_name_of(root, module), module, at)]
    if not isinstance(layer, str):
        raise TypeError(
            f"a layer was given as {type(layer).__name__}; pass a module, a dotted name, a glob or a Tap."
        )
    if root is None:
        raise TypeError(
            f"layer '{layer}' was given by name, but the model is a plain function. Pass the module itself."
        )
    name, mark, _ = layer.partition(_INPUT)
    side: Literal["output", "input"] = "input" if mark else at
    return [Tap(found + mark, module, side) for found, module in _by_name(root, name).items()]


def _name_of(root: nn.Module | None, module: nn.Module) -> str:
    if root is None or module is root:
        return type(module).__name__
    for name, candidate in root.named_modules():
        if candidate is module:
            return str(name)
    raise ValueError(
        f"the {type(module).__name__} given as a layer is not a part of the model {type(root).__name__}. "
        "Pass a module of this model (not of a copy), or its dotted name."
    )


def _by_name(root: nn.Module, pattern: str) -> dict[str, nn.Module]:
    named = {name: module for name, module in root.named_modules(remove_duplicate=False) if name}
    if pattern in named:
        return {pattern: named[pattern]}
    found = {name: module for name, module in named.items() if _matches(name, pattern)}
    if not found:
        near = get_close_matches(pattern, named, n=5, cutoff=0.4) or list(named)[:5]
        raise ValueError(
            f"no layer of {type(root).__name__} is called '{pattern}'. Nearest: {', '.join(near) or 'none'}. "
            "All names: [name for name, _ in model.named_modules()]."
        )
    return found


def _matches(name: str, pattern: str) -> bool:
    parts, patterns = name.split("."), pattern.split(".")
    return len(parts) == len(patterns) and all(map(fnmatchcase, parts, patterns))


def _hook(tap: Tap, outputs: list[Tensor], select: Select | None) -> RemovableHandle:
    def keep(value: Any) -> None:
        outputs.append(pick(value, tap, select).clone())

    def keep_input(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        keep(received(args, kwargs))

    if tap.at == "input":
        return tap.module.register_forward_pre_hook(of_this_thread(keep_input), with_kwargs=True)
    return tap.module.register_forward_hook(of_this_thread(lambda _, __, output: keep(output)))


def received(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Return the argument of a module, or several as a tuple.

    Example:
        >>> received((1,), {}), received((1,), {"mask": 2})
        (1, (1, 2))
    """
    values = (*args, *kwargs.values())
    return values[0] if len(values) == 1 else values


def pick(value: Any, tap: Tap, select: Select | None) -> Tensor:
    """Find the tensor that a tap reads in the output or input of its layer.

    Raises:
        TypeError: If there is none.
    """
    tensor = first_tensor(value) if select is None else select(value)
    if isinstance(tensor, Tensor):
        return tensor
    verb = "gave" if tap.at == "output" else "received"
    given = f"layer '{tap.name}' ({type(tap.module).__name__}) {verb} a {type(value).__name__}"
    if select is not None:
        raise TypeError(f"{given}, of which select= took a {type(tensor).__name__}; it must return a tensor.")
    raise TypeError(
        f"{given} without a tensor. Pass another layer, or select=, a function that returns the tensor."
    )


def _only_run(tap: Tap, outputs: list[Tensor]) -> Tensor:
    if len(outputs) == 1:
        return outputs[0]
    layer = f"layer '{tap.name}' ({type(tap.module).__name__})"
    if not outputs:
        raise RuntimeError(
            f"{layer} did not run in this forward. It may be a container that the model only indexes, a part "
            "used in training only, or be read without a call. Pass one of its children or another layer."
        )
    raise RuntimeError(
        f"{layer} ran {len(outputs)} times in one forward, so it is unclear which run is meant. Pass a layer "
        "around it that runs once, or read the input of the next module: Tap(name, module, at='input')."
    )
