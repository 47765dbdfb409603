"""Corpus scores of captions against reference captions, without Java or downloads.

BLEU-4 comes from sacrebleu, ROUGE-L's matches from rouge-score, METEOR from NLTK; CIDEr is our own
(`torchnle.metrics.consensus`). Texts are tokenized as in MS-COCO's evaluation, so that scores with the same
formula are equal to its own. METEOR's formula differs: MS-COCO runs the later METEOR 1.5, in Java
(`torchnle.metrics.java`). Higher is better; 1 is a perfect score, and 10 for CIDEr.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from statistics import mean
from typing import Any, TypeAlias

from torchnle.errors import optional_package
from torchnle.metrics.consensus import cider_scores

#: People's captions: one or more for each candidate.
References: TypeAlias = Sequence[Sequence[str]]

#: Abbreviations that keep their dot, and words that Penn Treebank takes apart.
_DOTTED = ["mr", "mrs", "ms", "dr", "prof", "st", "mt", "jr", "sr", "vs", "etc", "gen", "col", "capt"]
_JOINED = ("can|not", "gon|na", "got|ta", "wan|na", "lem|me", "gim|me")
_WORD = re.compile(
    "|".join(
        [
            *(rf"\b{a}(?={b}\b)|(?<=\b{a}){b}\b" for a, b in (pair.split("|") for pair in _JOINED)),
            r"(?<!\w)[a-z](?:\.[a-z])+\.?(?!\w)",  # u.s., a.m.
            rf"\b(?:{'|'.join(_DOTTED)})\.",
            r"\w+(?:&\w+)+",  # at&t
            r"\w+?(?=n't\b)|n't\b|'\w+",
            r"\d+(?:[.,:/]\d+)+(?:-\w+)*",
            r"\w+(?:-\w+)*(?:/\w+(?:-\w+)*){1,2}",  # black/white
            r"\w+(?:-\w+)*",
            r"[#$%&@*+=/]",
        ]
    )
)
_RECALL_WEIGHT = 1.2  # MS-COCO's beta in ROUGE-L


def words(text: str) -> list[str]:
    """Tokenize a text as MS-COCO's evaluation does: Penn Treebank's rules, lower case, no punctuation.

    Example:
        >>> words("A hen's well-made nest, isn't it?")
        ['a', 'hen', "'s", 'well-made', 'nest', 'is', "n't", 'it']
    """
    return _WORD.findall(text.lower())


def bleu4(candidates: Sequence[str], references: References) -> float:
    """Compute BLEU-4 of the corpus, unsmoothed, with the nearest reference's length (Papineni et al. 2002).

    Args:
        candidates: One text per image.
        references: The reference captions of each image.

    Returns:
        The score, from 0 to 1.

    Raises:
        MissingDependencyError: If sacrebleu is not installed.
        ValueError: If there is not at least one reference for each of at least one candidate.

    Example:
        >>> round(bleu4(["a hen on the grass"], [["a hen on the grass", "a bird"]]), 4)
        1.0
    """
    check_captions(candidates, references)
    with optional_package("sacrebleu", extra="eval", purpose="for BLEU"):
        from sacrebleu.metrics import BLEU
    most = max(map(len, references))
    streams = [[_spaced(texts[i]) if i < len(texts) else None for texts in references] for i in range(most)]
    metric = BLEU(tokenize="none", smooth_method="none", force=True)
    return float(metric.corpus_score(list(map(_spaced, candidates)), streams).score) / 100


def rouge_l(candidates: Sequence[str], references: References) -> float:
    """Compute ROUGE-L as MS-COCO does: F of the longest common subsequence, recall weighted by 1.2.

    Precision and recall are each the best over the references (Lin 2004, and coco-caption).

    Args:
        candidates: One text per image.
        references: The reference captions of each image.

    Returns:
        The score, from 0 to 1.

    Raises:
        MissingDependencyError: If rouge-score is not installed.
        ValueError: As `bleu4`.

    Example:
        >>> round(rouge_l(["a hen sits"], [["a hen", "a bird sits"]]), 4)
        0.8299
    """
    check_captions(candidates, references)
    with optional_package("rouge-score", extra="eval", purpose="for ROUGE-L"):
        from rouge_score.rouge_scorer import RougeScorer
    scorer = RougeScorer(["rougeL"], tokenizer=_Words())

    def one(candidate: str, texts: Sequence[str]) -> float:
        found = [scorer.score(text, candidate)["rougeL"] for text in texts]
        precision, recall = max(f.precision for f in found), max(f.recall for f in found)
        if not precision or not recall:
            return 0.0
        squared = _RECALL_WEIGHT**2
        return float((1 + squared) * precision * recall / (recall + squared * precision))

    return mean(map(one, candidates, references))


def meteor(candidates: Sequence[str], references: References, *, wordnet: Any = None) -> float:
    """Compute METEOR: one-to-one word matches, weighted to recall and order (Lavie, Agarwal 2007).

    Words match if equal or of one stem (Porter's); with WordNet also if synonyms, which NLTK looks up by
    their stems. The best reference counts.

    Args:
        candidates: One text per image.
        references: The reference captions of each image.
        wordnet: NLTK's reader of WordNet (`nltk.corpus.wordnet`, whose data are a download); None = no
            synonyms.

    Returns:
        The score, from 0 to 1.

    Raises:
        MissingDependencyError: If nltk is not installed.
        ValueError: As `bleu4`.

    Example:
        >>> round(meteor(["a hen sits"], [["a hen", "the hens sit"]]), 4)
        0.8929
    """
    check_captions(candidates, references)
    with optional_package("nltk", extra="eval", purpose="for METEOR"):
        from nltk.stem import PorterStemmer
        from nltk.translate.meteor_score import meteor_score
    options = {"stemmer": PorterStemmer(), "wordnet": _NoSynonyms() if wordnet is None else wordnet}
    return mean(
        float(meteor_score([words(text) for text in texts], words(candidate), **options))
        if words(candidate)
        else 0.0
        for candidate, texts in zip(candidates, references, strict=True)
    )


def cider(candidates: Sequence[str], references: References) -> float:
    """Compute CIDEr-D, the mean over captions, from 0 to 10, as MS-COCO's evaluation calls "CIDEr".

    Args:
        candidates: One text per image.
        references: The reference captions of each image; they also give the document frequencies, so a
            single image scores 0.

    Raises:
        ValueError: As `bleu4`.

    Example:
        >>> cider(["a red hen", "two owls"], [["a red hen"], ["owls on a wall"]]) > 1
        True
    """
    check_captions(candidates, references)
    cut = [[words(text) for text in texts] for texts in references]
    return mean(cider_scores([words(text) for text in candidates], cut))


def caption_scores(candidates: Sequence[str], references: References) -> dict[str, float]:
    """Compute BLEU-4, METEOR without synonyms, ROUGE-L and CIDEr-D of captions.

    Args:
        candidates: One text per image.
        references: The reference captions of each image.

    Returns:
        "bleu4", "meteor", "rouge_l" and "cider".

    Raises:
        MissingDependencyError: If a package of the extra "eval" is not installed.
        ValueError: As `bleu4`.

    Example:
        >>> sorted(caption_scores(["a hen"], [["a hen"]]))  # doctest: +SKIP
        ['bleu4', 'cider', 'meteor', 'rouge_l']
    """
    scores = {"bleu4": bleu4, "meteor": meteor, "rouge_l": rouge_l, "cider": cider}
    return {name: score(candidates, references) for name, score in scores.items()}


def check_captions(candidates: Sequence[str], references: References) -> None:
    """Refuse captions and references whose numbers do not fit, or that are not lists.

    Raises:
        TypeError: If a single string is given for a list.
        ValueError: If there is not at least one reference for each of at least one candidate.
    """
    if isinstance(candidates, str) or any(isinstance(texts, str) for texts in references):
        raise TypeError("pass a list of candidates, and for each of them a list of references.")
    if not candidates or len(candidates) != len(references) or not all(references):
        raise ValueError(
            f"{len(candidates)} candidates came with {len(references)} lists of references, "
            f"{sum(not texts for texts in references)} of them empty; pass at least one reference for each "
            "candidate, and at least one candidate."
        )


def _spaced(text: str) -> str:
    return " ".join(words(text))


class _Words:
    """The words of a text, for rouge-score."""

    def tokenize(self, text: str) -> list[str]:
        return words(text)


class _NoSynonyms:
    """A WordNet without words, for NLTK."""

    def synsets(self, word: str) -> list[Any]:
        return []
