"""A frozen causal language model that reads embeddings instead of token ids."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from torchnle import hub
from torchnle.language import verdicts
from torchnle.language.device import resolve_dtype
from torchnle.language.head import Head, body, cache_name, check_whole_model, most_positions
from torchnle.language.int8 import check_device, quantize
from torchnle.language.packed.history import History
from torchnle.language.packed.shared_token import one_row_cache
from torchnle.language.spelling import Spelling
from torchnle.language.texts import check_texts, shorten
from torchnle.public_calls import own_defaults
from torchnle.vision.running import exclusive_use

if TYPE_CHECKING:
    from transformers import Cache, DynamicCache, PreTrainedModel, PreTrainedTokenizerBase

#: From so many rows on, reading what they share on its own costs less than reading it in every row: a pass
#: of one token takes as long as about 25 tokens of a large pass do.
_SHARED_FROM = 32


class LanguageModel:
    """Any causal language model of transformers, frozen, that reads embeddings and gives hidden states.

    A plain class and no `nn.Module`: a translator that holds one neither trains nor saves it. The model
    given is put in evaluation mode and its parameters no longer require gradients.

    Args:
        model: A causal language model (GPT-2, OPT, Llama, Qwen, Gemma, ... families).
        tokenizer: Its tokenizer. The token that starts every sequence is the tokenizer's BOS; a model
            whose tokenizer has none gets none.
        reference: Its reference for `from_pretrained`, which a translator's configuration stores.
        dtype: None leaves the model as it is; "auto" is the fastest floating type for the model's device;
            "int8" replaces its linear layers but the head by copies in 8 bits, on a CPU: see `agreement`.

    At construction a few tokens are read in every way that torchnle reads. If a key-value cache or packed
    texts give other hidden states than plain sequences, `plain` is set to True: every step then reads the
    whole sequence again, which is slower but exact.

    Raises:
        TypeError: If `model` is no model of transformers.
        ValueError: If the model has no head, or one whose logits are not a linear function of the last
            hidden state (Gemma 2 squashes them with a tanh); if it does not read embeddings from left to
            right; if the machine has no int8 instructions.

    Warns:
        UserWarning: If `plain` is set to True.

    Example:
        >>> from tokenizers import Tokenizer, models, pre_tokenizers
        >>> from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast
        >>> words = Tokenizer(models.WordLevel({"<s>": 0, "cat": 1, "dog": 2}, unk_token="<s>"))
        >>> words.pre_tokenizer = pre_tokenizers.Whitespace()
        >>> config = GPT2Config(vocab_size=3, n_positions=16, n_embd=8, n_layer=1, n_head=2)
        >>> tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, bos_token="<s>")
        >>> lm = LanguageModel(GPT2LMHeadModel(config), tokenizer)
        >>> lm.tokenize(["cat dog"]), lm.hidden(lm.context(torch.zeros(5, 2, 8))).shape
        ([[1, 2]], torch.Size([5, 3, 8]))
    """

    @own_defaults
    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        reference: str = "",
        dtype: torch.dtype | Literal["auto", "int8"] | None = None,
    ) -> None:
        check_whole_model(model)
        self.model = model.requires_grad_(False).eval()
        self.tokenizer = tokenizer
        self.reference = reference
        self.plain, self.short_attention = False, True
        if dtype is not None:
            self.model.to(dtype=resolve_dtype(dtype, self.device))
        self._head = Head.of(self.model)
        self._spelling = Spelling(tokenizer)
        self._cache_name = cache_name(body(self.model))
        self._check_reading()
        if dtype == "int8":
            quantize(body(self.model))

    @classmethod
    @own_defaults
    def from_pretrained(
        cls,
        reference: str = hub.SMOLLM2,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | Literal["auto", "int8"] = "auto",
    ) -> LanguageModel:
        """Load a language model by its reference.

        Args:
            reference: A Hub id "org/name[@revision]", a local folder, or a "pypi:" wheel; the
                embedded default is SmolLM2-135M-Instruct.
            device: The device of the model; None = the CPU.
            dtype: "auto" = bfloat16 where the device has instructions for it, else float32. With "int8" most
                decoded texts differ from those of float32 (`agreement` measures it), and there is no
                gradient.

        Raises:
            FileNotFoundError: If the reference cannot be found, or its folder holds no weights.
            ValueError: If the model's head is not linear, `dtype` is none of these or not supported by the
                machine, the folder lacks weights or a tokenizer, or it needs code of its own, which is never
                run.
        """
        from transformers import AutoModelForCausalLM, AutoTokenizer

        folder = hub.resolve(reference)
        device = torch.device(device or "cpu")
        with hub.preserved_random_state():
            model = hub.load_weights(AutoModelForCausalLM, folder, dtype=resolve_dtype(dtype, device))
        tokenizer = hub.load_tokenizer(AutoTokenizer, folder)
        return cls(
            model.to(device), tokenizer, reference=reference, dtype="int8" if dtype == "int8" else None
        )

    @property
    def revision(self) -> str | None:
        """The revision or version that the reference pins, or None."""
        for mark in ("==", "@"):
            if mark in self.reference:
                return self.reference.rpartition(mark)[2]
        return None

    @property
    def device(self) -> torch.device:
        """The device of the model."""
        return self._embedding.device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype that the model computes in."""
        return self._embedding.dtype

    @property
    def width(self) -> int:
        """The width E of the embeddings that the model reads."""
        return self._embedding.shape[1]

    @property
    def embedding_count(self) -> int:
        """The number of tokens that have an embedding."""
        return self._embedding.shape[0]

    @property
    def vocab_size(self) -> int:
        """The number of tokens that the head gives a logit for."""
        return self._head.layer.weight.shape[0]

    @property
    def bos_id(self) -> int | None:
        """The token that starts a sequence, or None."""
        bos: int | None = self.tokenizer.bos_token_id
        return bos

    @property
    def eos_ids(self) -> tuple[int, ...]:
        """Every token that ends a text (chat models have several)."""
        generation = getattr(self.model, "generation_config", None)
        configured = getattr(generation, "eos_token_id", None)
        several = configured if isinstance(configured, list) else [configured]
        return tuple(dict.fromkeys(i for i in (self.tokenizer.eos_token_id, *several) if i is not None))

    @property
    def eos_id(self) -> int | None:
        """The first of `eos_ids`, or None."""
        return next(iter(self.eos_ids), None)

    @property
    def max_positions(self) -> int | None:
        """The number of positions that every layer can attend to; None if there is no limit."""
        return most_positions(self.model.config.get_text_config(), plain=self.plain)

    @property
    def head(self) -> tuple[Float[Tensor, "V W"], Float[Tensor, "V"] | None]:
        """The head's weight (V, W) and bias (V,): logits = hidden @ weight.T + bias."""
        return self._head.layer.weight, self._head.layer.bias

    def to(self, device: torch.device | str) -> LanguageModel:
        """Move the model to a device, and return it.

        Raises:
            ValueError: If the model is in int8, which is for a CPU.
        """
        check_device(self.model, torch.device(device))
        self.model.to(device)
        return self

    def tokenize(self, texts: Sequence[str], prompt: str = "") -> list[list[int]]:
        """Tokenize texts as continuations of a prompt, without special tokens.

        A text that begins with a blank is tokenized as the continuation of another text in any case.

        Args:
            texts: The texts, none blank.
            prompt: The text before them; "" for none.

        Returns:
            The token ids of each text.

        Raises:
            TypeError: If `texts` is one string, or holds something else than strings.
            ValueError: If a text is blank, has more than 10,000 characters, or gives no token.
        """
        checked = check_texts(texts)
        rows = self._spelling.rows(checked, prompt)
        for text, ids in zip(checked, rows, strict=True):
            if not ids:
                raise ValueError(f"{self.name} has no token for the text {shorten(text)!r}.")
        return rows

    def detokenize(self, ids: Sequence[int]) -> str:
        """Decode token ids to a text, without special tokens."""
        text = self.tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return str(text)

    def embed(self, ids: Int[Tensor, "*shape"]) -> Float[Tensor, "*shape E"]:
        """Look up the input embeddings of token ids."""
        return self.model.get_input_embeddings()(ids)  # type: ignore[no-any-return]

    def context(self, prefixes: Float[Tensor, "R P E"], prompt: str = "") -> Float[Tensor, "R C E"]:
        """Concatenate the embeddings that precede a text: BOS (if the model has one), the prefix, the prompt.

        Args:
            prefixes: Soft prompts, (rows R, P, E), any floating dtype; P may be 0.
            prompt: Words that follow the prefix, the same for all rows; "" for none.

        Raises:
            ValueError: If the prefixes have another width or device than the model, or the context would be
                empty.
        """
        self._check_prefixes(prefixes)
        rows = prefixes.shape[0]
        start = [] if self.bos_id is None else [self.bos_id]
        end = self._embed_rows(self._spelling.prompt(prompt), rows)
        parts = [self._embed_rows(start, rows), prefixes.to(self.dtype), end]
        context = torch.cat(parts, dim=1)
        if context.shape[1] == 0:
            raise ValueError(f"{self.name} has no BOS token; give it a prefix or a prompt to start from.")
        return context

    def require_positions(self, count: int, what: str) -> None:
        """Refuse a sequence that needs more positions than the model has.

        Args:
            count: The number of positions.
            what: The subject of the message.

        Raises:
            ValueError: If `count` exceeds `max_positions`.
        """
        if self.max_positions is not None and count > self.max_positions:
            raise ValueError(f"{what} needs {count} positions; {self.name} has {self.max_positions}.")

    def new_cache(self) -> DynamicCache:
        """Return an empty key-value cache for `hidden`; a `History` if the model is read plainly."""
        from transformers import DynamicCache

        return History() if self.plain else DynamicCache()

    def begin(self, context: Float[Tensor, "R C E"]) -> tuple[DynamicCache, Float[Tensor, "R rest E"]]:
        """Create a cache for rows of contexts, with the BOS that they share computed once.

        Returns:
            A cache to which later calls append, and the embeddings of the context that are not yet read.
        """
        cache = self.new_cache()
        if not self._shares(context):
            return cache, context
        self._read_bos(context, cache)
        cache.batch_repeat_interleave(len(context))
        return cache, context[:, 1:]

    def begin_once(self, context: Float[Tensor, "R C E"]) -> tuple[Cache | None, Float[Tensor, "R rest E"]]:
        """Create a cache as `begin` does, for a single pass that is not continued.

        Returns:
            A cache that holds the BOS only and stores nothing of later calls (None if there is no BOS or too
            few rows to share it), and the embeddings of the context that are not yet read.
        """
        if not self._shares(context):
            return None, context
        cache = one_row_cache()
        self._read_bos(context, cache)
        return cache, context[:, 1:]

    def hidden(
        self,
        embeds: Float[Tensor, "R L E"],
        *,
        cache: Cache | None = None,
        positions: Int[Tensor, "L"] | None = None,
        mask: Bool[Tensor, "L K"] | None = None,
    ) -> Float[Tensor, "R L W"]:
        """Run the model without its head on embeddings, and return the hidden states before the head.

        Args:
            embeds: The embeddings, (R, L, E), in the model's dtype.
            cache: Keys and values of the earlier positions; those of this call are appended to it.
            positions: The position of each embedding, (L,); None = they follow the cache in order.
            mask: Which of the K = cached + L keys each embedding sees, (L, K); None = causal.

        Returns:
            Hidden states, (R, L, W), contiguous.
        """
        extra: dict[str, Any] = {}
        if positions is not None:
            extra["position_ids"] = positions.expand(embeds.shape[0], -1)
        if mask is not None:
            banned = torch.zeros(mask.shape, dtype=self.dtype, device=mask.device)
            banned.masked_fill_(~mask, torch.finfo(self.dtype).min)
            extra["attention_mask"] = banned.expand(embeds.shape[0], 1, -1, -1)
        if isinstance(cache, History):
            whole = self._run(inputs_embeds=cache.extend(embeds))
            return whole[:, -embeds.shape[1] :].contiguous()
        if cache is not None:
            extra[self._cache_name] = cache
        return self._run(inputs_embeds=embeds, use_cache=cache is not None, **extra)

    def hidden_of_tokens(self, ids: Int[Tensor, "R L"]) -> Float[Tensor, "R L W"]:
        """Run the model without its head or a cache on token ids; equals `hidden` of their embeddings."""
        return self._run(input_ids=ids)

    def _run(self, *, use_cache: bool = False, **given: Any) -> Tensor:
        with exclusive_use(self.model):
            hidden: Tensor = body(self.model)(use_cache=use_cache, **given).last_hidden_state
        return (hidden if self._head.scale == 1 else hidden * self._head.scale).contiguous()

    def _check_reading(self) -> None:
        verdict = verdicts.reading_of(self)
        self.short_attention, self.plain = verdict.short_attention, verdict.difference is not None
        if self.plain:
            warnings.warn(
                f"{self.name} reads otherwise with {verdict.difference}. It will be read without: every text "
                "as a plain sequence, again at each step. That is right, and slower.",
                stacklevel=4,
            )

    def _shares(self, context: Tensor) -> bool:
        few = self.plain or self.bos_id is None or context.shape[1] < 2
        return not few and len(context) >= _SHARED_FROM

    @torch.no_grad()
    def _read_bos(self, context: Tensor, cache: Cache) -> None:
        self.hidden(context[:1, :1], cache=cache)

    @property
    def name(self) -> str:
        """The model's name in messages."""
        return f"the language model '{self.reference or type(self.model).__name__}'"

    @property
    def _embedding(self) -> Tensor:
        weight: Tensor = self.model.get_input_embeddings().weight
        return weight

    def _embed_rows(self, ids: list[int], rows: int) -> Tensor:
        tokens = torch.tensor(ids, dtype=torch.long, device=self.device)
        return self.embed(tokens).expand(rows, -1, -1)

    def _check_prefixes(self, prefixes: Tensor) -> None:
        if prefixes.shape[2] != self.width:
            raise ValueError(
                f"the prefixes have width {prefixes.shape[2]}; {self.name} reads embeddings of width "
                f"{self.width}. Use the language model that they were made for."
            )
        if prefixes.device != self.device:
            raise ValueError(
                f"the prefixes are on {prefixes.device}, {self.name} is on {self.device}; move one of them "
                "with .to(device)."
            )
