"""Pretrained: the base of translators and of the text decoder, saved as a folder and loaded by its kind."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, Protocol, TypeVar

import torch
from torch import Tensor, nn

from torchnle import hub
from torchnle.hub.digest import digest_module
from torchnle.public_calls import own_defaults
from torchnle.translators import configuration, kinds, saving, serialization
from torchnle.translators.config_values import check_config, loading
from torchnle.translators.model_card import model_card
from torchnle.translators.tensors import load_tensors

# A type variable, since beartype cannot check Self in a method.
AnyPretrained = TypeVar("AnyPretrained", bound="Pretrained")

#: Before the names of tensors that belong to the reading of layers, in the weights' file.
_OF_READING = "reading/"
#: Attributes on which no result depends.
_UNIMPORTANT = frozenset({"name", "reference", "training"})


class Frozen(Protocol):
    """A frozen model, which is never trained or saved: a language model, an encoder, a text decoder."""

    reference: str

    @property
    def device(self) -> torch.device:
        """The device of the model."""

    def to(self, device: torch.device, /) -> Any:
        """Move the model."""


class Pretrained(kinds.HasKind, nn.Module, ABC):
    """A module that is saved as config.json, model.safetensors and README.md, its model card.

    A subclass defines `config`; it is rebuilt by the class method `_build` if there is one, else by its
    constructor, called with the entries of `config`. It names the attributes that hold frozen models in
    `frozen_models`: these are no submodules, are not in `parameters` and `state_dict`, are never stored, move
    with `to`, and are listed on the card.

    Attributes:
        name: Its name in messages: its class, or the reference it was loaded from.
        reference: The string that it was loaded by; "" if it was not loaded.
        card: Facts for the model card, plain values by name: training data, results, "license" (an
            identifier of the Hub), "tags", "datasets", "language". Saved with it.
        reading: The reading of the vision model's layers, set by `LanguageAttribution` and saved.
        reading_tensors: The tensors of that reading, such as fitted lenses, saved beside its own.

    Example:
        >>> class Scale(Pretrained, kind="scale"):
        ...     def __init__(self, width: int):
        ...         super().__init__()
        ...         self.factors = nn.Parameter(torch.ones(width))
        ...     @property
        ...     def config(self):
        ...         return {"width": len(self.factors)}
        >>> with TemporaryDirectory() as folder:
        ...     Pretrained.from_pretrained(Scale(3).save_pretrained(folder)).factors.tolist()
        [1.0, 1.0, 1.0]
    """

    #: The attributes that hold frozen models; one of them may be None.
    frozen_models: ClassVar[tuple[str, ...]] = ()

    def __init__(self) -> None:
        super().__init__()
        self.name = type(self).__name__
        self.reference = ""
        self.card: dict[str, Any] = {}
        self.reading: dict[str, Any] = {}
        self.reading_tensors: dict[str, Tensor] = {}

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of what its results depend on: plain attributes, tensors, names of frozen models."""
        plain = {
            name: value
            for name, value in sorted(vars(self).items())
            if isinstance(value, str | int | float | tuple) and name not in _UNIMPORTANT and name[0] != "_"
        }
        frozen = {name: getattr(getattr(self, name), "reference", None) for name in self.frozen_models}
        return sha256(f"{plain} {frozen} {digest_module(self)}".encode()).hexdigest()

    @property
    @abstractmethod
    def config(self) -> dict[str, Any]:
        """The arguments of `from_config` as plain values for JSON: all but the tensors."""

    @classmethod
    def from_config(cls: type[AnyPretrained], config: Mapping[str, Any]) -> AnyPretrained:
        """Build an instance without its tensors, and load the frozen models of the configuration.

        Raises:
            ValueError: If a key of `config` is unknown or missing, or a value is not allowed for its argument
                (`check_config`).
        """
        build: Callable[..., AnyPretrained] = getattr(cls, "_build", cls)
        check_config(config, build, f"the configuration of {cls.__name__}")
        return build(**config)

    @property
    def summary(self) -> str:
        """A sentence on what it does, for its model card."""
        return f"A `{type(self).__name__}` of torchnle."

    @property
    def usage(self) -> str:
        """Python code for its model card that loads and uses it; "" leaves it out."""
        return ""

    @property
    def base_models(self) -> tuple[str, ...]:
        """The references of its frozen models, and of those that these use."""
        found = (reference for model in self._frozen_models() for reference in _references(model))
        return tuple(dict.fromkeys(found))

    @classmethod
    @own_defaults
    def from_pretrained(
        cls: type[AnyPretrained],
        reference: str | Path,
        *,
        revision: str | None = None,
        device: torch.device | str | None = None,
    ) -> AnyPretrained:
        """Load a saved folder, in evaluation mode.

        The folder's kind names the class: torchnle's own, or a class of yours that states the kind and has
        been imported. Called on a subclass, it returns that subclass or raises.

        Args:
            reference: "org/name" on the Hub, a local folder, or the name of a shipped translator.
            revision: A branch, tag or commit on the Hub; the same as "org/name@revision".
            device: The device; by default that of its frozen models.

        Raises:
            FileNotFoundError: If a file is missing.
            ValueError: If the kind, an entry of the configuration or a tensor is missing, unknown or does not
                fit, a tensor holds NaN, or a file is damaged.
        """
        saving.recover(Path(reference))
        folder = hub.resolve(configuration.pinned(str(reference), revision))
        saved = serialization.read(folder)
        found = kinds.find(saved.kind, cls)
        with loading(folder / serialization.CONFIG, saved.longest_side), hub.preserved_random_state():
            loaded = found.from_config(saved.config)
        of_reading = {n: t for n, t in saved.tensors.items() if n.startswith(_OF_READING)}
        own = {name: tensor for name, tensor in saved.tensors.items() if name not in of_reading}
        load_tensors(loaded, own, folder / serialization.WEIGHTS)
        loaded.name = loaded.reference = str(reference)
        loaded.card, loaded.reading = saved.card, saved.reading
        loaded.reading_tensors = {name.removeprefix(_OF_READING): t for name, t in of_reading.items()}
        loaded.eval()
        return loaded if device is None else loaded.to(device)

    @own_defaults
    def save_pretrained(self, folder: str | Path, *, dtype: torch.dtype | None = None) -> Path:
        """Write config.json, model.safetensors and README.md, all of them or none.

        Args:
            folder: A new or empty folder, or one that holds only an earlier save, which is then replaced.
            dtype: The floating dtype that tensors are stored in; None = each its own.

        Returns:
            The folder.

        Raises:
            FileExistsError: If the folder holds anything else.
            OSError: If a file cannot be written, with its name.
            ValueError: If the class has no kind, configuration or card hold a value that JSON does not know,
                or a tensor holds NaN or infinite numbers.
        """
        if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
            raise ValueError(f"dtype={dtype!r}; pass a floating torch.dtype such as torch.float32, or None.")
        tensors = {
            name: tensor if dtype is None or not tensor.is_floating_point() else tensor.to(dtype)
            for name, tensor in self._every_tensor().items()
        }
        saved = serialization.Saved(kinds.kind_of(type(self)), self.config, tensors, self.card, self.reading)
        return serialization.write(Path(folder), saved, model_card(self))

    def _every_tensor(self) -> dict[str, Tensor]:
        return self.state_dict() | {_OF_READING + n: tensor for n, tensor in self.reading_tensors.items()}

    def push_to_hub(
        self,
        repo_id: str,
        *,
        revision: str | None = None,
        private: bool | None = None,
        commit_message: str | None = None,
        token: str | None = None,
    ) -> str:
        """Save into a repository of the Hugging Face Hub, created where it does not exist.

        Args:
            repo_id: "org/name".
            revision: The branch; by default the main one.
            private: Whether a repository created here is private; by default as the organisation says.
            commit_message: The commit's message; by default "Upload" and the class.
            token: The access token; by default that of the login.

        Returns:
            The address of the commit.

        Raises:
            OSError: If a request fails; the message shows no password.
            ValueError: As `save_pretrained`.
        """
        from huggingface_hub import HfApi

        api = HfApi(token=token)
        message = f"Upload {type(self).__name__}" if commit_message is None else commit_message
        with TemporaryDirectory() as scratch, hub.hidden_secrets():
            folder = self.save_pretrained(Path(scratch) / "saved")
            api.create_repo(repo_id, private=private, exist_ok=True)
            if revision is not None:
                api.create_branch(repo_id, branch=revision, exist_ok=True)
            commit = api.upload_folder(
                repo_id=repo_id, folder_path=folder, revision=revision, commit_message=message
            )
        return str(commit.commit_url)

    def __setattr__(self, name: str, value: Any) -> None:
        """Keep frozen models out of the submodules."""
        if name in self.frozen_models:
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    def _apply(self: AnyPretrained, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> AnyPretrained:
        """Move the frozen models too, in `to`, `cuda` and `cpu`; they keep their dtype."""
        for model in self._frozen_models():
            device = fn(torch.empty(0, device=model.device)).device
            if device != model.device:
                model.to(device)
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def _frozen_models(self) -> Iterator[Frozen]:
        held = (getattr(self, name) for name in self.frozen_models)
        return (model for model in held if model is not None)


def _references(model: Frozen) -> tuple[str, ...]:
    within = model.base_models if isinstance(model, Pretrained) else ()
    return tuple(filter(None, (model.reference, *within)))
