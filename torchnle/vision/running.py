"""Run one forward of a model: on checked inputs, alone, in evaluation mode; its state is restored."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from threading import Lock, RLock, get_ident
from typing import Any, cast
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from torchnle.public_calls import users_defaults
from torchnle.types import Inputs
from torchnle.vision.inputs import explain_failure, explain_shapes

_locks: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()
#: How many blocks keep a module in evaluation mode that was training before, by the module's id.
_evaluating_blocks: dict[int, int] = {}
_guard = Lock()


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

    with exclusive_use(scope if root is None else root), evaluating(scope), _eager(), users_defaults():
        try:
            return call(*map(_copied, (*tensors, *as_tuple(additional_forward_args))))
        except (RuntimeError, AssertionError, IndexError) as error:
            if not any(hasattr(part, "_hf_hook") for part in scope.modules()):
                check_weights(scope)
            reason = explain_failure(scope, tensors) or explain_shapes(error, tensors)
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


def _copied(value: Any) -> Any:
    """Return a copy of a tensor that stays in the autograd graph; any other value itself."""
    return value.clone() if isinstance(value, Tensor) else value


def as_tuple(value: Any) -> tuple[Any, ...]:
    """Wrap any value but a tuple in a tuple, as Captum does; None is no argument.

    Example:
        >>> as_tuple(3), as_tuple((1, 2)), as_tuple(None)
        ((3,), (1, 2), ())
    """
    if value is None:
        return ()
    return value if isinstance(value, tuple) else (value,)


def check_inputs(inputs: Inputs) -> tuple[Tensor, ...]:
    """Return the inputs as a tuple of tensors that a vision model can read.

    Args:
        inputs: One tensor or a tuple of tensors, the batch first in each.

    Raises:
        TypeError: If an input is no tensor, or an image holds whole numbers (uint8, int64, bool).
        ValueError: If there is no input, the batch is empty or not the same in all inputs, or an input holds
            NaN or infinite values.

    Example:
        >>> [tensor.shape for tensor in check_inputs(torch.zeros(2, 3, 8, 8))]
        [torch.Size([2, 3, 8, 8])]
    """
    tensors = as_tuple(inputs)
    if not tensors:
        raise ValueError("no input was given; pass a tensor (N, 3, H, W) or a tuple of tensors.")
    for index, tensor in enumerate(tensors):
        _check_tensor(tensor, f"input {index}" if len(tensors) > 1 else "the input")
    sizes = [tensor.shape[0] for tensor in tensors]
    if len(set(sizes)) > 1:
        raise ValueError(f"the inputs have batches of {sizes} examples; the first axis must agree in all.")
    return tensors


def _check_tensor(tensor: object, name: str) -> None:
    if not isinstance(tensor, Tensor):
        raise TypeError(
            f"{name} is a {type(tensor).__name__}; pass a torch.Tensor (N, 3, H, W) or a tuple of tensors, "
            "made with the model's own transforms."
        )
    if tensor.ndim == 0 or tensor.shape[0] == 0:
        raise ValueError(
            f"{name} has shape {tuple(tensor.shape)}: an empty batch. Pass at least one example."
        )
    if tensor.is_floating_point():
        _check_finite(tensor, name)
    elif tensor.ndim >= 3:
        raise TypeError(
            f"{name} is {tensor.dtype} with shape {tuple(tensor.shape)}; images must be floating. "
            "Convert: x.float() / 255, then the model's own normalisation."
        )


def _check_finite(tensor: Tensor, name: str) -> None:
    if tensor.is_meta or torch.isfinite(tensor.detach().sum(dtype=torch.float64)):
        return  # one pass over the input; the checks below take several
    finite = torch.isfinite(tensor).reshape(tensor.shape[0], -1).all(dim=1)
    if not finite.all():
        bad = (~finite).nonzero().flatten().tolist()
        raise ValueError(
            f"{name} holds NaN or infinite values in example(s) {bad[:8]} of {tensor.shape[0]}. "
            "Check how the images were read and normalised."
        )


@contextmanager
def exclusive_use(*things: Any) -> Iterator[None]:
    """Lock models or tokenizers against other threads of this process; the lock is re-entrant.

    Args:
        things: Models, tokenizers, functions. What cannot be referred to weakly is not locked. Several are
            locked in one order, so that two threads never wait for each other.

    Example:
        >>> model = nn.Linear(2, 2)
        >>> with exclusive_use(model), exclusive_use(model):
        ...     pass
    """
    held: list[Any] = []
    try:
        for lock in sorted(filter(None, map(_lock_of, things)), key=id):
            lock.acquire()
            held.append(lock)
        yield
    finally:
        for lock in reversed(held):
            lock.release()


def _lock_of(thing: Any) -> Any:
    thing = getattr(thing, "__self__", thing)  # of a bound method
    with _guard:
        try:
            return _locks.setdefault(thing, RLock())
        except TypeError:
            return None


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a module and all within it in evaluation mode, and restore every flag when the last block ends.

    The flags are set directly, since some models override `train()` and `eval()` (to merge adapters, to keep
    normalisation frozen), which would not restore them. Blocks of several threads may overlap.

    Example:
        >>> model = nn.BatchNorm1d(2)
        >>> with evaluating(model):
        ...     model.training
        False
        >>> model.training
        True
    """
    with _guard:
        held = [module for module in model.modules() if module.training or id(module) in _evaluating_blocks]
        for module in held:
            _evaluating_blocks[id(module)] = _evaluating_blocks.get(id(module), 0) + 1
            module.training = False
    try:
        yield
    finally:
        with _guard:
            for module in held:
                _evaluating_blocks[id(module)] -= 1
                if not _evaluating_blocks[id(module)]:
                    del _evaluating_blocks[id(module)]
                    module.training = True


def of_this_thread(hook: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a hook so that it ignores calls of its module by other threads.

    Example:
        >>> seen = []
        >>> handle = nn.Identity().register_forward_hook(of_this_thread(lambda *given: seen.append(given)))
        >>> handle.remove()
    """
    thread = get_ident()

    def heed(*args: Any, **options: Any) -> Any:
        return hook(*args, **options) if get_ident() == thread else None

    return heed


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
    stores: list[dict[str, Any]] = []
    for part in model.modules():
        stores += [cast(dict[str, Any], part._parameters), cast(dict[str, Any], part._buffers)]
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
    """Refuse a model whose weights have no values: on the meta device, or offloaded by accelerate.

    Raises:
        ValueError: If a weight has no values; the message names a remedy.

    Example:
        >>> check_weights(nn.Linear(2, 2))
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
    """Refuse a scripted or traced model or module, on which hooks do not work.

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
    """Return the device of a model's weights; the CPU if it has none.

    Example:
        >>> device_of(model)
        device(type='cpu')
    """
    root = unwrap(model)
    weights = iter(()) if root is None else root.parameters()
    return next((weight.device for weight in weights), torch.device("cpu"))


def like_weights(x: Tensor, *models: Callable[..., Any]) -> Tensor:
    """Return inputs on the device and in the number format of the first weight of some models.

    Args:
        x: The inputs; they stay as they are if no model has weights.
        models: Models, or functions around them.

    Example:
        >>> like_weights(torch.zeros(2), nn.Identity(), nn.Linear(2, 1).double()).dtype
        torch.float64
    """
    roots = [root for model in models if (root := unwrap(model)) is not None]
    weights = (weight for root in roots for weight in root.parameters())
    first = next((weight for weight in weights if weight.is_floating_point()), None)
    return x if first is None else x.to(first)
