"""Inference-time prefix tuning: each iteration generates a sentence and takes one step of Adam."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from torchnle.language.model import LanguageModel
from torchnle.methods.zero_shot.prefix_tuning.edits import edited, plain_tokens
from torchnle.methods.zero_shot.prefix_tuning.prefixes import Prefixes
from torchnle.methods.zero_shot.sentences.beams import Beam
from torchnle.methods.zero_shot.sentences.candidates import Fit
from torchnle.methods.zero_shot.sentences.log_probs import NEUTRAL_PROMPT, sequence_log_probs

#: One of these is what the language model reads before each sentence (appendix I).
PROMPTS = tuple(
    f"{medium} {verb}" for verb in ("of", "shows", "showing") for medium in ("Image", "Picture", "Photo")
)


@dataclass(frozen=True)
class Tuning:
    """The settings of inference-time prefix tuning; the defaults are the paper's.

    Args:
        iterations: The number of sentences, with a step of Adam after each.
        prefixes: Key-value prefixes in each attention block.
        candidates: The number of most probable tokens that are encoded in their sentence at each step.
        most_tokens: The longest sentence.
        fluency: The weight of the cross entropy with the language model that has no prefix.
        temperature: The temperature of the target over the candidates; ZeroCap's, since the paper gives none.
        learning_rate: Adam's, with a cosine schedule.
        weight_decay: Adam's.
        seed: The seed of prefixes and prompts.
    """

    iterations: int = 20
    prefixes: int = 5
    candidates: int = 512
    most_tokens: int = 20
    fluency: float = 0.8
    temperature: float = 0.01
    learning_rate: float = 0.01
    weight_decay: float = 0.3
    seed: int = 0

    def __post_init__(self) -> None:
        numbers = (self.iterations, self.prefixes, self.candidates, self.most_tokens)
        if min(numbers) < 1 or not self.temperature > 0:
            raise ValueError(
                f"iterations, prefixes, candidates and most_tokens are {numbers}, temperature is "
                f"{self.temperature}; pass positive numbers."
            )


@dataclass(frozen=True)
class Generated:
    """A generated sentence with the terms of its loss.

    Args:
        ids: Its tokens.
        text: Its words.
        tokens: The candidates at each step, (L, K).
        targets: The softmax of their scores at each step, (L, K).
    """

    ids: tuple[int, ...]
    text: str
    tokens: Int[Tensor, "L K"]
    targets: Float[Tensor, "L K"]


def tune(
    lm: LanguageModel,
    fit: Fit,
    tuning: Tuning,
    *,
    judge: Fit | None = None,
    unwanted: Sequence[int] = (),
    prompt: str = NEUTRAL_PROMPT,
    report: Callable[[int, str, float], None] | None = None,
) -> Beam:
    """Tune prefixes until the language model describes some evidence, and return the best sentence.

    Args:
        lm: The language model, which stays as it is.
        fit: Scores sentences on the evidence; its scores give the targets.
        tuning: The settings.
        judge: Scores the sentences of all iterations to choose the best; preferably independent of `fit`,
            such as the map of another backbone or encoder. None = `fit`.
        unwanted: Tokens to exclude.
        prompt: The text before the sentence where its fluency is measured.
        report: Called with the number, text and loss of each iteration.
    """
    prefixes = Prefixes(lm, tuning.prefixes, seed=tuning.seed).to(lm.device)
    optimizer = torch.optim.Adam(
        prefixes.parameters(), lr=tuning.learning_rate, weight_decay=tuning.weight_decay
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, tuning.iterations)
    draw, fit = torch.Generator().manual_seed(tuning.seed), remembering(fit)
    allowed, found = plain_tokens(lm, unwanted), list[Generated]()
    for number in range(tuning.iterations):
        prompt = PROMPTS[int(torch.randint(len(PROMPTS), (1,), generator=draw))]
        found.append(generate(lm, prefixes, prompt, fit, tuning, allowed))
        with torch.enable_grad():
            cost = loss(lm, prefixes, prompt, found[-1], tuning)
            optimizer.zero_grad()
            cost.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        if report is not None:
            report(number, found[-1].text, float(cost.detach()))
    scores = (judge or fit)([each.text for each in found])
    best = found[int(scores.argmax())]
    own = float(fit([best.text])[0])
    return Beam(best.ids, best.text, _log_prob(lm, best, prompt), own)


def remembering(fit: Fit) -> Fit:
    """Wrap a scoring function so that each text is scored once (cache)."""
    known: dict[str, Tensor] = {}

    def scores(texts: Sequence[str]) -> Tensor:
        new = [text for text in dict.fromkeys(texts) if text not in known]
        if new:
            known.update(zip(new, fit(new), strict=True))
        return torch.stack([known[text] for text in texts])

    return scores


@torch.no_grad()
def generate(
    lm: LanguageModel,
    prefixes: Prefixes,
    prompt: str,
    fit: Fit,
    tuning: Tuning,
    allowed: Bool[Tensor, "V"],
) -> Generated:
    """Generate a sentence greedily after the prefixes, and score the candidates of every step."""
    stop, cache = lm.tokenize(["."])[0][-1], prefixes.cache()
    read = lm.context(lm.embed(torch.zeros(1, 0, dtype=torch.long, device=lm.device)), prompt)
    ids, tokens, targets = list[int](), list[Tensor](), list[Tensor]()
    while len(ids) < tuning.most_tokens and ids[-1:] != [stop]:
        hidden = lm.hidden(read, cache=cache)[0, -1:]
        logits = edited(F.linear(hidden, *lm.head)[0].float(), ids, allowed, stop, tuning.most_tokens)
        likely = logits.topk(min(tuning.candidates, int(logits.isfinite().sum()))).indices
        scores = fit([lm.detokenize([*ids, token]).strip() or "." for token in likely.tolist()])
        tokens.append(likely)
        targets.append((scores / tuning.temperature).softmax(dim=0))
        ids.append(int(logits.argmax()))
        read = lm.embed(torch.tensor([[ids[-1]]], device=lm.device))
    text = lm.detokenize(ids).strip().removesuffix(".").strip() or "."
    width = min(len(each) for each in tokens)
    cut = [(t[:width], s[:width] / s[:width].sum()) for t, s in zip(tokens, targets, strict=True)]
    return Generated(tuple(ids), text, torch.stack([t for t, _ in cut]), torch.stack([s for _, s in cut]))


def loss(
    lm: LanguageModel, prefixes: Prefixes, prompt: str, sentence: Generated, tuning: Tuning
) -> Float[Tensor, ""]:
    """Compute the cross entropy with the targets, plus that with the language model without prefixes.

    Summed over the tokens of the sentence; of the prefixes' distribution the logarithm is taken in both.
    """
    context = lm.context(lm.embed(torch.zeros(1, 0, dtype=torch.long, device=lm.device)), prompt)
    words = lm.embed(torch.tensor([sentence.ids[:-1]], dtype=torch.long, device=lm.device))
    read = torch.cat([context, words.to(context)], dim=1)
    steps = slice(context.shape[1] - 1, None)
    with torch.no_grad():
        alone = F.linear(lm.hidden(read)[0, steps], *lm.head).float().softmax(dim=1)
    hidden = lm.hidden(read, cache=prefixes.cache())[0, steps]
    log_probs = F.linear(hidden, *lm.head).float().log_softmax(dim=1)
    towards = -(sentence.targets * log_probs.gather(1, sentence.tokens)).sum()
    return towards - tuning.fluency * (alone * log_probs).sum()


@torch.no_grad()
def _log_prob(lm: LanguageModel, sentence: Generated, prompt: str) -> float:
    """The log-probability of a sentence under the language model alone."""
    return float(sequence_log_probs(lm, [sentence.ids], prompt)[0].sum())
