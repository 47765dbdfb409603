"""Log-probabilities of given texts after given prefixes, each prefix read once for all texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from torchnle import ops
from torchnle.language.model import LanguageModel
from torchnle.language.packed.batching import batches
from torchnle.language.packed.tree import read_at_once, read_on, read_plainly
from torchnle.language.packed.trie import Trie, group
from torchnle.language.texts import shorten

if TYPE_CHECKING:
    pass

#: The most tokens of texts in the model at a time, for each row.
_MAX_NODES = 64


def log_prob(
    lm: LanguageModel,
    prefixes: Float[Tensor, "R P E"],
    texts: Sequence[str],
    *,
    prompt: str = "",
    internal_batch_size: int | None = None,
) -> Float[Tensor, "R T"]:
    """Score every text on every row: ``log p(text | prefix, prompt)``, summed over the text's tokens.

    DeViL, equation 4, without its normalisation. Each prefix is read once; the texts follow it packed as a
    tree of tokens, in which each token attends to the prefix and its own ancestors only, so that common first
    tokens are read once and a text of one token needs no reading. The head is computed only where a token is
    predicted, and its logits are never all in memory. The end of the text is not scored.

    Args:
        lm: The language model.
        prefixes: One soft prompt per row, (R, P, E), on the model's device; gradients flow to them.
        texts: The texts, at least one, none blank; duplicates are allowed.
        prompt: Words between the prefix and the texts, the same for all rows.
        internal_batch_size: The largest number of rows in the model at a time; None = what suits the device.

    Returns:
        Log-probabilities in nats, (R, T), float32 (float64 for a float64 model).

    Raises:
        TypeError: If `texts` is one string, or holds something else than strings.
        ValueError: If a text is blank or too long for the model, or the prefixes do not fit the model.

    Example:
        >>> from tokenizers import Tokenizer, models
        >>> from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast
        >>> words = Tokenizer(models.WordLevel({"cat": 0, "dog": 1, "<s>": 2}, unk_token="<s>"))
        >>> tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, bos_token="<s>")
        >>> config = GPT2Config(vocab_size=3, n_positions=16, n_embd=8, n_layer=1, n_head=2)
        >>> lm = LanguageModel(GPT2LMHeadModel(config), tokenizer)
        >>> scores = log_prob(lm, torch.zeros(1, 2, 8), ["cat", "dog", "<s>"])
        >>> round(scores.exp().sum().item(), 4)
        1.0
    """
    ids = lm.tokenize(texts, prompt)
    groups = group(ids, _MAX_NODES)
    tries = [Trie.build([ids[index] for index in indices]) for indices in groups]
    back = torch.tensor([index for indices in groups for index in indices], device=lm.device).argsort()
    longest = max(range(len(ids)), key=lambda index: len(ids[index]))
    scores = [prefixes.new_zeros(0, len(ids), dtype=torch.float32)]
    for batch in batches(prefixes, internal_batch_size):
        context = lm.context(batch, prompt)
        needed = context.shape[1] + len(ids[longest]) - 1
        lm.require_positions(needed, f"the text {shorten(texts[longest])!r}")
        scores.append(_score(lm, context, tries)[:, back])
    return torch.cat(scores)


@torch.no_grad()
def prior(lm: LanguageModel, texts: Sequence[str], *, prompt: str = "") -> Float[Tensor, "T"]:
    """Score every text under the language model alone: ``log p(text | prompt)``, with no prefix.

    `log_prob` minus this is the pointwise mutual information of text and prefix. A model without BOS starts
    from its end-of-text token, after which such models were trained to begin a new text.

    Args:
        lm: The language model.
        texts: The texts.
        prompt: Words before the texts.

    Returns:
        Log-probabilities in nats, (T,), float32.

    Raises:
        TypeError: If `texts` is one string, or holds something else than strings.
        ValueError: If a text is blank or too long, or the model has neither BOS nor end-of-text token.
    """
    start = [lm.eos_id] if lm.bos_id is None and lm.eos_id is not None else []
    prefix = lm.embed(torch.tensor([start], dtype=torch.long, device=lm.device))
    return log_prob(lm, prefix, texts, prompt=prompt)[0]


def _score(lm: LanguageModel, context: Float[Tensor, "R C E"], tries: list[Trie]) -> Float[Tensor, "R T"]:
    if lm.plain:
        read = [(trie, read_plainly(lm, trie, context)) for trie in tries]
        return torch.cat([_score_tree(lm, trie, hidden, _lse(lm, hidden)) for trie, hidden in read], dim=1)
    if len(tries) == 1:
        cache, rest = lm.begin_once(context)
        hidden = read_at_once(lm, tries[0], rest, context.shape[1], cache)
        return _score_tree(lm, tries[0], hidden, _lse(lm, hidden))
    cache, rest = lm.begin(context)
    root = lm.hidden(rest, cache=cache)[:, -1:]
    root_lse, scores = _lse(lm, root), []
    for trie in tries:
        hidden, lse = root, root_lse
        if trie.tokens:
            nodes = read_on(lm, trie, len(context), cache)
            hidden, lse = torch.cat([root, nodes], dim=1), torch.cat([root_lse, _lse(lm, nodes)], dim=1)
        scores.append(_score_tree(lm, trie, hidden, lse))
    return torch.cat(scores, dim=1)


def _score_tree(
    lm: LanguageModel, trie: Trie, hidden: Float[Tensor, "R n W"], lse: Float[Tensor, "R n"]
) -> Float[Tensor, "R T"]:
    """Score the texts of a tree from the hidden states of its root and nodes."""
    return _sum_paths(trie, _edge_log_probs(lm, trie, hidden, lse))


def _lse(lm: LanguageModel, hidden: Float[Tensor, "R n W"]) -> Float[Tensor, "R n"]:
    weight, bias = lm.head
    flat = hidden.reshape(-1, hidden.shape[2])
    if flat.requires_grad:
        lse, _ = ops.linear_lse_mu(flat, weight, bias)
    else:
        lse, _, _ = ops.linear_lse(flat, weight, bias)
    return lse.view(hidden.shape[:2])


def _edge_log_probs(
    lm: LanguageModel, trie: Trie, hidden: Float[Tensor, "R n W"], lse: Float[Tensor, "R n"]
) -> Float[Tensor, "R edges"]:
    """The log-probability of each edge's token after its node, in the type of `lse`."""
    weight, bias = lm.head
    log_probs = []
    for node, tokens in enumerate(trie.children):
        chosen = torch.tensor(tokens, device=hidden.device)
        logits = hidden[:, node].to(lse.dtype) @ weight[chosen].to(lse.dtype).T
        logits = logits if bias is None else logits + bias[chosen].to(lse.dtype)
        log_probs.append(logits - lse[:, node, None])
    return torch.cat(log_probs, dim=1)


def _sum_paths(trie: Trie, edges: Float[Tensor, "R edges"]) -> Float[Tensor, "R T"]:
    longest = max(len(path) for path in trie.paths)
    nothing = edges.shape[1]  # the number of a column of zeros, for texts that have ended
    padded = [path + [nothing] * (longest - len(path)) for path in trie.paths]
    steps = torch.tensor(padded, device=edges.device).T
    columns = F.pad(edges, (0, 1))
    total = torch.zeros_like(columns[:, steps[0]])
    for step in steps:
        total = total + columns[:, step]
    return total
