"""Models, configurations and tokenizers of transformers from a folder: read strictly, and no code of it run.

The only place where torchnle calls `from_pretrained` of transformers.
"""

from __future__ import annotations

import json
import pickle
import re
import sys
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from torchnle.hub.state_dict import WRAPPERS, load_state_dict

_KERNELS = ("attn_implementation", "_attn_implementation")
_TOKENIZERS = ("tokenizer*", "vocab*", "*.model", "*.tiktoken", "merges.txt", "tekken.json")
_PICKLED = ("*.bin", "*.pt", "*.pth")
#: What DataParallel and torch.compile put before the names of weights.
_WRAPPED = f"^({'|'.join(map(re.escape, WRAPPERS))})+"
#: Constants that older versions saved beside weights.
_BUFFERS = ("inv_freq", "position_ids", "masked_bias", ".attn.bias", "num_batches_tracked", "attention.bias")


def load_pretrained(auto: Any, folder: Path, **options: Any) -> Any:
    """Load a model, configuration or tokenizer of transformers from a folder, running no code in it.

    Args:
        auto: AutoConfig, AutoTokenizer, AutoModel or one of its siblings.
        folder: A local folder.
        options: Passed to its `from_pretrained`.

    Returns:
        The result of `auto.from_pretrained`.

    Raises:
        ValueError: If it is no folder, its weights are damaged or of another model, or it needs code of
            its own or kernels from the Hub. If transformers itself has the architecture, its own class is
            used and the code in the folder is ignored.
    """
    from safetensors import SafetensorError

    if not folder.is_dir():
        raise ValueError(f"'{folder}' is no folder; a model is a folder with config.json and weights.")
    _check_options(options)
    _check_kernels(folder)
    try:
        with bars_on_terminals():
            return auto.from_pretrained(folder, trust_remote_code=False, local_files_only=True, **options)
    except ValueError as error:
        named = _named_code(folder)
        if "trust_remote_code" in str(error):
            raise ValueError(_never(str(folder), named)) from None  # an option of transformers' is not ours
        also = f" It names code ({', '.join(named)}), which torchnle never runs." if named else ""
        raise ValueError(f"transformers cannot read {folder}: {error}{also}") from error
    except (pickle.UnpicklingError, OSError) as error:
        if not any(isinstance(each, pickle.UnpicklingError) for each in _chain(error)):
            raise
        raise ValueError(
            f"{folder} holds pickled weights that are damaged or more than tensors, and reading those would "
            "run code from the file, so they were refused. Ask their author for safetensors."
        ) from None
    except (SafetensorError, RuntimeError, EOFError) as error:
        # An option of transformers' too; before version 5 it is PyTorch's message.
        other = "ignore_mismatched_sizes" in str(error) or "size mismatch for" in str(error)
        why = "weights have other shapes than config.json says" if other else f"{error}"
        raise ValueError(
            f"what lies in {folder} is damaged, or of different models: {why}. Download it again."
        ) from error


@contextmanager
def bars_on_terminals() -> Iterator[None]:
    """Show the bars of transformers ("Loading weights") only if standard error is a terminal."""
    from transformers.utils import logging

    silenced = not sys.stderr.isatty() and logging.is_progress_bar_enabled()
    if silenced:
        logging.disable_progress_bar()
    try:
        yield
    finally:
        if silenced:
            logging.enable_progress_bar()


def load_weights(auto: Any, folder: Path, *, optional: Sequence[str] = (), **options: Any) -> Any:
    """Load a model as `load_pretrained` does, and refuse a folder that lacks weights.

    Safetensors are preferred; pickled weights are loaded with ``weights_only=True``.

    Args:
        auto: AutoModel or one of its siblings.
        folder: A local folder.
        optional: Beginnings of names of weights that may be missing.
        options: Passed to its `from_pretrained`.

    Raises:
        FileNotFoundError: If there are no weights.
        ValueError: If weights are missing, or as `load_pretrained`.
    """
    safe = folder.is_dir() and any(folder.glob("*.safetensors"))
    if folder.is_dir() and not safe and not any(file for kind in _PICKLED for file in folder.glob(kind)):
        there = ", ".join(sorted(path.name for path in folder.iterdir())) or "nothing"
        raise FileNotFoundError(f"{folder} holds no weights (it holds {there}).")
    options |= {"output_loading_info": True, "use_safetensors": safe}
    model, found = load_pretrained(auto, folder, **options)
    # Before version 5 the name of the model's body stands before names that do not begin with it.
    names = (name.removeprefix(f"{model.base_model_prefix}.") for name in found["unexpected_keys"])
    if found["missing_keys"] and any(re.match(_WRAPPED, name) for name in names):
        state = {re.sub(_WRAPPED, "", name): tensor for name, tensor in _stored(folder, safe)}
        options |= {"config": model.config, "state_dict": state}
        model, found = type(model).from_pretrained(None, **options)
    missing = sorted(name for name in found["missing_keys"] if not name.startswith(tuple(optional)))
    if missing:
        raise ValueError(
            f"{folder} lacks {len(missing)} weights of a {type(model).__name__}, which would be random: "
            f"{', '.join(missing[:5])}. Save the whole model there."
        )
    _check_unexpected(model, found["unexpected_keys"], folder)
    return model


def _stored(folder: Path, safe: bool) -> Iterator[tuple[str, Tensor]]:
    """Yield the names and tensors of a folder's weights, which may be spread over several files."""
    name = "model.safetensors" if safe else "pytorch_model.bin"
    shards = _json(folder / f"{name}.index.json").get("weight_map", {})
    for file in [name] if (folder / name).is_file() else sorted(set(shards.values())):
        yield from load_state_dict(folder / file).items()


def _check_unexpected(model: Any, names: Iterable[str], folder: Path) -> None:
    """Refuse weights that a model of the very class that was saved there has no room for."""
    stated = getattr(model.config, "architectures", None) or []
    others = sorted(name for name in names if not name.endswith(_BUFFERS))
    if others and type(model).__name__ in stated:
        raise ValueError(
            f"{folder} holds {len(others)} weights that a {type(model).__name__} of its config.json does not "
            f"have: {', '.join(others[:5])}. The configuration belongs to another model; save both together."
        )


def stated_class(folder: Path, among: Container[str] | None = None) -> Any:
    """Return the class of transformers that a folder's configuration names; None if it names none.

    Args:
        folder: A local folder with config.json.
        among: Names of classes; others count as none.
    """
    import transformers

    for name in _values(_json(folder / "config.json").get("architectures")):
        found = getattr(transformers, name, None) if among is None or name in among else None
        if isinstance(found, type) and issubclass(found, transformers.PreTrainedModel):
            return found
    return None


def load_tokenizer(auto: Any, folder: Path) -> Any:
    """Load a tokenizer as `load_pretrained` does, and refuse one with special tokens only.

    Raises:
        ValueError: If the folder holds none, or as `load_pretrained`.
    """
    there = any(file for kind in _TOKENIZERS for file in folder.glob(kind))
    tokenizer = _tokenizer_or_none(auto, folder) if there else None
    if tokenizer is None or set(tokenizer.get_vocab()) <= set(tokenizer.all_special_tokens):
        raise ValueError(f"{folder} holds no tokenizer. Save it there: tokenizer.save_pretrained(folder).")
    return tokenizer


def _tokenizer_or_none(auto: Any, folder: Path) -> Any:
    """Load a tokenizer; None where transformers, before version 5, opens a vocabulary that is not there."""
    try:
        return load_pretrained(auto, folder)
    except (TypeError, ImportError) as error:
        if any(isinstance(each, TypeError) and "NoneType" in str(each) for each in _chain(error)):
            return None
        raise


def build_from_config(auto: Any, config: Any) -> Any:
    """Build a transformers model with random weights from its configuration, running no code of a folder.

    Raises:
        ValueError: If the configuration needs code of its own.
    """
    try:
        return auto.from_config(config, trust_remote_code=False)
    except ValueError as error:
        if "trust_remote_code" not in str(error):
            raise
        raise ValueError(_never("the configuration", _values(config.auto_map))) from None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and those in whose handling it was raised."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _check_options(options: dict[str, Any]) -> None:
    if "trust_remote_code" in options:
        raise ValueError(_never("an option", ["trust_remote_code"]))


def _check_kernels(folder: Path) -> None:
    """Attention that a configuration wants fetched from the Hub is code too."""
    config = _json(folder / "config.json")
    wanted = [name for key in _KERNELS for name in _values(config.get(key)) if "/" in name]
    if wanted:
        raise ValueError(_never(str(folder), wanted))


def _never(where: str, named: Iterable[str]) -> str:
    return (
        f"{where} asks for code of its own ({', '.join(named) or 'auto_map'}), and torchnle never runs code "
        "that comes with a model. Use a model whose architecture transformers knows, or build this one in "
        "your own code and pass it as an object: LanguageModel(model, tokenizer, reference=...), "
        "TextEncoder(model, tokenizer, ...), LanguageAttribution(model, ...)."
    )


def _named_code(folder: Path) -> list[str]:
    maps = (_json(file).get("auto_map") for file in sorted(folder.glob("*.json")))
    return list(dict.fromkeys(name for each in maps for name in _values(each)))


def _values(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    for part in parts:
        yield from _values(part)


def _json(file: Path) -> dict[str, Any]:
    """Read a file's JSON object, or return {}; transformers says what is wrong with any other file."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
