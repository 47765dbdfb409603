"""Caption scores against slow oracles in other words, and against the numbers of MS-COCO's own code."""

from __future__ import annotations

import itertools
import math
import random
import shutil
import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch
from PIL import Image

from torchnle.errors import MissingDependencyError
from torchnle.metrics import (
    bert_score,
    bleu4,
    caption_scores,
    cider,
    clip_score,
    java_scores,
    meteor,
    rouge_l,
)
from torchnle.metrics.captions import words
from torchnle.metrics.consensus import cider_scores

CANDIDATES = [
    "A hen's nest, on the grass.",
    "a red fire truck isn't here",
    "two owls sitting on a well-known wall",
    "a clock",
    "3.5 apples and a dog",
]
REFERENCES = [
    ["a hen sits on grass", "the nest of a hen on green grass"],
    ["a red fire engine is parked", "there isn't a truck here", "a truck"],
    ["two owls on a brick wall"],
    ["an old clock on a tower", "a clock"],
    ["apples and a dog on a table"],
]
#: What pycocoevalcap 1.2 gives for them, with Stanford's tokenizer in Java.
COCO = {"bleu4": 0.24902961939582617, "rouge_l": 0.7758960461600359, "cider": 2.903691297141573}
COCO_CIDER = [1.94635439, 1.92464182, 2.25074553, 2.99926265, 5.3974521]
COCO_WORDS = [
    "a hen 's nest on the grass",
    "a red fire truck is n't here",
    "two owls sitting on a well-known wall",
    "a clock",
    "3.5 apples and a dog",
]
SCORES = [bleu4, rouge_l, meteor, cider]


def random_captions(seed, count=8):
    source = random.Random(seed)
    draw = lambda: " ".join(source.choices("abcde", k=source.randint(2, 9)))  # noqa: E731
    return [draw() for _ in range(count)], [
        [draw() for _ in range(source.randint(1, 3))] for _ in range(count)
    ]


def grams(text, n):
    cut = text.split()
    return [tuple(cut[i : i + n]) for i in range(len(cut) - n + 1)]


def oracle_bleu(candidates, references):
    log_precision = 0.0
    for n in range(1, 5):
        matched = total = 0
        for candidate, texts in zip(candidates, references, strict=True):
            have = grams(candidate, n)
            total += len(have)
            for gram in set(have):
                matched += min(have.count(gram), max(grams(text, n).count(gram) for text in texts))
        if not matched:
            return 0.0
        log_precision += math.log(matched / total) / 4
    ours = sum(len(c.split()) for c in candidates)
    theirs = 0
    for candidate, texts in zip(candidates, references, strict=True):
        lengths = [len(text.split()) for text in texts]
        theirs += min(lengths, key=lambda length: (abs(length - len(candidate.split())), length))
    return math.exp(log_precision) * min(1.0, math.exp(1 - theirs / ours))


def oracle_subsequence(first, second):
    if not first or not second:
        return 0
    if first[0] == second[0]:
        return 1 + oracle_subsequence(first[1:], second[1:])
    return max(oracle_subsequence(first[1:], second), oracle_subsequence(first, second[1:]))


def oracle_rouge(candidates, references):
    total = 0.0
    for candidate, texts in zip(candidates, references, strict=True):
        longest = [oracle_subsequence(candidate.split(), text.split()) for text in texts]
        p = max(n / len(candidate.split()) for n in longest)
        r = max(n / len(text.split()) for n, text in zip(longest, texts, strict=True))
        total += (1 + 1.44) * p * r / (r + 1.44 * p) if p and r else 0.0
    return total / len(candidates)


def oracle_meteor(candidate, text):
    """Every one-to-one alignment of equal words: most matches, then fewest chunks."""
    ours, theirs = candidate.split(), text.split()
    best = (0, 0)
    options = [[None, *(j for j, word in enumerate(theirs) if word == mine)] for mine in ours]
    for choice in itertools.product(*options):
        used = [(i, j) for i, j in enumerate(choice) if j is not None]
        if len({j for _, j in used}) < len(used):
            continue
        chunks = sum(
            k == 0 or (used[k - 1][0] + 1, used[k - 1][1] + 1) != pair for k, pair in enumerate(used)
        )
        best = max(best, (len(used), -chunks))
    matches, chunks = best[0], -best[1]
    if not matches:
        return 0.0
    p, r = matches / len(ours), matches / len(theirs)
    return p * r / (0.9 * p + 0.1 * r) * (1 - 0.5 * (chunks / matches) ** 3)


def oracle_cider(candidates, references):
    count = len(references)
    scores = []
    for candidate, texts in zip(candidates, references, strict=True):
        score = 0.0
        for text in texts:
            for n in range(1, 5):
                universe = sorted(set(grams(candidate, n)) | set(grams(text, n)))
                idf = [
                    math.log(
                        count / max(1, sum(any(g in grams(t, n) for t in other) for other in references))
                    )
                    for g in universe
                ]
                a = [grams(candidate, n).count(g) * w for g, w in zip(universe, idf, strict=True)]
                b = [grams(text, n).count(g) * w for g, w in zip(universe, idf, strict=True)]
                norm = math.hypot(*a, 0) * math.hypot(*b, 0)
                dot = sum(min(x, y) * y for x, y in zip(a, b, strict=True))
                gap = len(candidate.split()) - len(text.split())
                score += (dot / norm if norm else 0.0) * math.exp(-gap * gap / 72) / 4
        scores.append(10 * score / len(texts))
    return scores


@pytest.mark.parametrize("seed", range(3))
def test_scores_are_the_slow_scores(seed):
    candidates, references = random_captions(seed)
    candidates = [*candidates, references[0][0], references[1][-1]]  # so that 4-grams match
    references = [*references, references[0], references[1]]
    assert bleu4(candidates, references) == pytest.approx(oracle_bleu(candidates, references))
    assert rouge_l(candidates, references) == pytest.approx(oracle_rouge(candidates, references))
    cut = [[words(text) for text in texts] for texts in references]
    each = cider_scores([words(text) for text in candidates], cut)
    assert each == pytest.approx(oracle_cider(candidates, references))
    assert cider(candidates, references) == pytest.approx(sum(each) / len(each))


def test_meteor_is_the_slow_meteor_where_words_come_once():
    """With repeated words NLTK aligns greedily, and its alignment need not have the fewest chunks."""
    source = random.Random(0)
    draw = lambda: " ".join(source.sample("abcdef", source.randint(2, 6)))  # noqa: E731
    for _ in range(20):
        candidate, texts = draw(), [draw(), draw()]
        expected = max(oracle_meteor(candidate, text) for text in texts)
        assert meteor([candidate], [texts]) == pytest.approx(expected)


def test_meteor_counts_stems_and_given_synonyms():
    class Synonyms:
        def synsets(self, word):
            lemma = SimpleNamespace(name=lambda: "van")
            return [SimpleNamespace(lemmas=lambda: [lemma])] if word == "truck" else []

    assert meteor(["hens sit"], [["hen sits"]]) == pytest.approx(1 - 0.5 / 8)
    assert meteor(["a truck"], [["a van"]]) < 0.6
    assert meteor(["a truck"], [["a van"]], wordnet=Synonyms()) == pytest.approx(1 - 0.5 / 8)


def test_the_numbers_of_ms_cocos_code():
    scores = caption_scores(CANDIDATES, REFERENCES)
    assert {name: scores[name] for name in COCO} == pytest.approx(COCO, rel=1e-8)
    assert [" ".join(words(text)) for text in CANDIDATES] == COCO_WORDS
    cut = [[words(text) for text in texts] for texts in REFERENCES]
    assert cider_scores([words(text) for text in CANDIDATES], cut) == pytest.approx(COCO_CIDER, abs=1e-7)


def test_the_reference_itself_scores_best():
    references = [[texts[0]] for texts in REFERENCES]
    scores = caption_scores([texts[0] for texts in references], references)
    assert scores["bleu4"] == pytest.approx(1)
    assert scores["rouge_l"] == pytest.approx(1)
    assert scores["cider"] == pytest.approx(10)
    assert scores["meteor"] > 0.98


@pytest.mark.parametrize("score", SCORES)
def test_order_of_images_and_of_references_does_not_matter(score):
    candidates, references = random_captions(5)
    turned = [texts[::-1] for texts in references[::-1]]
    assert score(candidates[::-1], turned) == pytest.approx(score(candidates, references))


@pytest.mark.parametrize("score", SCORES)
def test_an_empty_candidate_scores_nothing(score):
    assert score([""], [["a hen"]]) == 0


@pytest.mark.parametrize("score", [*SCORES, java_scores])
def test_bad_captions_are_refused(score):
    for candidates, references in ([], []), (["a"], []), (["a", "b"], [["a"], []]):
        with pytest.raises(ValueError, match="at least one reference"):
            score(candidates, references)
    for candidates, references in ("a hen", [["a hen"]]), (["a hen"], ["a hen"]):
        with pytest.raises(TypeError, match="list of"):
            score(candidates, references)


@pytest.mark.parametrize(
    ("score", "module", "package"),
    [
        (bleu4, "sacrebleu.metrics", "sacrebleu"),
        (rouge_l, "rouge_score.rouge_scorer", "rouge-score"),
        (meteor, "nltk.stem", "nltk"),
    ],
)
def test_a_missing_package_is_named(monkeypatch, score, module, package):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingDependencyError, match=rf"'{package}' .* 'torchnle\[eval\]'"):
        score(["a"], [["a"]])


class FakeJava:
    """pycocoevalcap's door: numbered captions in, one score out."""

    def compute_score(self, known, written):
        assert known == {0: ["a hen 's nest", "a hen"]}
        assert written == {0: ["a hen"]}
        return 0.25, [0.25]


def test_java_scores_go_through_pycocoevalcap(monkeypatch):
    for name, scorer in (("meteor", "Meteor"), ("spice", "Spice")):
        module = ModuleType(f"pycocoevalcap.{name}.{name}")
        setattr(module, scorer, FakeJava)
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr("torchnle.metrics.java.find_spec", lambda name: name)
    monkeypatch.setattr(shutil, "which", lambda name: name)
    found = java_scores(["A hen."], [["a hen's nest", "A hen!"]])
    assert found == {"meteor_java": 0.25, "spice_java": 0.25}
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(FileNotFoundError, match="no 'java' on the PATH"):
        java_scores(["a"], [["a"]])
    monkeypatch.setattr("torchnle.metrics.java.find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"torchnle\[java\]"):
        java_scores(["a"], [["a"]])


def tiny_encoder():
    """Every word has its own vector, whatever stands beside it; 0 starts and 1 ends a text."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    known = ["<s>", "</s>", "<unk>", "a", "red", "green", "hen", "owl", "on", "grass"]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(known)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        "<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="</s>"
    )
    table = torch.randn(len(known), 4, generator=torch.Generator().manual_seed(0))
    model = lambda input_ids, **_: SimpleNamespace(last_hidden_state=table[input_ids])  # noqa: E731
    return SimpleNamespace(model=model, tokenizer=fast, max_length=16, device="cpu"), table


def oracle_bert(candidate, references, table, known, weight):
    def cosine(a, b):
        x, y = table[known[a]], table[known[b]]
        return (x @ y / x.norm() / y.norm()).item()

    best = 0.0
    for reference in references:
        ours, theirs = (["<s>", *text.split(), "</s>"] for text in (candidate, reference))
        p = [max(cosine(a, b) for b in theirs) for a in ours[1:-1]]
        r = [max(cosine(a, b) for a in ours) for b in theirs[1:-1]]
        wp, wr = [weight(a) for a in ours[1:-1]], [weight(b) for b in theirs[1:-1]]
        p = sum(x * w for x, w in zip(p, wp, strict=True)) / sum(wp)
        r = sum(x * w for x, w in zip(r, wr, strict=True)) / sum(wr)
        best = max(best, 2 * p * r / (p + r))
    return best


@pytest.mark.parametrize("idf", [False, True])
def test_bert_score_is_the_slow_one(idf):
    encoder, table = tiny_encoder()
    known = encoder.tokenizer.get_vocab()
    candidates = ["a red hen", "an owl on grass"]
    candidates[1] = "a owl on grass"
    references = [["a hen on green grass", "a red owl"], ["a green hen"]]
    texts = [text.split() for group in references for text in group]

    def weight(word):
        return math.log(4 / (1 + sum(word in text for text in texts))) if idf else 1.0

    expected = [oracle_bert(c, r, table, known, weight) for c, r in zip(candidates, references, strict=True)]
    assert bert_score(candidates, references, encoder, idf=idf) == pytest.approx(sum(expected) / 2, abs=1e-6)
    assert bert_score(["a red owl"], [["a red owl"]], encoder) == pytest.approx(1)


@pytest.mark.real
def test_the_numbers_of_bert_score():
    """What bert-score 0.3.13 gives with all-MiniLM-L6-v2 and its six layers."""
    from torchnle.language.text_encoder import TextEncoder

    encoder = TextEncoder.from_pretrained()
    candidates = [*CANDIDATES[:2], "a clock"]
    references = [
        REFERENCES[0],
        ["a red fire engine is parked", "a truck"],
        ["an old clock on a tower", "clock"],
    ]
    assert bert_score(candidates, references, encoder) == pytest.approx(0.77220422, abs=1e-6)
    assert bert_score(candidates, references, encoder, idf=True) == pytest.approx(0.7808044, abs=1e-6)


def test_clip_score_scales_clips_and_prefixes():
    scored = []

    def scorer(images, texts):
        scored.extend(texts)
        return torch.tensor([[0.4 if "hen" in texts[0] else -0.4]])

    pictures = [Image.new("RGB", (2, 2))] * 2
    assert clip_score(pictures, ["a hen", "an owl"], scorer) == pytest.approx(2.5 * 0.4 / 2)
    assert scored == ["A photo depicts a hen", "A photo depicts an owl"]
    with pytest.raises(ValueError, match="one text a picture"):
        clip_score(pictures, ["a hen"], scorer)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a man in the U.S. flag", "a man in the u.s. flag"),
        ("it is 7 a.m. in a room", "it is 7 a.m. in a room"),
        ("an AT&T store", "an at&t store"),
        ("a black/white cat", "a black/white cat"),
        ("Mr. and Mrs. Hen vs. St. Bernard", "mr. and mrs. hen vs. st. bernard"),
        ("they cannot, they're gonna", "they can not they 're gon na"),
        ("the dog's 3.5-inch ball at 10:30", "the dog 's 3.5-inch ball at 10:30"),
        ("R&B, D.C. and e.g. this", "r&b d.c. and e.g. this"),
        ("A dog. A cat.", "a dog a cat"),
        ("$5 & 50% off", "$ 5 & 50 % off"),
    ],
)
def test_words_are_cut_as_by_penn_treebank(text, expected):
    assert " ".join(words(text)) == expected


def test_an_abbreviation_is_one_word_in_the_scores():
    people = [["a U.S. flag on a pole", "the flag"], ["a hen in a barn", "a bird"]]
    dotted, bare = ["a U.S. flag on a pole", "a hen"], ["a U S flag on a pole", "a hen"]
    assert cider(dotted, people) > cider(bare, people)
