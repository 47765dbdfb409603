"""A GGUF language model of the Llama family, de-quantised into a folder that transformers reads.

Written out by hand rather than through transformers' own reader so that the folder means the same to every
version of transformers, keeps digits apart where the vocabulary does, and needs no further package.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from torchnle.hub.gguf import tokenizer

if TYPE_CHECKING:
    from gguf import GGUFReader

_TOP = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
_BLOCK = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_BLOCK_NAME = re.compile(r"blk\.(?P<index>\d+)\.(?P<part>\w+)")


def convert(gguf_file: Path, folder: Path) -> Path:
    """De-quantise a GGUF file into config.json, model.safetensors and tokenizer files.

    The weights are stored in float32: Q4_1 and Q8_0 values are a float16 scale times an integer (plus a
    float16 minimum), which bfloat16 and float16 would round.

    Args:
        gguf_file: A causal language model of architecture "llama".
        folder: The folder to write; created if needed.

    Raises:
        ValueError: If the file is not GGUF, or its architecture, rotary scaling or tokenizer is not
            supported.
    """
    from gguf import GGUFReader
    from safetensors.torch import save_file

    reader = GGUFReader(gguf_file)
    fields = {name: field.contents() for name, field in reader.fields.items()}
    config = _config(fields, gguf_file.name)
    tensors = _tensors(reader, config)
    config |= {"vocab_size": len(tensors["model.embed_tokens.weight"])}
    config |= {"tie_word_embeddings": "lm_head.weight" not in tensors}
    folder.mkdir(parents=True)
    tokenizer.save(fields, folder)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    weights = folder / "model.safetensors"
    save_file(tensors, weights, metadata={"format": "pt"})
    weights.chmod((folder / "config.json").stat().st_mode)  # written private; a cache may be shared
    return folder


def _config(fields: dict[str, Any], name: str) -> dict[str, Any]:
    """The keys of transformers' LlamaConfig, spelled as versions 4 and 5 both read them."""
    architecture = fields.get("general.architecture")
    if architecture != "llama":
        raise ValueError(f"{name} is a GGUF file of architecture {architecture!r}; only 'llama' is known.")
    if fields.get("llama.rope.scaling.type", "none") != "none":
        raise ValueError(f"{name} scales its rotary embedding, which is not known here.")
    heads = fields["llama.attention.head_count"]
    width = fields["llama.embedding_length"]
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "torch_dtype": "float32",
        "hidden_size": width,
        "intermediate_size": fields["llama.feed_forward_length"],
        "num_hidden_layers": fields["llama.block_count"],
        "num_attention_heads": heads,
        "num_key_value_heads": fields.get("llama.attention.head_count_kv", heads),
        "head_dim": fields.get("llama.attention.key_length", width // heads),
        "max_position_embeddings": fields["llama.context_length"],
        "rms_norm_eps": fields["llama.attention.layer_norm_rms_epsilon"],
        "rope_theta": fields.get("llama.rope.freq_base", 10000.0),
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "bos_token_id": fields.get("tokenizer.ggml.bos_token_id"),
        "eos_token_id": fields.get("tokenizer.ggml.eos_token_id"),
        "pad_token_id": fields.get("tokenizer.ggml.padding_token_id"),
    }


def _tensors(reader: GGUFReader, config: dict[str, Any]) -> dict[str, Tensor]:
    from gguf import dequantize

    tensors = {}
    for tensor in reader.tensors:
        values = torch.from_numpy(dequantize(tensor.data, tensor.tensor_type).copy())
        if ".attn_q." in tensor.name:
            values = _rotary_halves(values, config["num_attention_heads"])
        if ".attn_k." in tensor.name:
            values = _rotary_halves(values, config["num_key_value_heads"])
        tensors[_transformers_name(tensor.name)] = values
    return tensors


def _rotary_halves(weight: Float[Tensor, "out in"], heads: int) -> Float[Tensor, "out in"]:
    """Reorder each head's rows: GGUF turns neighbours (0, 1), (2, 3), ...; transformers turns halves."""
    pairs = weight.view(heads, -1, 2, weight.shape[1])
    return pairs.transpose(1, 2).reshape(weight.shape)


def _transformers_name(name: str) -> str:
    stem, _, kind = name.rpartition(".")
    block = _BLOCK_NAME.fullmatch(stem)
    if kind == "weight" and stem in _TOP:
        return f"{_TOP[stem]}.weight"
    if kind == "weight" and block is not None and block["part"] in _BLOCK:
        return f"model.layers.{block['index']}.{_BLOCK[block['part']]}.weight"
    raise ValueError(f"the GGUF file has a tensor {name!r}, which a plain Llama model does not have.")
