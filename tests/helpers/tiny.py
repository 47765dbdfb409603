"""Language models and encoders of a few thousand random weights, and slow oracles for them."""

from functools import cache

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from torchnle.language.model import LanguageModel

WORDS = ["a", "the", "cat", "dog", "bird", "red", "green", "small", "big", "on", "under", "grass", "sky"]
WORDS += ["runs", "sits", "and", ".", "end."]
VOCABULARY = ["<s>", "</s>", "<unk>", *WORDS]
WIDTH = 16
TEXTS = [
    "cat",
    "a cat",
    "a red cat sits",
    "a red bird",
    "the dog",
    "a cat",
    "the dog runs under the sky",
    ".",
]

_SIZES = {
    "vocab_size": len(VOCABULARY),
    "hidden_size": WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 48,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": None,
}
_ROTARY = {"intermediate_size": 24, "num_key_value_heads": 2, "head_dim": 4}
_CONFIGS = {
    "gpt2": lambda: transformers.GPT2Config(**_SIZES),
    "opt": lambda: transformers.OPTConfig(**_SIZES, ffn_dim=24),
    "opt_projected": lambda: transformers.OPTConfig(
        **{**_SIZES, "hidden_size": 24}, ffn_dim=24, word_embed_proj_dim=WIDTH, do_layer_norm_before=False
    ),
    "llama": lambda: transformers.LlamaConfig(**_SIZES, **_ROTARY),
    "qwen2": lambda: transformers.Qwen2Config(**_SIZES, **_ROTARY),
    "gemma": lambda: transformers.GemmaConfig(**_SIZES, **_ROTARY, tie_word_embeddings=False),
    "gemma2": lambda: transformers.Gemma2Config(**_SIZES, **_ROTARY),
    "gemma3": lambda: transformers.Gemma3TextConfig(
        **_SIZES, **_ROTARY, sliding_window=40, tie_word_embeddings=False
    ),
    "granite": lambda: transformers.GraniteConfig(**_SIZES, **_ROTARY, logits_scaling=3.0),
    "cohere": lambda: transformers.CohereConfig(**_SIZES, **_ROTARY, logit_scale=0.25),
    "phi": lambda: transformers.PhiConfig(**_SIZES, **_ROTARY),
}
FAMILIES = ["gpt2", "opt", "opt_projected", "llama", "qwen2", "gemma", "gemma3", "granite", "cohere", "phi"]


def make_tokenizer(*, bos=True):
    words = models.WordLevel({word: i for i, word in enumerate(VOCABULARY)}, unk_token="<unk>")
    tokenizer = Tokenizer(words)
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "removed")
    special = {"bos_token": "<s>"} if bos else {}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>", **special)


def make_model(family, seed=0):
    """Weights of our own drawing, so that they are the same under every version of transformers."""
    model = transformers.AutoModelForCausalLM.from_config(_CONFIGS[family]())
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1 or name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.4, generator=generator)
        elif family.startswith("gemma"):
            torch.nn.init.zeros_(parameter)  # the scales of its norms, less one
    return model


def make_lm(family="gpt2", *, dtype=None, bos=None, seed=0):
    """A tiny language model; Qwen's tokenizers have no BOS."""
    bos = family != "qwen2" if bos is None else bos
    return LanguageModel(make_model(family, seed), make_tokenizer(bos=bos), dtype=dtype)


tiny_lm = cache(make_lm)


def make_prefixes(rows, length=3, *, seed=1, dtype=torch.float32, width=WIDTH):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, length, width, generator=generator, dtype=dtype)


def make_encoder_parts(seed=0):
    torch.manual_seed(seed)
    config = transformers.BertConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=24,
        max_position_embeddings=12,
        initializer_range=0.4,
    )
    tokenizer = make_tokenizer()
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    tokenizer.pad_token = "</s>"
    tokenizer.model_max_length = 12
    return transformers.BertModel(config), tokenizer


@torch.no_grad()
def slow_logits(lm, prefix, ids, prompt=""):
    """All logits of the whole sequence, from the transformers model itself, for one row."""
    start = [] if lm.bos_id is None else [lm.bos_id]
    words = lm.tokenizer(prompt, add_special_tokens=False)["input_ids"] if prompt else []
    embed = lm.model.get_input_embeddings()
    before, after = (embed(torch.tensor(part, dtype=torch.long)) for part in (start, [*words, *ids]))
    read = torch.cat([before, prefix.to(lm.dtype), after])
    return lm.model(inputs_embeds=read[None]).logits[0].double()


def slow_log_prob(lm, prefix, ids, prompt=""):
    steps = slow_logits(lm, prefix, ids, prompt).log_softmax(-1)[-len(ids) - 1 : -1]
    return sum(step[token].item() for step, token in zip(steps, ids, strict=True))


def slow_greedy(lm, prefix, max_new_tokens, prompt=""):
    ids = []
    for _ in range(max_new_tokens):
        token = slow_logits(lm, prefix, ids, prompt)[-1].argmax().item()
        if token in lm.eos_ids:
            break
        ids.append(token)
    return ids
