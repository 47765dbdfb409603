"""The identity of a training run: another run must not resume from its checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

import torch
from torch import nn

from torchnle.language.model import LanguageModel
from torchnle.training.feature_cache import CachedFeatures, cache_key
from torchnle.training.order import Part
from torchnle.training.supply import LiveFeatures, Supply
from torchnle.translators.prefix import PrefixTranslator

#: So many numbers of every weight of a language model are looked at.
_NUMBERS = 64


def run_identity(
    translator: PrefixTranslator, supply: Supply, parts: Sequence[Part], validation: Supply | None = None
) -> dict[str, str]:
    """Compute a digest of each input of a run besides the recipe: data, models, prompt, network.

    Args:
        translator: The translator that is trained.
        supply: The supply of features and captions.
        parts: The ranges of pairs and their steps.
        validation: The supply on which the best weights are chosen.
    """
    language_model, network = translator.language_model, translator.network
    return {
        "prompt": repr(translator.prompt),
        "stop": repr(translator.stop),
        "language model": language_identity(language_model),
        "network": f"{type(network).__name__} {network.config}",
        "order of pairs": repr([(part.items, part.start, part.stop) for part in parts]),
        **supply_identity(supply),
        **{f"validation {name}": value for name, value in supply_identity(validation).items()},
    }


def language_identity(language_model: LanguageModel) -> str:
    """Compute a digest of a language model: its class, dtype, vocabulary and some numbers of every weight."""
    total = sha256(f"{type(language_model.model).__name__} {language_model.dtype}".encode())
    total.update(repr(sorted(language_model.tokenizer.get_vocab().items())).encode())
    return _with_weights(total, language_model.model)


def supply_identity(supply: Supply | None) -> dict[str, str]:
    """Compute the digests of a supply's inputs, by its own `identity` or `fingerprint` if it has one."""
    if supply is None:
        return {}
    if isinstance(supply, CachedFeatures):
        return _without_format(supply.meta["parts"])
    if isinstance(supply, LiveFeatures):
        return _without_format(cache_key(supply))
    stated = getattr(supply, "identity", None)
    if isinstance(stated, Mapping):
        return dict(stated)
    return {"data": str(getattr(supply, "fingerprint", len(supply)))}


def check_identity(theirs: Mapping[str, str], ours: Mapping[str, str], where: str) -> None:
    """Refuse to resume from the checkpoint of a run with other inputs.

    Args:
        theirs: The digests in the checkpoint.
        ours: The digests of this run.
        where: The checkpoint, for the message.

    Raises:
        ValueError: If a digest differs; the message names it.

    Example:
        >>> check_identity({"prompt": "'a'"}, {"prompt": "'b'"}, "runs/last.pt")
        Traceback (most recent call last):
        ...
        ValueError: 'runs/last.pt' is of a run with another prompt ('a'). To go on with it, give back what it
        was trained on; for a new run give another folder.
    """
    other = [name for name in ours if name in theirs and theirs[name] != ours[name]]
    other += [name for name in theirs if name not in ours]
    if other:
        told = ", ".join(f"{n} ({theirs[n]})" if len(theirs.get(n, "x" * 99)) < 60 else n for n in other)
        raise ValueError(
            f"'{where}' is of a run with another {told}. To go on with it, give back what it was trained on; "
            "for a new run give another folder."
        )


def _without_format(parts: Mapping[str, Any]) -> dict[str, str]:
    """Leave out the storage of features, which does not change them."""
    return {name: str(value) for name, value in parts.items() if name not in ("format", "dtype")}


def _with_weights(total: Any, model: nn.Module) -> str:
    with torch.no_grad():
        for name, weight in model.named_parameters():
            total.update(f"{name} {tuple(weight.shape)}".encode())
            total.update(
                weight.flatten()[:: max(1, weight.numel() // _NUMBERS)].float().cpu().numpy().tobytes()
            )
    return str(total.hexdigest())
