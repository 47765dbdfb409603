"""Language models and tokenizers: read as they read themselves, or plainly, or refused."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from measurements.reading.tiny_models import build, tokenizer
from measurements.reliability.cases.case import Found, Topic, equal, first_wrong, near, refused
from measurements.reliability.cases.models import language_model
from torchnle.language.decoding import greedy
from torchnle.language.model import LanguageModel
from torchnle.language.scoring import log_prob
from torchnle.language.spelling import Spelling

TOPIC = Topic("language models and tokenizers")
case = TOPIC.case
_TEXTS = ["w5 w6 w7", "w8 w9 w7", "w8", "w8 w9"]


def _prefixes(rows: int = 1) -> Tensor:
    return torch.randn(rows, 4, 32, generator=torch.Generator().manual_seed(0)) * 0.5


@torch.no_grad()
def _slow_greedy(lm: LanguageModel, prefix: Tensor, steps: int) -> list[int]:
    """Choose the most probable token again and again, with the model's own forward and no cache."""
    model: Any = lm.model
    embeds, found = lm.context(prefix), []
    for _ in range(steps):
        token = int(model(inputs_embeds=embeds, use_cache=False).logits[0, -1].argmax())
        if token in lm.eos_ids:
            break
        found.append(token)
        embeds = torch.cat([embeds, model.get_input_embeddings()(torch.tensor([[token]]))], 1)
    return found


@torch.no_grad()
def _slow_log_prob(lm: LanguageModel, prefix: Tensor, text: str) -> float:
    model: Any = lm.model
    (ids,) = lm.tokenize([text])
    embeds = torch.cat([lm.context(prefix), model.get_input_embeddings()(torch.tensor([ids]))], 1)
    steps = model(inputs_embeds=embeds, use_cache=False).logits[0].double().log_softmax(-1)
    return sum(float(steps[-len(ids) - 1 + n, token]) for n, token in enumerate(ids))


def _read(kind: str) -> Found:
    """Compare greedy texts and log-probabilities with the model's own plain forward."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            lm = language_model(kind)
        except ValueError as error:
            return f"refused at construction: {error}"[:80], True
    tokens = list(greedy(lm, _prefixes(), max_new_tokens=8).ids[0])
    together = log_prob(lm, _prefixes(), _TEXTS)[0]
    wanted = torch.tensor([_slow_log_prob(lm, _prefixes(), text) for text in _TEXTS])
    off = float((together.double() - wanted).abs().max())
    same = tokens[: len(_slow_greedy(lm, _prefixes(), 8))] == _slow_greedy(lm, _prefixes(), 8)
    return (
        f"{'plainly' if lm.plain else 'packed'}, greedy the same: {same}, log p off by {off:.1e}",
        same and off < 2e-3,
    )


@case(
    "Falcon, which asks what its attention is called",
    "generate's tokens, the plain forward's log p",
    "transformers",
)
def falcon() -> Found:
    """A model whose attention depends on its name."""
    return _read("falcon")


@case(
    "MPT, whose positions are distances (ALiBi)",
    "a text's score alone and beside others the same",
    "transformers",
)
def mpt() -> Found:
    """Positions by index."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        lm = language_model("mpt")
    alone = torch.cat([log_prob(lm, _prefixes(), [text]) for text in _TEXTS], 1)
    first = near(log_prob(lm, _prefixes(), _TEXTS), alone, 1e-5)
    return first_wrong([("against the plain forward", _read("mpt")), ("alone and beside others", first)])


@case(
    "Bloom, Falcon with ALiBi, Mamba, GPT-Neo and Mistral with a short window, Phi-3 with long positions",
    "right, or refused with the number of positions",
    "transformers",
)
def other_architectures() -> Found:
    """States, windows and other positions."""
    kinds = ("bloom", "falcon_alibi", "mamba", "gpt_neo", "mistral", "phi3_longrope")
    return first_wrong([(kind, _right_or_too_long(kind)) for kind in kinds])


def _right_or_too_long(kind: str) -> Found:
    """Read, or be refused since a window is shorter than the text."""
    try:
        return _read(kind)
    except ValueError:
        return refused(lambda: _read(kind), "needs [0-9]+ positions")


@case(
    "a GPT-2 whose layer multiplies by the number of tokens",
    "a plain reading that is said, or a refusal",
    "transformers",
)
def remembering() -> Found:
    """A model whose forward was replaced, in an object."""
    model: Any = build("gpt2")
    layer = model.transformer.h[0].mlp
    plain = layer.forward
    layer.forward = lambda x: plain(x) * (1 + 0.2 * x.shape[1])
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            lm = LanguageModel(model, tokenizer(), reference="x")
    except ValueError as error:
        return f"refused: {error}"[:120], True
    return f"plain: {lm.plain}, warned: {bool(caught)}", lm.plain and bool(caught)


def _llama_tokenizer() -> Any:
    from tokenizers import Tokenizer, models, normalizers
    from transformers import PreTrainedTokenizerFast

    pieces = {"<unk>": 0, "<s>": 1, "</s>": 2, "\u2581": 3, "a": 4, "\u2581a": 5}
    bpe = Tokenizer(models.BPE(pieces, [("\u2581", "a")], unk_token="<unk>"))
    bpe.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    options: dict[str, Any] = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=bpe, **options)


@case(
    "a tokenizer that puts a marker before every text; prompt 'a', text ' a'",
    "[[5]], as in the whole 'a a'",
    "transformers",
)
def marker_before_texts() -> Found:
    """Parts that are tokenized apart."""
    found = Spelling(_llama_tokenizer()).rows([" a"], "a")
    whole = _llama_tokenizer()("a a", add_special_tokens=False).input_ids
    return f"{found}, the whole {whole}", found == [[5]]


def _tokenizers() -> dict[str, Any]:
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    made: dict[str, Any] = {"prepend": _llama_tokenizer()}
    pieces = ["a", "cat", "the", "A", "b", "."]
    scored = [
        ("<unk>", -20.0),
        *((p, -1.0) for p in pieces),
        *((f"\u2581{p}", -1.0) for p in pieces),
        ("\u2581", -2.0),
    ]
    for scheme in ("always", "first", "never"):
        unigram = Tokenizer(models.Unigram(scored, unk_id=0))
        unigram.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
        unigram.decoder = decoders.Metaspace(prepend_scheme=scheme)
        made[scheme] = PreTrainedTokenizerFast(tokenizer_object=unigram, unk_token="<unk>")
    pairs = {c: i for i, c in enumerate(sorted({*"abcthe.A", "\u0120", "\u0120a", "ca", "cat", "\u0120cat"}))}
    merges = [("\u0120", "a"), ("c", "a"), ("ca", "t"), ("\u0120", "cat")]
    byte = Tokenizer(models.BPE(pairs, merges))
    byte.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    made["byte level with a prefix space"] = PreTrainedTokenizerFast(tokenizer_object=byte)
    piece = Tokenizer(
        models.WordPiece({w: i for i, w in enumerate(["[UNK]", "a", "cat", "##t", "ca"])}, unk_token="[UNK]")
    )
    piece.pre_tokenizer, piece.normalizer = pre_tokenizers.Whitespace(), normalizers.Lowercase()
    made["word pieces"] = PreTrainedTokenizerFast(tokenizer_object=piece, unk_token="[UNK]")
    return made


@case(
    "markers always, first, never; byte level with a prefix space; word pieces; four prompts",
    "the tokens of the whole",
    "transformers",
)
def other_tokenizers() -> Found:
    """A prompt and a text are the whole, for other tokenizers."""
    tried = []
    for name, words in _tokenizers().items():
        for prompt in ("a", "a a", "a ", "a.", ""):
            text = "a" if prompt.endswith(" ") or not prompt else " a"
            spelling = Spelling(words)
            (rest,) = spelling.rows([text], prompt)
            whole = words(prompt + text, add_special_tokens=False).input_ids
            tried.append((f"{name}, {prompt!r}", equal(spelling.prompt(prompt) + rest, whole)))
    return first_wrong(tried)


class _Adapted(nn.Module):
    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner = inner

    def merge_and_unload(self) -> Any:
        return self.inner


@case(
    "a wrapper with merge_and_unload, as PEFT's",
    "it works, or a TypeError that says to merge first",
    "transformers",
)
def adapters() -> Found:
    """A language model with adapters."""
    wrapped: Any = _Adapted(build("llama"))
    return refused(lambda: LanguageModel(wrapped, tokenizer(), reference="x"), "merge_and_unload")


@case(
    "an encoder-decoder, a masked model, a plain module, a head squashed by tanh",
    "a TypeError or ValueError each",
    "transformers",
)
def no_causal_models() -> Found:
    """Refuse models that are no causal language models."""
    import transformers

    bert: Any = transformers.BertForMaskedLM(transformers.BertConfig(**{**_BERT, "vocab_size": 48}))
    t5: Any = transformers.T5ForConditionalGeneration(
        transformers.T5Config(vocab_size=48, d_model=16, d_kv=8, num_heads=2, num_layers=1, d_ff=16)
    )
    others: dict[str, Any] = {"bert": bert, "t5": t5, "a module": nn.Linear(2, 2), "a name": "gpt2"}
    tried = []
    for name, model in others.items():
        tried.append((name, refused(lambda model=model: LanguageModel(model, tokenizer(), reference="x"))))
    return first_wrong(tried)


_BERT = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}


@case(
    "bfloat16, float16 and float64 weights",
    "log p near the plain forward's in the same dtype",
    "transformers",
)
def dtypes() -> Found:
    """Language models of other dtypes."""
    tried = []
    for dtype, far in ((torch.float64, 1e-3), (torch.bfloat16, 0.5), (torch.float16, 0.1)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            lm = LanguageModel(build("llama").to(dtype), tokenizer(), reference="x")
        found = log_prob(lm, _prefixes(), _TEXTS)[0].double()
        wanted = torch.tensor(
            [_slow_log_prob(lm, _prefixes().to(dtype), text) for text in _TEXTS], dtype=torch.float64
        )
        tried.append((str(dtype), near(found, wanted, far)))
    return first_wrong(tried)
