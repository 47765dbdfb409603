"""Load a state dict into a model, or say what it is a state dict of."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from torchnle.hub.state_dict import unwrapped

#: Of so many architectures of similar names the weights are compared.
_TRIED = 12
_SHOWN = 3
#: Of this share of a file's weights an architecture must have the names and shapes, all but the head's.
_ALIKE = 0.9


def fill(model: nn.Module, state: Mapping[str, Tensor], file: Path, architecture: str, classes: int) -> None:
    """Load a state dict into a model.

    Args:
        model: The model, built for `classes` classes.
        state: The state dict. A prefix that every name has ("module.") is taken off.
        file: Its file, for messages.
        architecture: What the model was built by, "timm:resnet18".
        classes: The number of class names.

    Raises:
        ValueError: If names or shapes are not the model's: the message says that the file is for another
            number of classes, or which architecture it fits, or lists what differs.
    """
    own = model.state_dict()
    found = unwrapped(state, own.keys())
    wrong = _of_another_shape(own, found)
    missing = [name for name in own if name not in found]
    unexpected = [name for name in found if name not in own]
    if not (wrong or missing or unexpected):
        model.load_state_dict(found)
        return
    count = _count_of_classes(own, found, wrong, classes)
    if count is not None and not missing and not unexpected:
        raise ValueError(
            f"{file} is of a network with {count} classes, and {classes} class names were given; pass one "
            "name per class, in the order of its outputs."
        )
    problems = {"missing": missing, "unexpected": unexpected}
    problems["of another shape"] = [
        f"{name} {tuple(found[name].shape)}, the model's is {tuple(own[name].shape)}" for name in wrong
    ]
    told = "; ".join(f"{what}: {_listed(names)}" for what, names in problems.items() if names)
    advice = _advice(found, architecture)
    raise ValueError(f"{file} does not hold the weights of {architecture}. {advice} {told}.")


def fitting_architectures(state: Mapping[str, Tensor], architecture: str) -> list[str]:
    """Find the architectures, among those named most alike, that have a state dict's names and shapes.

    Args:
        state: The state dict.
        architecture: "timm:NAME" or "torchvision:NAME".
    """
    library, _, name = architecture.partition(":")
    names, build = _builders(library)
    kin = [each for each in names if _plain(each) == _plain(name)]
    near = dict.fromkeys([*kin[:_TRIED], *get_close_matches(name, names, n=_TRIED, cutoff=0.4)])
    shapes = {key: tuple(value.shape) for key, value in state.items()}
    return [f"{library}:{each}" for each in near if each != name and _alike(build, each, shapes)]


def _builders(library: str) -> tuple[list[str], Any]:
    if library == "timm":
        import timm

        return timm.list_models(), timm.create_model
    from torchvision import models

    return models.list_models(module=models), partial(models.get_model, weights=None)


def _plain(name: str) -> str:
    """An architecture's name without its sizes: "resnet18" and "resnet34" are of one kind."""
    return re.sub(r"\d+", "#", name)


def _alike(build: Any, name: str, shapes: Mapping[str, tuple[int, ...]]) -> bool:
    try:
        with torch.device("meta"):
            own = {key: tuple(value.shape) for key, value in build(name).state_dict().items()}
    except (RuntimeError, ValueError, TypeError, NotImplementedError):  # cannot be built without data
        return False
    same = sum(own.get(key) == shape for key, shape in shapes.items())
    return own.keys() == shapes.keys() and same >= _ALIKE * len(shapes)


def _advice(state: Mapping[str, Tensor], architecture: str) -> str:
    fits = fitting_architectures(state, architecture)
    if fits:
        return f"They fit {' or '.join(fits[:_SHOWN])}: pass that as the architecture (--arch). What differs:"
    return "Pass the architecture that it was trained with (--arch). What differs:"


def _of_another_shape(own: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> list[str]:
    return [name for name in own if name in found and found[name].shape != own[name].shape]


def _count_of_classes(
    own: Mapping[str, Tensor], found: Mapping[str, Tensor], wrong: Sequence[str], classes: int
) -> int | None:
    """The number of classes of a file, if it differs from the model in nothing else."""
    counts = {found[name].shape[0] for name in wrong if found[name].ndim}
    rest = all(
        own[name].ndim and own[name].shape[0] == classes and own[name].shape[1:] == found[name].shape[1:]
        for name in wrong
    )
    return counts.pop() if len(counts) == 1 and rest else None


def _listed(names: Iterable[str]) -> str:
    found = list(names)
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return ", ".join(found[:_SHOWN]) + more
