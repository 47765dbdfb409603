"""Run a model only as far as one layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from torchnle.types import Select
from torchnle.vision import taps
from torchnle.vision.running import check_hookable, forward, of_this_thread


class _Reached(Exception):  # noqa: N818 - no error
    """Leaves a forward with the tensor that was read."""

    def __init__(self, activation: Tensor) -> None:
        super().__init__("a layer was read, and the rest of the model is not needed")
        self.activation = activation


def run_until(
    forward_func: Callable[..., Any], tap: taps.Tap, images: Tensor, select: Select | None = None
) -> Tensor:
    """Run a model until a layer is reached, and return its reading; the rest is not run.

    Args:
        forward_func: The model.
        tap: The layer.
        images: The inputs.
        select: As for `torchnle.vision.taps.record`.

    Raises:
        RuntimeError: If the layer does not run.

    Example:
        >>> model = nn.Sequential(nn.ReLU(), nn.Linear(3, 3))  # which does not fit two channels
        >>> run_until(model, taps.Tap("0", model[0]), Tensor([[-1.0, 2.0]]))
        tensor([[0., 2.]])
    """

    def output_hook(_: nn.Module, __: Any, output: Any) -> None:
        raise _Reached(taps.pick(output, tap, select))

    def input_hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        raise _Reached(taps.pick(taps.received(args, kwargs), tap, select))

    check_hookable(forward_func, [tap.module])
    if tap.at == "input":
        hook = tap.module.register_forward_pre_hook(of_this_thread(input_hook), with_kwargs=True)
    else:
        hook = tap.module.register_forward_hook(of_this_thread(output_hook))
    try:
        forward(forward_func, images, modules=[tap.module])
    except _Reached as reached:
        return reached.activation
    finally:
        hook.remove()
    raise RuntimeError(f"layer '{tap.name}' ({type(tap.module).__name__}) did not run in this forward.")
