import pytest
import yaml
from tiny_translators import Doubler, tiny_language_model, tiny_translator

from torchnle.translators.model_card import model_card


def front_matter(translator):
    _, text, body = model_card(translator).split("---\n", 2)
    return yaml.safe_load(text), body


def test_front_matter_without_facts():
    found, _ = front_matter(Doubler())
    assert found == {
        "library_name": "torchnle",
        "license": "unknown",
        "tags": ["torchnle", "interpretability", "explainability", "computer-vision"],
    }


def test_front_matter_from_facts():
    translator = Doubler()
    translator.card = {
        "license": "mit",
        "tags": ["torchnle", "birds"],
        "datasets": ["org/captions"],
        "language": "en",
    }
    found, body = front_matter(translator)
    assert found["license"] == "mit"
    assert found["tags"][0] == "torchnle"
    assert found["tags"][4:] == ["birds"]
    assert (found["datasets"], found["language"]) == (["org/captions"], "en")
    assert "Facts" not in body


@pytest.mark.parametrize(
    ("reference", "repositories"),
    [("org/lm@main", ["org/lm", "timm/resnet50"]), ("pypi:llm==1.0", ["timm/resnet50"])],
)
def test_base_models_on_the_hub_are_named(reference, repositories):
    lm = tiny_language_model(reference=reference)
    found, body = front_matter(tiny_translator(lm, backbone="timm/resnet50"))
    assert found["base_model"] == repositories
    assert f"`{reference}`, `timm/resnet50`" in body


def test_the_body_shows_configuration_and_facts():
    translator = tiny_translator(tiny_language_model(reference="org/lm"), prompt="a | b\nc")
    translator.card = {"title": "DeViL for birds", "training data": "12 birds", "CIDEr": 0.5}
    _, body = front_matter(translator)
    assert body.startswith("\n# DeViL for birds\n")
    assert "| prompt | a \\| b c |" in body
    assert '"layers": {"layer3": 6, "layer4": 8}' in body
    assert "## Facts\n\n| | |\n|---|---|\n| training data | 12 birds |\n| CIDEr | 0.5 |\n" in body
    assert "`PrefixTranslator`" in body
    assert "log-probabilities in nats" in body


def test_long_values_are_cut():
    _, body = front_matter(Doubler(note=[f"class {i}" for i in range(1000)]))
    (row,) = [line for line in body.splitlines() if line.startswith("| note |")]
    assert len(row) < 230
    assert row.endswith("… |")


@pytest.mark.parametrize("tags", [3, "birds", [1], None])
def test_tags_that_are_no_list_of_strings(tags):
    translator = Doubler()
    translator.card = {"tags": tags}
    with pytest.raises(ValueError, match=r"'tags' is .* a list of strings"):
        model_card(translator)
