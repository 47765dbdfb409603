import oracles
import pytest
import torch
import torch.nn.functional as F

from torchnle.methods.aligned.regression.class_embedding_mlp import (
    ClassEmbeddingMLP,
    _drop_inputs,
    cosine_loss,
)


def slow(mlp, text):
    """One text through the formulas, in float64 (Zero-shot NLE, sections 3.1 and I)."""
    state = {name: tensor.double() for name, tensor in mlp.state_dict().items()}

    def norm(x, name):
        return oracles.layer_norm(x, state[f"{name}.weight"], state[f"{name}.bias"], 1e-5)

    hidden = oracles.linear(text.double(), state["first.weight"], state["first.bias"])
    hidden = oracles.gelu(norm(hidden, "first_norm"))
    out = norm(oracles.linear(hidden, state["second.weight"], state["second.bias"]), "second_norm")
    if not mlp.soft_dropout:
        return out
    value, gate = out[: len(out) // 2], out[len(out) // 2 :]
    return norm(value / (1 + torch.exp(-gate)), "gate_norm")


@pytest.mark.parametrize("soft_dropout", [True, False])
def test_forward_is_the_papers_network(soft_dropout):
    torch.manual_seed(0)
    mlp = ClassEmbeddingMLP(5, 3, soft_dropout=soft_dropout).eval()
    for parameter in mlp.parameters():
        torch.nn.init.normal_(parameter)
    texts = torch.randn(4, 5)
    expected = torch.stack([slow(mlp, text) for text in texts])
    assert torch.allclose(mlp(texts).double(), expected, atol=1e-5)


@pytest.mark.parametrize(("soft_dropout", "sizes"), [(True, [8, 2048, 14]), (False, [8, 28, 7])])
def test_the_papers_sizes(soft_dropout, sizes):
    """k -> 2k -> 2D with the gate, k -> 4D -> D without (section I)."""
    text_width, width = (1024, 7) if soft_dropout else (8, 7)
    mlp = ClassEmbeddingMLP(text_width, width, soft_dropout=soft_dropout)
    assert [mlp.first.out_features, mlp.second.out_features] == sizes[1:]


def test_input_dropout_hits_three_texts_of_ten_and_half_of_each():
    torch.manual_seed(0)
    dropped = _drop_inputs(torch.ones(4000, 64))
    zeros = (dropped == 0).float().mean(dim=1)
    hit = zeros > 0
    assert hit.float().mean().item() == pytest.approx(0.3, abs=0.03)
    assert zeros[hit].mean().item() == pytest.approx(0.5, abs=0.01)
    assert set(dropped[hit].unique().tolist()) == {0.0, 2.0}
    assert (dropped[~hit] == 1).all()


def test_the_loss_is_equation_1():
    predicted, targets = torch.randn(3, 4), torch.randn(3, 4)
    expected = sum(1 - (p @ t) / (p.norm() * t.norm()) for p, t in zip(predicted, targets, strict=True))
    assert cosine_loss(predicted, targets).item() == pytest.approx(expected.item(), abs=1e-5)


def test_fit_learns_repeats_itself_and_leaves_the_random_state_alone():
    generator = torch.Generator().manual_seed(0)
    texts = F.normalize(torch.randn(20, 16, generator=generator), dim=1)
    targets = texts @ torch.randn(16, 6, generator=generator)
    state = torch.get_rng_state()
    fitted = ClassEmbeddingMLP.fit(texts, targets, epochs=150, seed=3)
    assert torch.equal(torch.get_rng_state(), state)
    untrained = ClassEmbeddingMLP.fit(texts, targets, epochs=1, seed=3)
    assert F.cosine_similarity(untrained(texts), targets).mean() < 0.5
    assert F.cosine_similarity(fitted(texts), targets).mean() > 0.85
    assert not fitted.training
    assert not any(parameter.requires_grad for parameter in fitted.parameters())
    again = ClassEmbeddingMLP.fit(texts, targets, epochs=150, seed=3)
    other = ClassEmbeddingMLP.fit(texts, targets, epochs=150, seed=4)
    assert torch.equal(again(texts), fitted(texts))
    assert not torch.equal(other(texts), fitted(texts))


def test_fit_works_inside_no_grad():
    with torch.no_grad():
        fitted = ClassEmbeddingMLP.fit(torch.eye(4), torch.eye(4), epochs=2)
    assert torch.isfinite(fitted(torch.eye(4))).all()
