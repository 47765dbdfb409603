"""Options that name a model, or a checkpoint of one's own, and the backbone that they name."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from torchnle import backbones
from torchnle.backbones.checkpoint import load_checkpoint, read_class_names
from torchnle.evaluation.subject import CLASS_NAMES

TRANSLATOR_HELP = "class-names: fitted to the classifier's own; or a saved one: its name, folder or Hub id"
MODEL_HELP = "efficientnet-lite0, timm:NAME, torchvision:NAME, open_clip:NAME or transformers:NAME_OR_FOLDER"
#: Options that say how a checkpoint is built and fed, which models by name know themselves.
_OF_CHECKPOINTS = ("arch", "size", "mean", "std")


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add the options on the model, its translator and its device."""
    parser.add_argument("--model", default="efficientnet-lite0", help=f"{MODEL_HELP} (default: %(default)s)")
    parser.add_argument("--translator", default=CLASS_NAMES, metavar="NAME", help=TRANSLATOR_HELP)
    add_own_options(parser)


def add_own_options(parser: argparse.ArgumentParser) -> None:
    """Add the options on a checkpoint of one's own, and the device that any model runs on."""
    parser.add_argument("--device", default="cpu", help="where the model runs (default: %(default)s)")
    own = parser.add_argument_group("a model of one's own")
    own.add_argument("--checkpoint", type=Path, metavar="FILE", help="its weights: a state dict")
    own.add_argument("--arch", metavar="NAME", help="its architecture: timm:NAME or torchvision:NAME")
    own.add_argument(
        "--class-names",
        type=Path,
        metavar="FILE",
        help="names of the classes in the order of the outputs: one a line, or JSON",
    )
    own.add_argument("--size", type=int, metavar="PIXELS", help="side of its input (default: its own)")
    own.add_argument("--mean", type=_numbers, metavar="R,G,B", help="of its input, 0 to 1 (default: its own)")
    own.add_argument("--std", type=_numbers, metavar="R,G,B", help="as --mean")


def load_backbone(options: argparse.Namespace) -> backbones.Backbone:
    """Load the model that the options name, with the class names that they give, onto its device.

    Raises:
        ValueError: If an option of checkpoints is given without one, the names are not one per class, or the
            device is not there.
    """
    return load_named(options, None if options.class_names is None else read_class_names(options.class_names))


def load_named(options: argparse.Namespace, class_names: Sequence[str] | None) -> backbones.Backbone:
    """Load the model that the options name, onto its device; None = the class names that it states.

    Raises:
        ValueError: As `load_backbone`.
    """
    if options.checkpoint:
        backbone = _own(options, class_names)
    else:
        _check_no_checkpoint(options)
        backbone = backbones.load(options.model)
        if class_names is not None:
            backbone = replace(backbone, class_names=tuple(class_names))
    try:
        backbone.model.to(own_device(options.device))
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"--device {options.device}: {str(error).splitlines()[0]}") from error
    return backbone


def own_device(device: str) -> str:
    """Return the device of this process: under torchrun each has a GPU of its own.

    Example:
        >>> own_device("cpu")
        'cpu'
    """
    return f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if device == "cuda" else device


def _own(options: argparse.Namespace, class_names: Sequence[str] | None) -> backbones.Backbone:
    if options.arch is None or class_names is None:
        raise ValueError("--checkpoint needs --arch timm:NAME or torchvision:NAME, and --class-names FILE.")
    return load_checkpoint(
        options.checkpoint,
        options.arch,
        class_names,
        size=options.size,
        mean=options.mean,
        std=options.std,
    )


def _check_no_checkpoint(options: argparse.Namespace) -> None:
    given = [f"--{name}" for name in _OF_CHECKPOINTS if getattr(options, name) is not None]
    if given:
        raise ValueError(
            f"{', '.join(given)} without --checkpoint: a model by name has its own. Pass --checkpoint FILE "
            "too, or leave them out."
        )


def _numbers(text: str) -> tuple[float, ...]:
    values = tuple(float(part) for part in text.split(","))
    if len(values) != 3 or not torch.tensor(values).isfinite().all():
        raise argparse.ArgumentTypeError(f"{text!r}: pass three numbers, as 0.485,0.456,0.406")
    return values
