"""Whole CLIPs with random weights, as small as can be, of open_clip and of transformers."""

import pytest
import torch
from torch import nn

TEXTS = ["a dog", "a red door", "grass under a tree"]
TEXT_TOWER = {"context_length": 12, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
VIT = {"image_size": 32, "layers": 2, "width": 24, "head_width": 12, "patch_size": 8}
RESNET = {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "head_width": 64}
SMALL = {"hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}


def letters(texts, context_length=12):
    """A tokenizer in open_clip's manner: starts, letters, the highest id at the end."""
    ids = torch.zeros(len(texts), context_length, dtype=torch.long)
    for row, text in zip(ids, texts, strict=True):
        cut = [49406, *map(ord, text)][: context_length - 1]
        row[: len(cut) + 1] = torch.tensor([*cut, 49407])
    return ids


def open_clip_model(vision):
    open_clip = pytest.importorskip("open_clip")
    torch.manual_seed(0)
    model = open_clip.CLIP(20, vision, TEXT_TOWER)
    for name, value in model.named_parameters():
        if value.ndim > 1 and "visual" in name and value.abs().max() == 0:
            nn.init.normal_(value, std=0.1)
    return model, letters


def coca():
    open_clip = pytest.importorskip("open_clip")
    torch.manual_seed(0)
    vision = VIT | {"attentional_pool": True, "attn_pooler_queries": 16, "attn_pooler_heads": 2}
    vision |= {"output_tokens": True}
    text = TEXT_TOWER | {"embed_cls": True, "output_tokens": True}
    multimodal = {"context_length": 12, "vocab_size": 64, "width": 16, "heads": 2, "layers": 1}
    return open_clip.CoCa(20, multimodal, text, vision), letters


def hugging_face(kind):
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = {"<pad>": 0, "<unk>": 1, "a": 2, "dog": 3, "red": 4, "door": 5, "grass": 6, "tree": 7, "<eos>": 8}
    inner = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>")
    text = SMALL | {"vocab_size": 9, "max_position_embeddings": 8, "eos_token_id": 8}
    text |= {"bos_token_id": 1, "pad_token_id": 0}
    vision = SMALL | {"image_size": 32, "patch_size": 8}
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(text_config=text, vision_config=vision)
    config.projection_dim = 20
    return getattr(transformers, f"{kind}Model")(config), tokenizer
