import json

import pytest
import torch
import torch.nn.functional as F
from tiny import TEXTS, WIDTH, make_encoder_parts

from torchnle.language import text_encoder
from torchnle.language.text_encoder import TextEncoder


@torch.no_grad()
def slow_vector(encoder, text):
    """One text at a time, without padding, one vector component sum after another."""
    ids = torch.tensor([encoder.tokenizer(text)["input_ids"]])
    states = encoder.model(ids).last_hidden_state[0]
    pooled = states[0] if encoder.pooling == "cls" else sum(states) / len(states)
    return pooled / pooled.square().sum().sqrt()


@pytest.fixture
def encoder():
    return TextEncoder(*make_encoder_parts())


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_equals_the_slow_oracle(pooling, batch_size):
    encoder = TextEncoder(*make_encoder_parts(), pooling=pooling)
    expected = torch.stack([slow_vector(encoder, text) for text in TEXTS])
    vectors = encoder.encode(TEXTS, batch_size=batch_size)
    torch.testing.assert_close(vectors, expected, atol=1e-5, rtol=0)
    assert vectors.dtype == torch.float32
    assert not vectors.requires_grad


def test_vectors_are_of_length_one_differ_and_permute(encoder):
    vectors = encoder.encode(TEXTS)
    assert vectors.shape == (len(TEXTS), encoder.width) == (len(TEXTS), WIDTH)
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(len(TEXTS)))
    torch.testing.assert_close(encoder.encode(TEXTS[::-1]), vectors.flip(0), atol=1e-5, rtol=0)
    torch.testing.assert_close(vectors[1], vectors[5])  # the same text twice
    assert (vectors[0] - vectors[1]).norm() > 0.05


def test_is_frozen(encoder):
    assert not encoder.model.training
    assert not any(parameter.requires_grad for parameter in encoder.model.parameters())


def test_says_so_when_it_leaves_words_out(encoder):
    long = "a red cat sits on the grass and a dog runs under the sky"
    with pytest.warns(UserWarning, match=r"1 text\(s\) have more than the 12 tokens .*'a red cat sits"):
        vectors = encoder.encode(["cat", long])
    torch.testing.assert_close(
        vectors[1:], encoder.encode(["a red cat sits on the grass and a dog"]), atol=1e-5, rtol=0
    )


@pytest.mark.parametrize(
    ("texts", "error", "words"),
    [
        ("a cat", TypeError, r"pass a list: \['a cat'\]"),
        ([], ValueError, "texts is empty"),
        (["a cat", "\t"], ValueError, r"texts\[1\]"),
        (["cat " * 5000], ValueError, "20000 characters"),
    ],
)
def test_refuses_bad_texts(encoder, texts, error, words):
    with pytest.raises(error, match=words):
        encoder.encode(texts)


def test_refuses_a_batch_size_of_nothing(encoder):
    with pytest.raises(ValueError, match="batch_size=0"):
        encoder.encode(["cat"], batch_size=0)


@pytest.fixture
def folder(tmp_path, encoder, monkeypatch):
    encoder.model.save_pretrained(tmp_path)
    encoder.tokenizer.save_pretrained(tmp_path)
    monkeypatch.setattr(text_encoder.hub, "resolve", lambda reference: tmp_path)
    return tmp_path


def write_pooling(folder, **pooling):
    (folder / "pool").mkdir()
    (folder / "pool" / "config.json").write_text(json.dumps({"word_embedding_dimension": 16, **pooling}))
    modules = [
        {"path": "", "type": "a.Transformer"},
        {"path": "pool", "type": "sentence_transformers.Pooling"},
    ]
    (folder / "modules.json").write_text(json.dumps(modules))


def test_loads_a_plain_folder_with_mean_pooling(folder, encoder):
    loaded = TextEncoder.from_pretrained("org/name")
    assert (loaded.pooling, loaded.reference, loaded.max_length) == ("mean", "org/name", 12)
    torch.testing.assert_close(loaded.encode(TEXTS), encoder.encode(TEXTS))


def test_reads_the_pooling_and_the_length_of_a_sentence_transformers_folder(folder):
    write_pooling(folder, pooling_mode_cls_token=True, pooling_mode_mean_tokens=False)
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 7}')
    loaded = TextEncoder.from_pretrained("org/name")
    assert (loaded.pooling, loaded.max_length) == ("cls", 7)


@pytest.mark.parametrize("modes", [["max_tokens"], ["cls_token", "mean_tokens"]])
def test_refuses_other_poolings(folder, modes):
    write_pooling(folder, **{f"pooling_mode_{mode}": True for mode in modes})
    with pytest.raises(ValueError, match="is not supported; use a model with mean or CLS pooling"):
        TextEncoder.from_pretrained("org/name")


def test_device_moves():
    encoder = TextEncoder(*make_encoder_parts())
    assert encoder.to("meta") is encoder
    assert encoder.device.type == "meta"


@pytest.mark.real
def test_the_embedded_default_knows_a_kitten_from_a_rocket():
    encoder = TextEncoder.from_pretrained()
    cat, kitten, rocket = encoder.encode(["a cat", "a kitten", "a rocket"])
    assert cat @ kitten > 0.7
    assert cat @ rocket < 0.4
    assert F.cosine_similarity(*encoder.encode(["A cat", "a CAT"]), dim=0) > 0.999  # an uncased model


@pytest.mark.parametrize(
    ("named", "pooling"),
    [("mean", "mean"), ("cls", "cls"), (["mean"], "mean"), (["cls"], "cls")],
)
def test_reads_poolings_by_their_later_names(folder, named, pooling):
    write_pooling(folder, pooling_mode=named)
    assert TextEncoder.from_pretrained("org/name").pooling == pooling


@pytest.mark.parametrize("named", ["max", "weightedmean", "lasttoken", ["mean", "cls"]])
def test_refuses_other_poolings_by_their_later_names(folder, named):
    write_pooling(folder, pooling_mode=named)
    with pytest.raises(ValueError, match="is not supported"):
        TextEncoder.from_pretrained("org/name")


@pytest.mark.parametrize(
    "kind", ["models.Dense", "sentence_transformers.models.LayerNorm", "WeightedLayerPooling"]
)
def test_refuses_modules_that_it_does_not_compute(folder, kind):
    write_pooling(folder, pooling_mode_mean_tokens=True)
    modules = json.loads((folder / "modules.json").read_text())
    (folder / "modules.json").write_text(json.dumps([*modules, {"path": "2_More", "type": f"a.{kind}"}]))
    with pytest.raises(ValueError, match=f"has {kind.rpartition('.')[2]}, which torchnle does not compute"):
        TextEncoder.from_pretrained("org/name")


def test_puts_the_default_prompt_before_every_text(folder, encoder):
    stated = {"prompts": {"query": "the red ", "other": "a "}, "default_prompt_name": "query"}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(stated))
    loaded = TextEncoder.from_pretrained("org/name")
    torch.testing.assert_close(loaded.encode(["cat", "dog"]), encoder.encode(["the red cat", "the red dog"]))
    stated["default_prompt_name"] = "none of these"
    (folder / "config_sentence_transformers.json").write_text(json.dumps(stated))
    with pytest.raises(ValueError, match="is none of its prompts, query, other"):
        TextEncoder.from_pretrained("org/name")


def test_cuts_at_the_models_positions_where_no_length_is_stated(folder, encoder):
    tokenizer = json.loads((folder / "tokenizer_config.json").read_text())
    tokenizer["model_max_length"] = 10**30  # as transformers writes "no limit"
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    loaded = TextEncoder.from_pretrained("org/name")
    assert loaded.max_length == 12
    with pytest.warns(UserWarning, match="more than the 12 tokens"):
        long = loaded.encode([" ".join(["cat"] * 900)])
    torch.testing.assert_close(long, encoder.encode([" ".join(["cat"] * 10)]))


def test_unknown_words_are_noticed_where_only_the_backend_knows_their_token(encoder):
    """A fast tokenizer that was made of another and told of no unk_token of its own."""
    assert encoder.tokenizer.unk_token_id is None
    assert encoder.tokenizer.backend_tokenizer.model.unk_token == "<unk>"
    with pytest.warns(UserWarning, match="does not know"):
        encoder.encode(["a zebra"])
