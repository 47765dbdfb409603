"""Run one forward of a model in evaluation mode and restore its state."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from torchnle.types import Inputs
from torchnle.vision.defaults import users_defaults
from torchnle.vision.inputs import as_tuple, check_inputs, explain_failure
from torchnle.vision.locks import alone_in, evaluating

#: How PyTorch and timm speak of shapes.
_SHAPES = re.compile(
    r"shape|\bsizes?\b|channel|dimension|[Ee]xpected \d|mat1|out of range|[Ii]nput", re.ASCII
)


def forward(
    model: Callable[..., Any],
    inputs: Inputs,
    additional_forward_args: Any = None,
    *,
    modules: Sequence[nn.Module] = (),
) -> Any:
    """Run a model once on checked inputs, in evaluation mode and eagerly, and restore its training flags.

    Other threads wait until the model is free. The model gets copies, so that in-place changes of its inputs
    do not reach the caller.

    Args:
        model: The model. Of a plain function only `modules` are known, and put in evaluation mode.
        inputs: One tensor or a tuple of tensors, batch first.
        additional_forward_args: Passed on after the inputs.
        modules: The modules that a caller has put hooks on.

    Raises:
        ValueError: If the inputs are empty or not finite, or differ from the model in device or dtype.
        RuntimeError: If the model is a DataParallel over several devices.

    Example:
        >>> model = nn.Dropout(0.5)
        >>> forward(model, torch.ones(1, 2)), model.training
        (tensor([[1., 1.]]), True)
    """
    root = unwrap(model)
    tensors = check_inputs(inputs)
    scope = nn.ModuleList(modules) if root is None else root
    call = root if isinstance(model, nn.Module) and root is not None else model

    _check_batch_axis(scope, tensors[0])

    with alone_in(scope if root is None else root), evaluating(scope), _eager(), users_defaults():
        try:
            return call(*map(_copied, (*tensors, *as_tuple(additional_forward_args))))
        except (RuntimeError, AssertionError, IndexError) as error:
            if not any(hasattr(part, "_hf_hook") for part in scope.modules()):
                check_weights(scope)
            reason = explain_failure(scope, tensors) or _of_shapes(error, tensors)
            if reason is None:
                raise
            raise ValueError(reason) from error


def _check_batch_axis(scope: nn.Module, image: Tensor) -> None:
    """Refuse one image without a batch axis: convolutions take it, and its channels would pass for images."""
    if image.ndim != 3:
        return
    convolutions = (module for module in scope.modules() if isinstance(module, nn.Conv2d))
    first = next(convolutions, None)
    if first is not None and first.in_channels == image.shape[0]:
        raise ValueError(
            f"the input has shape {tuple(image.shape)}: one image without a batch axis. Add it: x[None], "
            f"(1, {', '.join(map(str, image.shape))})."
        )


def _of_shapes(error: Exception, tensors: Sequence[Tensor]) -> str | None:
    """Explain a model's failure on the shape of its inputs; None for other failures."""
    lines = str(error).strip().splitlines()
    if not lines or _SHAPES.search(str(error)) is None:
        return None
    given = ", ".join(str(tuple(tensor.shape)) for tensor in tensors)
    return (
        f"the model cannot read inputs of shape {given}: {lines[0][:200]}. Pass a batch as the model was "
        "made for, (N, channels, height, width) of an image classifier; add a batch axis by x[None]. If "
        "you gave no example=, this is noise of a usual size: pass example=, images as the model takes them."
    )


def _copied(value: Any) -> Any:
    """Return a copy of a tensor that stays in the autograd graph; any other value itself."""
    return value.clone() if isinstance(value, Tensor) else value


def unwrap(model: Callable[..., Any]) -> nn.Module | None:
    """Return the module behind `torch.compile`, DataParallel or a bound method; None for a plain function.

    Raises:
        RuntimeError: If the model is a DataParallel over several devices.

    Example:
        >>> inner = nn.Linear(2, 2)
        >>> unwrap(nn.DataParallel(inner)) is inner, unwrap(inner.forward) is inner, unwrap(len)
        (True, True, None)
    """
    root = model if isinstance(model, nn.Module) else getattr(model, "__self__", None)
    while isinstance(root, nn.Module):
        if isinstance(root, nn.DataParallel) and len(root.device_ids) > 1:
            raise RuntimeError(
                f"the model is a DataParallel over {len(root.device_ids)} devices: each layer runs on all, "
                "on a part of the batch. Pass model.module instead."
            )
        if isinstance(root, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            root = root.module
        elif isinstance(getattr(root, "_orig_mod", None), nn.Module):
            root = root._orig_mod
        else:
            return root
    return None


@contextmanager
def normal_weights(model: nn.Module) -> Iterator[None]:
    """Leave inference mode, and exchange weights that were made in it for copies that gradients flow through.

    Example:
        >>> with torch.inference_mode():
        ...     model = nn.Linear(2, 2)
        >>> with normal_weights(model):
        ...     model.weight.is_inference()
        False
        >>> model.weight.is_inference()
        True
    """
    stores = [store for part in model.modules() for store in (part._parameters, part._buffers)]
    held = [(store, *pair) for store in stores for pair in store.items()]
    with torch.inference_mode(False):
        try:
            for store, name, value in held:
                if value is not None and value.is_inference():
                    store[name] = value.clone()
            yield
        finally:
            for store, name, value in held:
                if value is not None and store.get(name) is not value:
                    store[name] = value


def check_weights(model: nn.Module) -> None:
    """Raise if weights have no values here: on the meta device, or offloaded by accelerate.

    Raises:
        ValueError: With what to do.

    Example:
        >>> check_weights(nn.Linear(2, 2, device="meta"))
        Traceback (most recent call last):
        ...
        ValueError: the weights of Linear are on the meta device and have no values ...
    """
    if not any(weight.is_meta for weight in model.parameters()):
        return
    kind = type(model).__name__
    if any(hasattr(part, "_hf_hook") for part in model.modules()):
        raise ValueError(
            f"weights of {kind} are offloaded by accelerate: they have values only while a layer runs, and "
            "the head's are needed. Load the model without offloading (no device_map, no cpu_offload), or "
            "pass a translator."
        )
    raise ValueError(
        f"the weights of {kind} are on the meta device and have no values. Load them: "
        "model.to_empty(device='cpu') and model.load_state_dict(...)."
    )


def check_hookable(model: Callable[..., Any], modules: Iterable[nn.Module]) -> None:
    """Raise if hooks cannot work: on a scripted or traced model, or such a part.

    Raises:
        RuntimeError: If the model or one of the modules is a TorchScript module.

    Example:
        >>> check_hookable(nn.Linear(2, 2), [])
    """
    for module in (unwrap(model), *modules):
        if isinstance(module, torch.jit.ScriptModule):
            raise RuntimeError(
                f"{module.original_name} is a TorchScript module (scripted or traced): it runs outside "
                "Python, so hooks cannot read its layers. Pass the original nn.Module."
            )


def _eager() -> AbstractContextManager[Any]:
    """Disable compilation, because compiled code skips later hooks; without dynamo, nothing is compiled."""
    if "torch._dynamo" not in sys.modules or torch.compiler.is_compiling():
        return nullcontext()
    eager: AbstractContextManager[Any] = torch.compiler.set_stance("force_eager")
    return eager


def device_of(model: Callable[..., Any]) -> torch.device:
    """Find where a model's weights are; the CPU where it has none.

    Example:
        >>> device_of(model)
        device(type='cpu')
    """
    root = unwrap(model)
    weights = iter(()) if root is None else root.parameters()
    return next((weight.device for weight in weights), torch.device("cpu"))
