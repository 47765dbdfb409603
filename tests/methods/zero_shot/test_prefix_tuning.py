import pytest
import torch
import torch.nn.functional as F
from tiny import make_lm, tiny_lm
from zero_shot_world import classifier, pictures

from torchnle.methods.zero_shot.prefix_tuning.edits import edited, plain_tokens
from torchnle.methods.zero_shot.prefix_tuning.prefixes import Prefixes
from torchnle.methods.zero_shot.prefix_tuning.tuning import (
    PROMPTS,
    Tuning,
    generate,
    loss,
    remembering,
    tune,
)

SHORT = Tuning(iterations=4, candidates=8, most_tokens=6, learning_rate=0.05)


def letters(texts):
    """Fits texts by how many of their letters are in "cat sky"."""
    return torch.tensor([sum(c in "catsky" for c in t) / max(1, len(t)) for t in texts])


@pytest.mark.parametrize("family", ["gpt2", "llama", "qwen2"])
def test_the_loss_is_its_definition_token_by_token(family):
    lm = make_lm(family)
    prefixes = Prefixes(lm, 3, seed=1)
    sentence = generate(lm, prefixes, "a red", letters, SHORT, plain_tokens(lm))
    expected = 0.0
    for step in range(len(sentence.ids)):
        read = torch.cat(
            [
                lm.context(torch.zeros(1, 0, lm.width), "a red"),
                lm.embed(torch.tensor([sentence.ids[:step]], dtype=torch.long)),
            ],
            dim=1,
        )
        with torch.no_grad():
            tuned = F.linear(lm.hidden(read, cache=prefixes.cache())[0, -1], *lm.head).log_softmax(0)
            alone = F.linear(lm.hidden(read)[0, -1], *lm.head).softmax(0)
        for token, share in zip(sentence.tokens[step].tolist(), sentence.targets[step].tolist(), strict=True):
            expected -= share * float(tuned[token])
        expected -= SHORT.fluency * float((alone * tuned).sum())
    assert float(loss(lm, prefixes, "a red", sentence, SHORT).detach()) == pytest.approx(expected, rel=1e-4)


def test_gradients_reach_every_prefix_and_nothing_else():
    lm = tiny_lm()
    prefixes = Prefixes(lm, 5)
    sentence = generate(lm, prefixes, PROMPTS[0], letters, SHORT, plain_tokens(lm))
    loss(lm, prefixes, PROMPTS[0], sentence, SHORT).backward()
    assert all(float(each.grad.abs().sum()) > 0 for each in prefixes.parameters())
    assert all(parameter.grad is None for parameter in lm.model.parameters())
    assert [tuple(keys.shape[1:3]) for keys in prefixes.keys] == [(4, 5), (4, 5)]


def test_steps_of_adam_lower_the_loss_of_one_sentence():
    lm = tiny_lm()
    prefixes = Prefixes(lm, 5)
    sentence = generate(lm, prefixes, "a red", letters, SHORT, plain_tokens(lm))
    optimizer = torch.optim.Adam(prefixes.parameters(), lr=0.05)
    values = []
    for _ in range(15):
        cost = loss(lm, prefixes, "a red", sentence, SHORT)
        optimizer.zero_grad()
        cost.backward()
        optimizer.step()
        values.append(float(cost.detach()))
    assert values[-1] < 0.98 * values[0]


def test_the_best_sentence_of_all_iterations_is_kept_by_the_judge():
    seen = []
    best = tune(tiny_lm(), letters, SHORT, report=lambda number, text, cost: seen.append(text))
    assert len(seen) == SHORT.iterations
    assert best.text == max(seen, key=lambda text: float(letters([text])[0]))
    shortest = tune(
        tiny_lm(), letters, SHORT, judge=lambda texts: -torch.tensor([float(len(t)) for t in texts])
    )
    assert len(shortest.text) == min(len(text) for text in seen)


def test_a_text_is_scored_once():
    scored = []

    def fit(texts):
        scored.extend(texts)
        return letters(texts)

    scores = remembering(fit)
    assert scores(["cat", "dog", "cat"]).tolist() == letters(["cat", "dog", "cat"]).tolist()
    assert scores(["a cat", "dog"]).tolist() == letters(["a cat", "dog"]).tolist()
    assert scored == ["cat", "dog", "a cat"]


def test_edits_follow_the_rules():
    allowed = torch.ones(6, dtype=torch.bool)
    logits = torch.tensor([1.0, 2.0, -1.0, 0.5, 0.0, 3.0])
    repeated = edited(logits, [1, 2, 3, 1, 2], allowed, stop=5, most=20)
    assert repeated[1] == 1.0
    assert repeated[2] == -2.0
    assert repeated[3] == -torch.inf  # 1 2 3 would come twice
    assert repeated[5] == -torch.inf  # too early to stop
    late = [edited(logits, [4] * count, allowed, stop=5, most=20)[5].item() for count in (12, 16, 18)]
    assert late[0] == 3.0
    assert late[0] < late[1] < late[2]
    assert edited(logits, [], allowed & (torch.arange(6) != 1), stop=5, most=20)[1] == -torch.inf


def test_symbols_and_unwanted_tokens_are_not_spoken():
    lm = tiny_lm()
    cat = lm.tokenize(["cat"])[0][0]
    allowed = plain_tokens(lm, [cat])
    assert not allowed[cat]
    assert not allowed[lm.bos_id]
    assert allowed[lm.tokenize(["dog"])[0][0]]


def test_the_door_explains_in_the_slow_mode():
    (why,) = classifier().explain(pictures(1), language_model=tiny_lm(), search=SHORT, target="fern")
    assert str(why).startswith("prediction: fern because it shows ")
    assert 0 <= why.percentile <= 100


@pytest.mark.parametrize("wrong", [{"iterations": 0}, {"temperature": 0.0}, {"candidates": -1}])
def test_settings_are_positive(wrong):
    with pytest.raises(ValueError, match="positive"):
        Tuning(**wrong)
