"""Slow oracles: the formulas once more, with loops over rows, tokens and heads, in float64."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """One vector: y_i = sum_j W_ij x_j + b_i."""
    return torch.stack([(row * x).sum() + b for row, b in zip(weight, bias, strict=True)])


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    mean = x.sum() / len(x)
    variance = ((x - mean) ** 2).sum() / len(x)
    return (x - mean) / torch.sqrt(variance + eps) * weight + bias


def gelu(x: Tensor) -> Tensor:
    return x * (1 + torch.erf(x / math.sqrt(2))) / 2


def softmax(values: list[Tensor]) -> list[Tensor]:
    exps = [value.exp() for value in values]
    return [e / sum(exps) for e in exps]


def attention(
    x: list[Tensor], state: dict[str, Tensor], name: str, heads: int, kept: list[bool]
) -> list[Tensor]:
    """Multi-head self-attention of a list of token vectors; keys that are not kept are never looked at."""
    width = len(x[0])
    size = width // heads
    weight, bias = state[f"{name}.in_proj_weight"], state[f"{name}.in_proj_bias"]
    projected = [linear(token, weight, bias) for token in x]
    q, k, v = ([p[i * width : (i + 1) * width] for p in projected] for i in range(3))
    keys = [i for i in range(len(x)) if kept[i]]
    out = []
    for token in range(len(x)):
        heard = []
        for head in range(heads):
            part = slice(head * size, (head + 1) * size)
            looks = softmax([(q[token][part] * k[i][part]).sum() / math.sqrt(size) for i in keys])
            heard.append(sum(look * v[i][part] for look, i in zip(looks, keys, strict=True)))
        out.append(linear(torch.cat(heard), state[f"{name}.out_proj.weight"], state[f"{name}.out_proj.bias"]))
    return out


def devil_prefix(
    state: dict[str, Tensor],
    tokens: dict[str, Tensor],
    *,
    depth: int,
    heads: int,
    keep: dict[str, Tensor] | None = None,
) -> Tensor:
    """DeViL's network on tokens {layer: (R, S, D)}: pre-norm blocks over [layer tokens, queries]."""
    state = {name: value.double() for name, value in state.items()}
    rows = next(iter(tokens.values())).shape[0]
    return torch.stack([_devil_row(state, tokens, keep or {}, depth, heads, row) for row in range(rows)])


def _devil_row(state, tokens, keep, depth, heads, row) -> Tensor:
    x, kept = [], []
    for layer, features in tokens.items():
        name = "inputs." + layer.replace(".", "/")
        for i, token in enumerate(features[row].double()):
            projected = linear(token, state[f"{name}.projection.weight"], state[f"{name}.projection.bias"])
            x.append(projected + state[f"{name}.position"])
            kept.append(bool(keep[layer][row, i]) if layer in keep else True)
    count = len(x)
    x += list(state["queries"])
    kept += [True] * len(state["queries"])
    for block in range(depth):
        x = _block(x, state, f"encoder.layers.{block}", heads, kept)
    normed = [layer_norm(token, state["norm.weight"], state["norm.bias"], 1e-12) for token in x[count:]]
    return torch.stack([linear(token, state["output.weight"], state["output.bias"]) for token in normed])


def _block(x: list[Tensor], state, name: str, heads: int, kept: list[bool]) -> list[Tensor]:
    def norm(token: Tensor, which: str) -> Tensor:
        return layer_norm(token, state[f"{name}.{which}.weight"], state[f"{name}.{which}.bias"], 1e-12)

    def part(token: Tensor, which: str) -> Tensor:
        return linear(token, state[f"{name}.{which}.weight"], state[f"{name}.{which}.bias"])

    heard = attention([norm(token, "norm1") for token in x], state, f"{name}.self_attn", heads, kept)
    x = [token + h for token, h in zip(x, heard, strict=True)]
    return [token + part(gelu(part(norm(token, "norm2"), "linear1")), "linear2") for token in x]


def batch_norm(x: list[Tensor], state: dict[str, Tensor], name: str, training: bool) -> list[Tensor]:
    """Batch normalisation of a list of vectors, with running statistics or with the list's own."""
    mean, variance = state[f"{name}.running_mean"], state[f"{name}.running_var"]
    if training:
        mean = sum(x) / len(x)
        variance = sum((vector - mean) ** 2 for vector in x) / len(x)
    scale, shift = state[f"{name}.weight"], state[f"{name}.bias"]
    return [(vector - mean) / torch.sqrt(variance + 1e-5) * scale + shift for vector in x]


def texplain_prefix(
    state: dict[str, Tensor],
    x: Tensor,
    *,
    per_token: bool,
    prefix_length: int,
    activation: str,
    training: bool = False,
) -> Tensor:
    """TExplain's perceptron on tokens (R, S, D): linear, norm, linear, norm, linear."""
    state = {name: value.double() for name, value in state.items()}
    rows, tokens, _ = x.shape
    if per_token:
        vectors = [x[r, t].double() for r in range(rows) for t in range(tokens)]
    else:
        vectors = [torch.cat(list(row)).double() for row in x]
    activate = {"none": lambda v: v, "relu": lambda v: v.clamp(min=0), "gelu": gelu}[activation]
    indices = (0, 1, 2, 3, 4) if activation == "none" else (0, 1, 3, 4, 6)
    for first in (0, 2):
        weights, norm = f"mlp.{indices[first]}", f"mlp.{indices[first + 1]}"
        vectors = [linear(v, state[f"{weights}.weight"], state[f"{weights}.bias"]) for v in vectors]
        vectors = [activate(v) for v in batch_norm(vectors, state, norm, training)]
    last = f"mlp.{indices[4]}"
    out = torch.stack([linear(v, state[f"{last}.weight"], state[f"{last}.bias"]) for v in vectors])
    return out.reshape(rows, prefix_length, -1)


def next_token_log_probs(lm, prefix: Tensor, ids: list[int]) -> Tensor:
    """log p(. | BOS, prefix, ids) for one row, from the whole model read from the start, in float64."""
    table = lm.model.get_input_embeddings().weight
    start = [] if lm.bos_id is None else [table[lm.bos_id]]
    embeds = torch.stack([*start, *prefix, *(table[i] for i in ids)]).unsqueeze(0)
    with torch.no_grad():
        logits = lm.model(inputs_embeds=embeds.to(table.dtype), use_cache=False).logits[0, -1].double()
    return logits - torch.log(logits.exp().sum())


def text_log_prob(lm, prefix: Tensor, text: str, prompt: str = "") -> float:
    """log p(text | BOS, prefix, prompt): one model call a token, no cache, no packing."""
    ids, total = (lm.tokenize([prompt])[0] if prompt else []), 0.0
    for token in lm.tokenize([text])[0]:
        total += next_token_log_probs(lm, prefix, ids)[token].item()
        ids = [*ids, token]
    return total


def greedy_text(lm, prefix: Tensor, prompt: str, max_new_tokens: int) -> tuple[list[int], float]:
    """The most probable token, again and again: the ids before the end token, and their log-probability."""
    context, total, written = (lm.tokenize([prompt])[0] if prompt else []), 0.0, []
    for _ in range(max_new_tokens):
        log_probs = next_token_log_probs(lm, prefix, [*context, *written])
        token = int(log_probs.argmax())
        if token in lm.eos_ids:
            break
        written.append(token)
        total += log_probs[token].item()
    return written, total
