import json
import struct

import gguf
import numpy as np
import pytest
import torch
from tokenizers.pre_tokenizers import ByteLevel
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from torchnle.hub.gguf import folder as gguf_folder

SPECIAL = ["<|end|>", "<|start|>"]
MERGES = ["Ġ Ġ", "Ġ a", "i n", "1 2", "Ġ 1"]
TOKENS = [*SPECIAL, *sorted(ByteLevel.alphabet()), *(merge.replace(" ", "") for merge in MERGES), "<note>"]
NAMES = {
    "embed_tokens": "token_embd",
    "input_layernorm": "attn_norm",
    "q_proj": "attn_q",
    "k_proj": "attn_k",
    "v_proj": "attn_v",
    "o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "gate_proj": "ffn_gate",
    "up_proj": "ffn_up",
    "down_proj": "ffn_down",
    "norm": "output_norm",
    "lm_head": "output",
}


def tiny_llama(tied):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(TOKENS),
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        rms_norm_eps=1e-4,
        tie_word_embeddings=tied,
    )
    config.rope_parameters = {"rope_type": "default", "rope_theta": 500.0}
    config.rope_theta = 500.0
    return LlamaForCausalLM(config).eval()


def interleaved(weight, heads):
    """Row by row: llama.cpp puts row i of a head's first half beside row i of its second half."""
    rows, size = [], len(weight) // heads
    for head in range(heads):
        for i in range(size // 2):
            rows += [weight[head * size + i], weight[head * size + size // 2 + i]]
    return np.stack(rows)


def write_gguf(path, model, quantise=None, pre="smollm", architecture="llama", scaling=None, extra=None):
    writer = gguf.GGUFWriter(str(path), architecture)
    config = model.config
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(500.0)
    if scaling:
        writer.add_string("llama.rope.scaling.type", scaling)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(TOKENS)
    writer.add_token_types([3] * len(SPECIAL) + [1] * (len(TOKENS) - len(SPECIAL) - 1) + [4])
    writer.add_token_merges(MERGES)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(0)
    writer.add_pad_token_id(0)
    writer.add_chat_template("{{ messages[0]['content'] }}")
    for key, value in (extra or {}).items():
        writer.add_bool(key, value)
    for name, value in gguf_tensors(model).items():
        quantised = quantise is not None and value.ndim == 2
        data = gguf.quantize(value, quantise) if quantised else value
        writer.add_tensor(name, data, raw_dtype=quantise if quantised else None)
    if scaling == "none":
        writer.add_tensor("rope_freqs.weight", np.ones(8, dtype=np.float32))
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file):
        step()
    writer.close()
    return path


def gguf_tensors(model):
    tensors = {}
    for name, value in model.state_dict().items():
        if name == "lm_head.weight" and model.config.tie_word_embeddings:
            continue
        array, parts = value.numpy(), name.split(".")
        if parts[-2] in ("q_proj", "k_proj"):
            heads = "num_attention_heads" if parts[-2] == "q_proj" else "num_key_value_heads"
            array = interleaved(array, getattr(model.config, heads))
        block = f"blk.{parts[2]}." if parts[1] == "layers" else ""
        tensors[f"{block}{NAMES[parts[-2]]}.weight"] = array
    return tensors


@pytest.mark.parametrize("tied", [True, False])
def test_the_folder_is_the_model(tmp_path, tied):
    original = tiny_llama(tied)
    folder = gguf_folder.convert(write_gguf(tmp_path / "tiny.gguf", original), tmp_path / "model")
    loaded, info = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not any(info.values())
    ids = torch.randint(len(TOKENS), (2, 40))
    assert torch.equal(loaded(ids).logits, original(ids).logits)
    assert loaded.dtype == torch.float32
    assert (loaded.lm_head.weight is loaded.model.embed_tokens.weight) == tied
    config = loaded.config
    assert (config.bos_token_id, config.eos_token_id, config.pad_token_id) == (1, 0, 0)


def slow_q4_1(block):
    """The definition in ggml: scale and minimum in float16, then 32 values of 4 bits, low halves first."""
    scale, minimum = struct.unpack("<2e", block[:4])
    nibbles = [byte & 15 for byte in block[4:]] + [byte >> 4 for byte in block[4:]]
    return [np.float32(scale) * np.float32(n) + np.float32(minimum) for n in nibbles]


def slow_q8_0(block):
    (scale,) = struct.unpack("<e", block[:2])
    return [np.float32(scale) * np.float32(n) for n in struct.unpack("<32b", block[2:])]


@pytest.mark.parametrize(
    ("kind", "slow", "size"),
    [(gguf.GGMLQuantizationType.Q4_1, slow_q4_1, 20), (gguf.GGMLQuantizationType.Q8_0, slow_q8_0, 34)],
)
def test_quantised_weights_keep_their_exact_values(tmp_path, kind, slow, size):
    original = tiny_llama(tied=True)
    folder = gguf_folder.convert(write_gguf(tmp_path / "tiny.gguf", original, kind), tmp_path / "model")
    name = "model.layers.1.mlp.down_proj.weight"
    weight = original.state_dict()[name]
    stored = gguf.quantize(weight.numpy(), kind).tobytes()
    blocks = [stored[start : start + size] for start in range(0, len(stored), size)]
    expected = [float(value) for block in blocks for value in slow(block)]
    loaded = AutoModelForCausalLM.from_pretrained(folder).state_dict()[name]
    assert loaded.flatten().tolist() == expected
    assert not torch.equal(loaded, weight)


def test_the_tokenizer_keeps_digits_and_special_tokens_apart(tmp_path):
    folder = gguf_folder.convert(write_gguf(tmp_path / "tiny.gguf", tiny_llama(True)), tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    text = "<|start|>in  12 a<note>é"
    ids = tokenizer(text).input_ids
    assert [TOKENS[i] for i in ids] == ["<|start|>", "in", "ĠĠ", "1", "2", "Ġa", "<note>", "Ã", "©"]
    assert tokenizer.decode(ids) == text
    assert tokenizer.decode(ids, skip_special_tokens=True) == "in  12 a<note>é"
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (1, 0, 0)
    assert tokenizer.model_max_length == 128
    assert set(tokenizer("in")) == {"input_ids", "attention_mask"}
    assert len(tokenizer) == len(TOKENS)
    assert tokenizer.apply_chat_template([{"role": "user", "content": "hi"}], tokenize=False) == "hi"


def test_a_vocabulary_split_as_gpt2_merges_digits(tmp_path):
    file = write_gguf(tmp_path / "tiny.gguf", tiny_llama(True), pre="gpt-2")
    tokenizer = AutoTokenizer.from_pretrained(gguf_folder.convert(file, tmp_path / "model"))
    assert tokenizer.tokenize("in  12") == ["in", "Ġ", "Ġ", "12"]


@pytest.mark.parametrize("adds", [True, False])
def test_a_bos_token_is_added_where_the_file_says_so(tmp_path, adds):
    file = write_gguf(tmp_path / "tiny.gguf", tiny_llama(True), extra={"tokenizer.ggml.add_bos_token": adds})
    tokenizer = AutoTokenizer.from_pretrained(gguf_folder.convert(file, tmp_path / "model"))
    assert tokenizer("in").input_ids == [1] * adds + [TOKENS.index("in")]


def test_rotation_keys_are_spelled_for_old_and_new_transformers(tmp_path):
    folder = gguf_folder.convert(write_gguf(tmp_path / "tiny.gguf", tiny_llama(True)), tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    assert (config["rope_theta"], config["torch_dtype"], config["head_dim"]) == (500.0, "float32", 16)
    assert config["rms_norm_eps"] == pytest.approx(1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": "mamba"}, "architecture 'mamba'; only 'llama' is known"),
        ({"scaling": "yarn"}, "scales its rotary embedding"),
        ({"scaling": "none"}, "has a tensor 'rope_freqs.weight', which a plain Llama model does not have"),
        ({"pre": "llama-bpe"}, r"tokenizer \('gpt2', 'llama-bpe'\) is not known"),
    ],
)
def test_what_is_not_known_is_refused(tmp_path, changes, message):
    file = write_gguf(tmp_path / "tiny.gguf", tiny_llama(True), **changes)
    with pytest.raises(ValueError, match=message):
        gguf_folder.convert(file, tmp_path / "model")


def test_what_is_no_gguf_file_is_refused(tmp_path):
    (tmp_path / "tiny.gguf").write_bytes(b"not a GGUF file at all, but long enough to have a header" * 4)
    with pytest.raises(ValueError, match="GGUF magic invalid"):
        gguf_folder.convert(tmp_path / "tiny.gguf", tmp_path / "model")
