"""A frozen decoder that attends to vectors: BERT with cross-attention, the paper's language model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from torchnle import hub
from torchnle.data.captions import digest
from torchnle.hub.digest import digest_module
from torchnle.language.decoding import Decoded
from torchnle.language.device import resolve_dtype
from torchnle.language.head import cache_name
from torchnle.language.packed.step_decoding import Ends
from torchnle.language.sampling.distinct import Beam, Distinct, joined, parts_of
from torchnle.language.sampling.nucleus import Nucleus
from torchnle.language.texts import check_texts

if TYPE_CHECKING:
    from transformers import BertLMHeadModel, Cache, PreTrainedTokenizerBase

#: The default number of texts in the decoder at a time.
_AT_ONCE = 256


class CrossAttentionDecoder:
    """A frozen BERT decoder, whose layers attend to given vectors beside their own tokens (section 3).

    The vectors have the width of its hidden states. Without vectors its cross-attention is left out: the
    language model alone. A masked language model such as BERT-base has no cross-attention; a decoder has,
    once it was trained on captions (that of BLIP is one) or in this class with random weights, which stay
    frozen.

    Args:
        model: A `BertLMHeadModel` whose configuration states ``is_decoder`` and ``add_cross_attention``.
        tokenizer: Its tokenizer; a text starts with its BOS or [CLS] and ends with its EOS or [SEP].
        reference: The string that it was loaded by, with which a translator is saved.

    Raises:
        TypeError: If the model is of another class.
        ValueError: If it is no decoder with cross-attention, or the tokenizer has no start or no end.
    """

    def __init__(
        self, model: BertLMHeadModel, tokenizer: PreTrainedTokenizerBase, *, reference: str = ""
    ) -> None:
        _check(model)
        self.model = model.requires_grad_(False).eval()
        self.tokenizer, self.reference = tokenizer, reference
        self.start_id = _first(
            tokenizer.bos_token_id, tokenizer.cls_token_id, "starts (bos_token, cls_token)"
        )
        self.end_id = _first(tokenizer.eos_token_id, tokenizer.sep_token_id, "ends (eos_token, sep_token)")
        self._cache_name = cache_name(model.bert)

    @classmethod
    def from_pretrained(
        cls,
        reference: str,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | Literal["auto"] = "auto",
    ) -> CrossAttentionDecoder:
        """Load a decoder by its reference: a Hub id, a local folder or a "pypi:" wheel.

        Args:
            reference: The reference.
            device: The device of the model; None = the CPU.
            dtype: "auto" = bfloat16 where the device has instructions for it, else float32.

        Raises:
            FileNotFoundError: If the reference cannot be found, or its folder holds no weights.
            ValueError: As the constructor, or if the folder lacks weights.
        """
        from transformers import AutoTokenizer, BertLMHeadModel

        folder, device = hub.resolve(reference), torch.device(device or "cpu")
        with hub.preserved_random_state():
            model = hub.load_weights(BertLMHeadModel, folder, dtype=resolve_dtype(dtype, device))
        return cls(model.to(device), hub.load_tokenizer(AutoTokenizer, folder), reference=reference)

    @property
    def device(self) -> torch.device:
        """The device of the model."""
        device: torch.device = self.model.device
        return device

    @property
    def fingerprint(self) -> str:
        """A digest of its weights and vocabulary, which identifies it in a training run."""
        words = digest([repr(sorted(self.tokenizer.get_vocab().items()))])
        return f"{digest_module(self.model)} {words}"

    @property
    def width(self) -> int:
        """The width E of the vectors that it attends to."""
        return int(self.model.config.hidden_size)

    @property
    def head(self) -> tuple[Float[Tensor, "V E"], Float[Tensor, "V"]]:
        """The weight and bias of the output layer."""
        layer = self.model.cls.predictions.decoder
        return layer.weight, layer.bias

    @property
    def eos_ids(self) -> tuple[int, ...]:
        """The token that ends a text."""
        return (self.end_id,)

    def to(self, device: torch.device | str) -> CrossAttentionDecoder:
        """Move the model to a device, and return it."""
        self.model.to(device)
        return self

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Turn texts into token ids without start and end.

        Raises:
            TypeError: If `texts` is one string.
            ValueError: If a text is blank.
        """
        return [list(self.tokenizer(t, add_special_tokens=False)["input_ids"]) for t in check_texts(texts)]

    def detokenize(self, ids: Sequence[int]) -> str:
        """Turn token ids into a text, without special tokens."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))

    def embed(self, ids: Int[Tensor, "*shape"]) -> Float[Tensor, "*shape E"]:
        """Look token ids up."""
        return self.model.get_input_embeddings()(ids)  # type: ignore[no-any-return]

    def new_cache(self) -> Cache:
        """Return an empty cache of keys and values, of the tokens and of the vectors."""
        from transformers import DynamicCache, EncoderDecoderCache

        return EncoderDecoderCache(DynamicCache(), DynamicCache())

    def hidden(
        self,
        embeds: Float[Tensor, "R L E"],
        states: Float[Tensor, "R P E"] | None,
        cache: Cache | None = None,
    ) -> Float[Tensor, "R L E"]:
        """Run the decoder without its output layer, with causal attention, and return the hidden states."""
        given: dict[str, Any] = {} if cache is None else {self._cache_name: cache}
        found = self.model.bert(
            inputs_embeds=embeds,
            encoder_hidden_states=None if states is None else states.to(embeds.dtype),
            use_cache=cache is not None,
            **given,
        ).last_hidden_state
        transformed: Tensor = self.model.cls.predictions.transform(found)
        return transformed.contiguous()

    def log_probs(
        self, states: Float[Tensor, "R P E"] | None, ids: Sequence[Sequence[int]]
    ) -> Float[Tensor, "R"]:
        """Score each row's own tokens, in nats, differentiable in the vectors.

        Args:
            states: The vectors of each row; None = the language model alone.
            ids: The tokens of each row, with an end token where that counts.
        """
        longest = max(map(len, ids))
        read = [[self.start_id, *row[:-1], *[0] * (longest - len(row))] for row in ids]
        hidden = self.hidden(self.embed(torch.tensor(read, device=self.device)), states)
        rows = torch.tensor([row for row, text in enumerate(ids) for _ in text], device=self.device)
        steps = torch.tensor([step for text in ids for step in range(len(text))], device=self.device)
        targets = torch.tensor([token for text in ids for token in text], device=self.device)
        logits = F.linear(hidden[rows, steps], *self.head).float()
        tokens = -F.cross_entropy(logits, targets, reduction="none")
        return tokens.new_zeros(len(ids)).index_add(0, rows, tokens)

    @torch.no_grad()
    def greedy(self, states: Float[Tensor, "R P E"], *, max_new_tokens: int) -> Decoded:
        """Decode a text for every row greedily: the most probable token at each step."""

        def choose(logits: Tensor, _: int) -> Tensor:
            return logits.argmax(dim=1)

        return self._write(states, choose, max_new_tokens)

    @torch.no_grad()
    def sample(
        self,
        states: Float[Tensor, "R P E"] | None,
        n: int,
        *,
        top_p: float = 0.95,
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
        max_new_tokens: int = 40,
        internal_batch_size: int | None = None,
    ) -> Decoded:
        """Draw `n` texts of every row by nucleus sampling; those of a row stand together.

        Args:
            states: The vectors of each row; None = one row, the language model alone.
            n: How many texts per row.
            top_p: Draw from the smallest set of tokens that holds this share of the probability.
            temperature: What the logits are divided by before.
            generator: Makes the draws repeatable, whatever the batch size. On the CPU.
            max_new_tokens: The largest number of tokens of a text.
            internal_batch_size: The largest number of texts in the decoder at a time; None = 256.
        """
        rows = 1 if states is None else len(states)
        uniform = torch.rand(rows * n, max_new_tokens, generator=generator).to(self.device)
        found = []
        for part in torch.split(torch.arange(rows * n), internal_batch_size or _AT_ONCE):
            numbers = uniform[part.to(self.device)]

            def choose(logits: Tensor, step: int, numbers: Tensor = numbers) -> Tensor:
                each = torch.arange(len(logits), device=logits.device)
                nucleus = Nucleus.of(logits, top_p=top_p, temperature=temperature)
                return nucleus.pick(numbers[:, step], each)

            chosen = None if states is None else states[(part // n).to(states.device)]
            found.append(self._write(chosen, choose, max_new_tokens, rows=len(part)))
        return Decoded(
            [text for each in found for text in each.texts],
            [ids for each in found for ids in each.ids],
            torch.cat([each.log_probs for each in found]),
        )

    @torch.no_grad()
    def sample_distinct(
        self,
        states: Float[Tensor, "1 P E"] | None,
        n: int,
        *,
        top_p: float = 0.95,
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
        max_new_tokens: int = 40,
        internal_batch_size: int | None = None,
    ) -> Distinct:
        """Draw `n` texts of one row without replacement, with weights (`Distinct`); arguments as `sample`."""
        bound, ends = _Bound(self, states), Ends(self, None)
        start = self.embed(torch.tensor([[self.start_id]], device=self.device))
        sizes = parts_of(n, internal_batch_size or _AT_ONCE)
        beams = [Beam(bound, size, ends, generator, top_p, temperature) for size in sizes]
        return joined([beam.search(start, max_new_tokens) for beam in beams])

    def _write(
        self,
        states: Tensor | None,
        choose: Callable[[Tensor, int], Tensor],
        max_new_tokens: int,
        *,
        rows: int | None = None,
    ) -> Decoded:
        count = (1 if rows is None else rows) if states is None else len(states)
        cache, token = self.new_cache(), torch.full((count,), self.start_id, device=self.device)
        open_rows = torch.ones(count, dtype=torch.bool, device=self.device)
        written, total = [], torch.zeros(count, device=self.device)
        for step in range(max_new_tokens):
            hidden = self.hidden(self.embed(token[:, None]), states, cache)[:, 0]
            logits = F.linear(hidden, *self.head).float()
            token = choose(logits, step)
            written.append(torch.where(open_rows, token, self.end_id))
            open_rows = open_rows & (token != self.end_id)
            chances = logits.log_softmax(dim=1).gather(1, token[:, None])[:, 0]
            total = total + torch.where(open_rows, chances, 0.0)
            if not open_rows.any():
                break
        ids = [_until(row, self.end_id) for row in torch.stack(written, dim=1).tolist()]
        return Decoded([self.detokenize(row) for row in ids], ids, total)


class _Bound:
    """A decoder with the vectors of one row: what `Beam` reads."""

    def __init__(self, decoder: CrossAttentionDecoder, states: Float[Tensor, "1 P E"] | None) -> None:
        self.decoder, self.states = decoder, states
        self.head, self.embed, self.new_cache = decoder.head, decoder.embed, decoder.new_cache

    def hidden(self, embeds: Float[Tensor, "R L E"], *, cache: Any) -> Float[Tensor, "R L E"]:
        states = None if self.states is None else self.states.expand(len(embeds), -1, -1)
        return self.decoder.hidden(embeds, states, cache)


def _until(ids: list[int], end: int) -> list[int]:
    return ids[: ids.index(end)] if end in ids else ids


def _first(one: int | None, other: int | None, what: str) -> int:
    found = other if one is None else one
    if found is None:
        raise ValueError(f"the tokenizer has no token with which a text {what}; set one of them.")
    return int(found)


def _check(model: object) -> None:
    from transformers import BertLMHeadModel

    if not isinstance(model, BertLMHeadModel):
        raise TypeError(f"model is a {type(model).__name__}; pass a BertLMHeadModel of transformers.")
    config = model.config
    if not (config.is_decoder and config.add_cross_attention):
        raise ValueError(
            f"this BertLMHeadModel has is_decoder={config.is_decoder} and "
            f"add_cross_attention={config.add_cross_attention}, so it cannot attend to features. Build or "
            "save it with both set to True."
        )
