import pytest
import torch
from explorer_world import HOSTILE, LAYERS, make

from torchnle.explorer.concepts import without
from torchnle.explorer.regions import Region
from torchnle.methods.aligned.probability.truth import repeats
from torchnle.methods.aligned.sentences import Sentences
from torchnle.translators.rows import Rows, rows_of
from torchnle.vision.lens.lens import Lens


@pytest.fixture(scope="module")
def explorer(tmp_path_factory):
    return make(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="module")
def key(explorer):
    return next(iter(explorer.photos.given))


def test_lower_layers_are_read_by_fitted_maps(explorer):
    pools = [explorer.lang.reading.of(layer).pool for layer in LAYERS]
    assert not any(isinstance(getattr(pool, "__self__", None), Lens) for pool in pools)
    assert "fitted to the outputs" in explorer.lang.summary


@pytest.mark.parametrize("layer", LAYERS)
def test_words_are_the_attributions_own(explorer, key, layer):
    x = explorer.photos[key].inputs
    index = LAYERS.index(layer)
    for region, where in [(None, None), (Region(1, 2, 1, 2), (1, 2))]:
        expected = explorer.lang.describe(x, where=where)[index][0]
        answer = explorer.words(key, layer, region)
        assert answer["text"] == expected.text
        assert answer["probability"] == pytest.approx(expected.probability, abs=1e-6)
        assert answer["unsure"] == expected.unsure
        assert [text for text, _ in answer["phrases"]] == [text for text, _ in expected.phrases]


def test_a_region_is_the_mean_of_its_locations(explorer, key):
    translator, pool = explorer.lang.translator, explorer.lang.reading.pool
    features = explorer.lang.read(explorer.photos[key].inputs)[0]
    every = pool(features, "all")
    tokens = every.fold(every.tokens)[0, 1:3, 2:5].reshape(-1, every.width).mean(0)
    shares = translator.probabilities([Rows({"norm": tokens[None, None]})])[0]
    answer = explorer.words(key, "act", Region(1, 2, 2, 4))
    best = shares.argmax()
    assert answer["phrases"][0][0] == translator.vocabulary.phrases[best]
    assert answer["phrases"][0][1] == pytest.approx(float(shares[best]), abs=1e-4)


def test_maps_are_the_saliency_and_share_a_scale(explorer, key):
    found = explorer.maps(key, ["a cat", "a red door"])
    expected = explorer.lang.saliency(explorer.photos[key].inputs, found["texts"], interpolate_mode=None)
    for layer, maps in zip(found["layers"], expected, strict=True):
        assert torch.allclose(torch.tensor(layer["maps"]), maps[0].flatten(1), atol=1e-4)
    values = torch.cat([each.flatten() for each in expected])
    assert found["low"] == pytest.approx(float(values.min()), abs=1e-4)
    assert found["high"] == pytest.approx(float(values.max()), abs=1e-4)


def test_logits_are_the_models_but_for_a_constant(explorer, key):
    found = explorer.classes(key, [])["classes"]
    logits = explorer.backbone.model(explorer.photos[key].inputs)[0].detach()
    own = {name: float(logit) for name, logit in zip(explorer.backbone.class_names, logits, strict=True)}
    shift = {round(each["before"] - own[each["name"]], 2) for each in found}
    assert len(shift) == 1
    shares = logits.softmax(0)
    assert found[0]["probability"] == pytest.approx(float(shares.max()), abs=1e-4)
    assert all(each["before"] == each["after"] for each in found)


def test_what_is_switched_off_is_not_in_the_feature(explorer, key):
    translator = explorer.lang.translator
    features = explorer.lang.read(explorer.photos[key].inputs)[1]
    white = explorer.concepts.fitted.whiten(explorer.lang.reading.pool(features, None).rows.detach())
    directions = translator.directions("norm", ["a cat", "whiskers"])
    left = without(white, directions)
    assert torch.allclose(left @ directions.T, torch.zeros(1, 2), atol=1e-5)
    moved = white - left  # lies in the span: taking it out again changes nothing
    assert torch.allclose(without(moved, directions), torch.zeros_like(moved), atol=1e-5)
    found = explorer.classes(key, ["a cat", "whiskers"])["classes"]
    expected = explorer.concepts.fitted.head_logits(left)[0]
    for each in found:
        assert each["after"] == pytest.approx(
            float(expected[translator.class_names.index(each["name"])]), abs=2e-3
        )


def test_a_concept_named_twice_is_one(explorer, key):
    assert explorer.classes(key, ["a cat", "a cat"])["classes"] == explorer.classes(key, ["a cat"])["classes"]


def test_sentences_are_kept_only_where_they_fit(explorer, key, monkeypatch):
    translator = explorer.lang.translator
    (features,) = [each for each in explorer.lang.read(explorer.photos[key].inputs) if each.layer == "norm"]
    rows = rows_of(explorer.lang.reading.pool(features, None))
    texts = ["a red mug", "zebra quiz", "boats", "a fern on a cliff"]
    scores = translator.score(rows, texts)[0]
    phrase = explorer.words(key, "norm", None)["phrases"][0][0]
    least = translator.score(rows, [phrase])[0, 0]
    assert scores.min() < least, "one sentence must be worse than the phrase"
    for text, score in [*zip(texts, scores, strict=True), ("", -torch.inf)]:
        monkeypatch.setattr(Sentences, "decode", lambda *_, text=text: [text])
        found = explorer.sentence(key, "norm", None)
        assert found["text"] == (text if score >= least and not repeats(text) else None)


def test_names_of_files_are_kept_without_folders_and_controls(explorer):
    photo = explorer.add(jpeg_of(explorer), "../../etc/\x1b[2J" + "a" * 300)
    assert "/" not in photo.name
    assert "\x1b" not in photo.name
    assert len(photo.name) <= 80 + len("...")
    assert next(iter(explorer.photos.given.values())).name == HOSTILE


def jpeg_of(explorer):
    return next(iter(explorer.photos.given.values())).jpeg


def test_dropped_photographs_are_forgotten_oldest_first(explorer, monkeypatch):
    monkeypatch.setattr("torchnle.explorer.photos.DROPPED", 2)
    keys = [explorer.add(jpeg_of(explorer), f"{i}.jpg").key for i in range(3)]
    with pytest.raises(KeyError):
        explorer.photos[keys[0]]
    assert explorer.photos[keys[2]].name == "2.jpg"


@pytest.mark.parametrize(
    "given", ["all", [1, 2], [0, 0, 0, 0.5], [0, 0, -1, 0], [2, 0, 1, 0], [True, 0, 0, 0], {"top": 1}]
)
def test_bad_regions_are_refused(given):
    with pytest.raises(ValueError, match="region"):
        Region.of(given)


def test_regions_outside_the_grid_are_refused(explorer, key):
    with pytest.raises(ValueError, match="4x4"):
        explorer.words(key, "norm", Region(0, 0, 4, 0))
