"""A tiny language model of every architecture that transformers has, built from its configuration class."""

from __future__ import annotations

from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers

WORDS = 48
#: What configurations call their sizes; only what a configuration has is set.
_SIZES: dict[str, Any] = {
    **dict.fromkeys(("hidden_size", "d_model", "n_embd", "n_embed", "emb_dim", "word_embed_proj_dim"), 32),
    **dict.fromkeys(("embedding_size", "input_embedding_size", "lru_width", "attention_hidden_size"), 32),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers"), 2),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "decoder_attention_heads", "num_heads"), 4),
    **dict.fromkeys(("encoder_attention_heads", "num_key_value_heads", "num_kv_heads"), 4),
    **dict.fromkeys(("head_dim", "qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim", "state_size"), 8),
    **dict.fromkeys(("intermediate_size", "ffn_dim", "decoder_ffn_dim", "encoder_ffn_dim", "n_inner"), 48),
    **dict.fromkeys(("ffn_hidden_size", "dff"), 48),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "moe_k"), 2),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size"), 24),
    **dict.fromkeys(("n_group", "topk_group", "n_shared_experts", "encoder_layers"), 1),
    **dict.fromkeys(("q_lora_rank", "kv_lora_rank", "qk_head_dim"), 16),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "max_seq_len", "n_ctx"), 128),
    **dict.fromkeys(("linear_key_head_dim", "linear_value_head_dim", "mamba_d_state", "mamba_n_heads"), 8),
    "mamba_d_head": 8,
    "mamba_expand": 2,
    "mamba_dt_rank": 4,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "rotary_dim": 4,
    "vocab_size": WORDS,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
#: What some configurations want besides.
_OWN: dict[str, dict[str, Any]] = {
    "mamba2": {"num_heads": 8, "head_dim": 8, "expand": 2, "n_groups": 1, "chunk_size": 8},
    "falcon_h1": {"mamba_d_ssm": 64, "mamba_n_heads": 8, "mamba_n_groups": 1},
    "gpt_neo": {"num_layers": 2, "attention_types": [[["global", "local"], 1]], "window_size": 4},
    "mistral": {"sliding_window": 8},
    "zamba2": {"layer_types": ["mamba", "hybrid"], "hybrid_layer_ids": [1]},
    "reformer": {"is_decoder": True},
    "bert": {"is_decoder": True},
    "roberta": {"is_decoder": True},
    "falcon_alibi": {"alibi": True},
    "jamba": {"use_mamba_kernels": False},  # read by transformers before version 5 alone
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "phi3_longrope": {
        "rope_parameters": {
            "rope_type": "longrope",
            "rope_theta": 10000.0,
            "short_factor": [1.0] * 4,
            "long_factor": [4.0] * 4,
            "original_max_position_embeddings": 12,
        },
        "original_max_position_embeddings": 12,
    },
}
_TYPES = {"falcon_alibi": "falcon", "phi3_longrope": "phi3"}


def tokenizer() -> Any:
    """A tokenizer of 48 words, "w0" to "w47"."""
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({f"w{i}": i for i in range(WORDS)}, unk_token="w0"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=words, bos_token="w1", eos_token="w2")


def build(kind: str) -> Any:
    """Build a tiny causal language model with random weights that make its texts vary.

    Args:
        kind: A model type of transformers, or one of the variants here.

    Raises:
        Exception: Whatever transformers raises where these sizes do not go together.
    """
    from transformers import AutoModelForCausalLM

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(_config(kind)).eval()
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1 and not name.endswith(("A_log", "conv1d.weight")):
                torch.nn.init.normal_(parameter, std=0.25)
    return model


def _config(kind: str) -> Any:
    from transformers import AutoConfig

    default = AutoConfig.for_model(_TYPES.get(kind, kind)).get_text_config()
    stated = default.to_dict()
    sizes = {name: value for name, value in _SIZES.items() if _is_set(default, name)}
    layers = list(dict.fromkeys(stated.get("layer_types") or ()))
    if layers:
        sizes["layer_types"] = (2 * layers)[:2]  # one of each kind, in hybrids
    return type(default)(**{**sizes, **_OWN.get(kind, {})})


def _is_set(config: Any, name: str) -> bool:
    """Return whether a configuration has a settable value of this name."""
    made = getattr(type(config), name, None)
    return hasattr(config, name) and not (isinstance(made, property) and made.fset is None)
