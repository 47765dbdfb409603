"""Find the logits among the tensors of a model's output: by name, by position, by the number of classes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from torch import Tensor

#: The name under which models give their logits.
_LOGITS = "logits"


@dataclass(frozen=True)
class Answer:
    """Selects one tensor of a model's output by its path of keys and indices.

    Args:
        path: Its keys and indices from the output on; () = the output itself.

    Example:
        >>> import torch
        >>> Answer(("logits",))({"features": torch.ones(1, 8), "logits": torch.zeros(1, 3)}, "model").shape
        torch.Size([1, 3])
    """

    path: tuple[Any, ...] = ()

    def __call__(self, output: Any, model_name: str) -> Tensor:
        """Return the tensor.

        Raises:
            ValueError: If there is none in this output.
        """
        found = dict(_tensors(output)).get(self.path)
        if found is None:
            raise ValueError(
                f"the output of {model_name} changes from call to call: {_named(self.path)} is missing."
            )
        return found


def answers(output: Any, model_name: str, classes: int | None = None) -> list[Answer]:
    """List the tensors of a model's output that may be its logits, most probable first.

    Args:
        output: A tensor, or tensors in tuples, lists, dicts, dataclasses.
        model_name: For the message.
        classes: The number of class names; None = take the entry `logits`, or the first tensor.

    Raises:
        ValueError: If there is no tensor (N, classes) or (N, classes, H, W) of so many classes.

    Example:
        >>> import torch
        >>> found = answers((torch.ones(1, 8), torch.ones(1, 3)), "model", classes=3)
        >>> [answer.path for answer in found]
        [(1,)]
    """
    every = [(path, tensor) for path, tensor in _tensors(output) if tensor.is_floating_point()]
    if not every:
        raise ValueError(
            f"{model_name} gave {type(output).__name__} without a floating tensor; a classifier gives "
            "logits of shape (N, classes)."
        )
    ranked = sorted(every, key=lambda pair: (pair[1].ndim != 2, _LOGITS not in pair[0]))
    named = [pair for pair in every if _LOGITS in pair[0]]
    first = (named or every)[0]
    usual = [first] if first[1].ndim in (2, 4) else []
    if classes:
        fit = [pair for pair in ranked if pair[1].ndim in (2, 4) and pair[1].shape[1] == classes]
        usual = fit or usual
    if not usual:
        shapes = ", ".join(f"{_named(path)} {tuple(tensor.shape)}" for path, tensor in every[:4])
        raise ValueError(
            f"{model_name} gave {shapes}; a classifier gives logits of shape (N, classes)"
            + (f", and {classes} class names were given." if classes else ".")
            + " Pass a module that returns them alone."
        )
    return [Answer(path) for path, _ in usual]


def logits_of(output: Any, model_name: str, classes: int | None = None) -> Tensor:
    """Return the logits in a model's output: the first of `answers`.

    Raises:
        ValueError: As `answers`.

    Example:
        >>> import torch
        >>> logits_of({"features": torch.ones(1, 8), "logits": torch.zeros(1, 3)}, "model").shape
        torch.Size([1, 3])
    """
    return answers(output, model_name, classes)[0](output, model_name)


def _tensors(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Tensor]]:
    """Yield every tensor with its keys and indices, depth first."""
    if isinstance(value, Tensor):
        yield path, value
    elif isinstance(value, Mapping):
        for key, part in value.items():
            yield from _tensors(part, (*path, key))
    elif isinstance(value, (tuple, list)):
        names = getattr(value, "_fields", range(len(value)))
        for key, part in zip(names, value, strict=True):
            yield from _tensors(part, (*path, key))
    elif is_dataclass(value) and not isinstance(value, type):
        for each in fields(value):
            yield from _tensors(getattr(value, each.name), (*path, each.name))


def _named(path: tuple[Any, ...]) -> str:
    return "".join(f"[{key!r}]" for key in path) or "a tensor"
