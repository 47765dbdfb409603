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


HOSTILE = (
    "a | b\n\n# Title\n---\n<script>run()</script> [x](javascript:y) ![z](http://t) `c` $d$ *e* &lt; \x1b[2J"
)


@pytest.mark.parametrize("where", ["title", "key", "value", "config", "list", "dict"])
def test_texts_of_others_are_shown_and_do_nothing(where):
    translator = Doubler(note=HOSTILE if where == "config" else None)
    translator.card = {
        "title": {"title": HOSTILE},
        "key": {HOSTILE: "a fact"},
        "value": {"fact": HOSTILE},
        "config": {},
        "list": {"fact": [HOSTILE]},
        "dict": {"fact": {HOSTILE: 1}},
    }[where]
    _, body = front_matter(translator)
    (line,) = [line for line in body.splitlines() if "Title" in line]
    for unsafe in ("<", "](", "\x1b", " $d", "\n", " `c", " *e"):
        assert unsafe not in line
    assert "&lt;script&gt;" in line
    assert "&amp;lt;" in line
    assert line.replace("\\|", "").count("|") == (0 if where == "title" else 3)
    assert "---" not in body.splitlines()
    assert sum(line.startswith("# ") for line in body.splitlines()) == 1


def test_front_matter_takes_any_text():
    translator = Doubler()
    translator.card = {"license": "mit\n---\nevil: true", "tags": [HOSTILE]}
    found, _ = front_matter(translator)
    assert found["license"] == "mit --- evil: true"
    assert found["tags"][-1] == " ".join(HOSTILE.replace("\x1b", "\\x1b").split())
    assert "evil" not in found


def test_a_reference_that_would_leave_its_code_span():
    lm = tiny_language_model(reference="org/lm`<b>`\n# Title")
    _, body = front_matter(tiny_translator(lm))
    assert "`org/lm'<b>' # Title`" in body


def test_a_backbone_that_would_leave_the_code():
    hostile = "timm/resnet50\n```\n# Title\n\x1b[2J"
    _, body = front_matter(tiny_translator(tiny_language_model(reference="org/lm"), backbone=hostile))
    assert body.splitlines().count("```") == 1
    assert "# Title" not in body.splitlines()
    assert "\x1b" not in body
    assert "model = ...  # timm/resnet50 ``` # Title \\x1b[2J, unmodified" in body.splitlines()


@pytest.mark.parametrize("value", [3, None, ["mit", "bsd"]])
def test_a_licence_that_is_no_text_is_kept(value):
    translator = Doubler()
    translator.card = {"license": value}
    assert front_matter(translator)[0].get("license") == value
