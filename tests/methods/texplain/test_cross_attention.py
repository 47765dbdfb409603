"""A BERT decoder that attends to features: its numbers against transformers' own, both ways of drawing."""

import pytest
import torch
from tiny_bert import CAPTIONS, WIDTH, codes, config, tiny_decoder, tokenizer, trained_decoder
from transformers import BertLMHeadModel

from torchnle.errors import TranslatorMismatchError
from torchnle.methods.texplain import CrossAttentionDecoder, CrossAttentionTranslator, TExplainNetwork
from torchnle.methods.texplain.words.sentences import Sampling, sentences_of, sentences_without_image
from torchnle.translators.base import Translator
from torchnle.translators.rows import Rows


def states(rows=3, seed=0):
    return torch.randn(rows, 4, WIDTH, generator=torch.Generator().manual_seed(seed))


def slow_log_prob(decoder, row, ids):
    """Token by token, with the model's own logits."""
    total = 0.0
    for step, token in enumerate(ids):
        read = torch.tensor([[decoder.start_id, *ids[:step]]])
        attended = {} if row is None else {"encoder_hidden_states": row[None]}
        logits = decoder.model(input_ids=read, **attended).logits[0, -1].double()
        total += logits.log_softmax(-1)[token].item()
    return total


def translator(decoder=None, **options):
    torch.manual_seed(0)
    decoder = decoder or tiny_decoder()
    network = TExplainNetwork({"norm": 8}, decoder.width, tokens=5, **options)
    return CrossAttentionTranslator(network, decoder, max_new_tokens=6).eval()


def rows(count=2, seed=1):
    return Rows({"norm": 2 * torch.randn(count, 5, 8, generator=torch.Generator().manual_seed(seed))})


def test_log_probs_of_ragged_rows_are_those_of_the_model_one_token_after_the_other():
    decoder, given = tiny_decoder(), states()
    ids = [[3, 1], [4, 5, 6, 1], [9]]
    with torch.no_grad():
        expected = [slow_log_prob(decoder, row, text) for row, text in zip(given, ids, strict=True)]
        alone = [slow_log_prob(decoder, None, text) for text in ids]
        assert decoder.log_probs(given, ids).tolist() == pytest.approx(expected, abs=1e-4)
        assert decoder.log_probs(None, ids).tolist() == pytest.approx(alone, abs=1e-4)


def test_greedy_takes_the_most_probable_token_and_states_its_probability():
    decoder, given = tiny_decoder(), states()
    found = decoder.greedy(given, max_new_tokens=5)
    for row, ids, score in zip(given, found.ids, found.log_probs.tolist(), strict=True):
        assert score == pytest.approx(slow_log_prob(decoder, row, ids), abs=1e-4)
        read = [decoder.start_id]
        for token in ids:
            logits = decoder.model(input_ids=torch.tensor([read]), encoder_hidden_states=row[None]).logits
            assert logits[0, -1].argmax().item() == token
            read.append(token)


def test_draws_do_not_depend_on_the_batch_and_follow_the_model():
    decoder, given = tiny_decoder(), states(2)

    def draw(size):
        generator = torch.Generator().manual_seed(3)
        return decoder.sample(
            given, 400, top_p=1.0, max_new_tokens=1, generator=generator, internal_batch_size=size
        )

    found = draw(None)
    assert found.texts == draw(7).texts
    for row in range(2):
        logits = decoder.model(
            input_ids=torch.tensor([[decoder.start_id]]), encoder_hidden_states=given[row : row + 1]
        ).logits
        expected = logits[0, -1].softmax(-1)
        drawn = [ids[0] if ids else decoder.end_id for ids in found.ids[400 * row : 400 * (row + 1)]]
        counts = torch.bincount(torch.tensor(drawn), minlength=10) / 400
        assert (counts - expected).abs().max() < 0.09


def test_draws_without_replacement_are_distinct_and_estimate_the_same_frequencies():
    decoder, given = tiny_decoder(), states(1)
    options = {"max_new_tokens": 3, "top_p": 0.9}
    many = decoder.sample(given, 4000, generator=torch.Generator().manual_seed(0), **options)
    shares = torch.zeros(10)
    for ids in many.ids:
        shares[list(set(ids))] += 1 / 4000
    estimates = torch.zeros(40, 10)
    for seed in range(40):
        found = decoder.sample_distinct(given, 20, generator=torch.Generator().manual_seed(seed), **options)
        assert len({tuple(ids) for ids in found.ids}) == len(found.ids)
        for ids, weight in zip(found.ids, found.weights.tolist(), strict=True):
            estimates[seed, list(set(ids))] += weight
    error = estimates.std(dim=0) / 40**0.5 + 0.01
    assert ((estimates.mean(dim=0) - shares).abs() < 4 * error).all()


def test_describing_scoring_and_saving(tmp_path):
    decoder = tiny_decoder()
    decoder.model.save_pretrained(tmp_path / "bert")
    decoder.tokenizer.save_pretrained(tmp_path / "bert")
    loaded = CrossAttentionDecoder.from_pretrained(str(tmp_path / "bert"), dtype=torch.float32)
    made = translator(loaded)
    given = rows()
    told = made.describe([given])
    assert all(0 <= each.probability <= 1 and each.unsure == (each.probability < 0.5) for each in told)
    scores = made.score([given], ["a cat", "the red dog"])
    vectors = made.vectors([given])
    expected = [slow_log_prob(loaded, row, loaded.tokenize(["the red dog"])[0]) for row in vectors]
    assert scores[:, 1].tolist() == pytest.approx(expected, abs=1e-4)
    prior = [slow_log_prob(loaded, None, ids) for ids in loaded.tokenize(["a cat", "the red dog"])]
    lift = made.score([given], ["a cat", "the red dog"], prior=True)
    torch.testing.assert_close(scores - lift, torch.tensor([prior, prior]), atol=1e-4, rtol=0)
    made.save_pretrained(tmp_path / "saved")
    again = Translator.from_pretrained(tmp_path / "saved")
    torch.testing.assert_close(again.vectors([given]), vectors)
    auto = again.score([given], ["grass"])  # the decoder comes back in the machine's dtype
    torch.testing.assert_close(auto, made.score([given], ["grass"]), atol=0.1, rtol=0)
    with pytest.raises(ValueError, match="no reference"):
        _ = translator().config


def test_words_are_drawn_from_it_in_both_ways_and_without_an_image():
    made = translator(trained_decoder())
    for replacement in (True, False):
        how = Sampling(30, replacement, seed=2)
        both = sentences_of(made, rows(), how)
        assert len(both) == 2
        assert sentences_of(made, rows(), how)[1].texts == both[1].texts
        alone = sentences_without_image(made, how)
        assert alone.weights.sum() > 0.5
    assert set(CAPTIONS) & set(both[0].texts) or both[0].texts


def test_scores_have_gradients_to_the_features():
    made, given = translator(), rows()
    tokens = given.tokens["norm"].requires_grad_()
    made.score([Rows({"norm": tokens})], ["a cat"]).sum().backward()
    assert tokens.grad.abs().sum() > 0


def test_a_trained_decoder_reads_its_codes():
    decoded = trained_decoder().greedy(codes(), max_new_tokens=6)
    assert tuple(decoded.texts) == CAPTIONS


def test_what_is_no_decoder_with_cross_attention_is_refused():
    with pytest.raises(ValueError, match="add_cross_attention=False"):
        CrossAttentionDecoder(BertLMHeadModel(config(add_cross_attention=False)), tokenizer())
    with pytest.raises(TypeError, match="Linear"):
        CrossAttentionDecoder(torch.nn.Linear(2, 2), tokenizer())
    plain = tokenizer()
    plain.cls_token = None
    with pytest.raises(ValueError, match="starts"):
        CrossAttentionDecoder(BertLMHeadModel(config()), plain)
    with pytest.raises(TranslatorMismatchError, match="expects width 8"):
        translator().describe([Rows({"norm": torch.zeros(1, 5, 3)})])
    with pytest.raises(ValueError, match="blank"):
        translator().score([rows()], [" "])
