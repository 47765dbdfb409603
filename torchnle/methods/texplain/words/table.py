"""Word frequencies of many rows, and the words that dominate one, some or all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor

from torchnle.language.english.content_words import content_words, is_english
from torchnle.methods.texplain.words.sentences import Sentences

#: From a sentence to the words in it that count.
Split: TypeAlias = Callable[[str], Sequence[str]]
#: Bootstrap samples of an interval, and the share of them that it holds.
_RESAMPLED, _COVERED = 1000, 0.95
#: An image has a word among its dominant ones if it is one of so many (section 4.2).
_DOMINANT = 10
#: Two-sided 95 % of a normal distribution.
_Z = 1.96


@dataclass(frozen=True)
class Word:
    """The frequency of one word over some rows, with its interval.

    Args:
        text: The lemma.
        frequency: The share of sentences that contain it, averaged over the rows.
        low: Lower end of its 95 % interval: over images by bootstrap, of one image by the draws' variance.
        high: Its upper end.
        count: The number of drawn sentences that contain it.
        documents: The share of rows among whose ten dominant words it is.
        without_image: The share of sentences without any image that contain it.
    """

    text: str
    frequency: float
    low: float
    high: float
    count: int
    documents: float
    without_image: float

    @property
    def score(self) -> float:
        """The score that words are ranked by: the frequency that is due to the image."""
        return self.frequency - self.without_image


@dataclass(frozen=True)
class WordTable:
    """The frequency of each word in the descriptions of each row.

    Args:
        words: The W words.
        frequencies: The share of a row's sentences with a word, (R, W); unbiased, and so now and then above
            1.
        variances: The variances of these, (R, W).
        counts: In how many of a row's sentences a word is, (R, W).
        without_image: The share without any image, (W,); zeros where not computed.
        sentences: How many sentences each row's frequencies come from.
        seed: Of the draws; None = nothing was drawn.
    """

    words: tuple[str, ...]
    frequencies: Float[Tensor, "R W"]
    variances: Float[Tensor, "R W"]
    counts: Int[Tensor, "R W"]
    without_image: Float[Tensor, "W"]
    sentences: int
    seed: int | None = None

    @classmethod
    def of(
        cls,
        rows: Sequence[Sentences],
        without_image: Sentences | None = None,
        *,
        split: Split = content_words,
        seed: int | None = None,
    ) -> WordTable:
        """Count the words of every row's sentences.

        Args:
            rows: The sentences of each row.
            without_image: Sentences drawn without any image, whose frequencies `Word.score` subtracts.
            split: Finds the words of a sentence; the default reads English. Another language needs its own.
            seed: Of the draws, for the record.

        Raises:
            ValueError: If there are no rows, no word is left, or with the default `split` the words are not
                English.

        Example:
            >>> sentences = Sentences(("a hen on grass", "a hen"), torch.tensor([0.5, 0.5]), None)
            >>> table = WordTable.of([sentences])
            >>> [(word.text, word.frequency) for word in table.top(2)]
            [('hen', 1.0), ('grass', 0.5)]
        """
        if not rows:
            raise ValueError("there are no rows to count words of; pass at least one image.")
        every = [*rows, *([] if without_image is None else [without_image])]
        distinct = dict.fromkeys(text for each in rows for text in each.texts)
        spelled = {text: tuple(dict.fromkeys(split(text))) for text in distinct}
        words = tuple(dict.fromkeys(word for found in spelled.values() for word in found))
        _check_words(words, len(spelled), split)
        spelled |= {text: tuple(split(text)) for each in every for text in each.texts if text not in spelled}
        column = {word: index for index, word in enumerate(words)}
        counted = [_count(each, spelled, column) for each in every]
        frequencies, variances, counts = (torch.stack(each) for each in zip(*counted, strict=True))
        row_count = len(rows)
        return cls(
            words,
            frequencies[:row_count],
            variances[:row_count],
            counts[:row_count],
            frequencies[-1] if without_image is not None else torch.zeros(len(words)),
            max(len(each.texts) for each in rows),
            seed,
        )

    def __len__(self) -> int:
        return len(self.frequencies)

    def __getitem__(self, rows: Tensor | slice | list[int]) -> WordTable:
        """Some of the rows: a class, a split."""
        return replace(
            self,
            frequencies=self.frequencies[rows],
            variances=self.variances[rows],
            counts=self.counts[rows],
        )

    @property
    def scores(self) -> Float[Tensor, "R W"]:
        """The frequencies less those without any image."""
        return self.frequencies - self.without_image

    def first(self, among: Sequence[str] | None = None) -> list[str]:
        """List the dominant word of every row: that of the highest score.

        Args:
            among: Only these words; None = all.

        Raises:
            ValueError: If none of `among` is a word of the table.
        """
        columns = list(range(len(self.words))) if among is None else self._columns(among)
        best = self.scores[:, columns].argmax(dim=1).tolist()
        return [self.words[columns[rank]] for rank in best]

    def top(self, k: int = 10, *, seed: int = 0) -> list[Word]:
        """List the words of highest score over all rows, with intervals.

        Args:
            k: How many.
            seed: Of the bootstrap over rows.

        Raises:
            ValueError: If `k` is not positive or there are no rows.
        """
        if k < 1 or not len(self):
            raise ValueError(f"top({k}) of {len(self)} rows: pass 1 or more, of 1 or more rows.")
        best = self.scores.mean(dim=0).topk(min(k, len(self.words))).indices
        mean = self.frequencies[:, best].mean(dim=0)
        low, high = self._interval(best, seed)
        in_top = self._dominant()[:, best].float().mean(dim=0)
        columns = zip(
            best.tolist(),
            mean.tolist(),
            low.tolist(),
            high.tolist(),
            self.counts[:, best].sum(dim=0).tolist(),
            in_top.tolist(),
            self.without_image[best].tolist(),
            strict=True,
        )
        return [Word(self.words[column], *values) for column, *values in columns]

    def frequency(self, word: str) -> Float[Tensor, "R"]:
        """Return the frequency of one word in every row; 0 if no row has it.

        Example:
            >>> sentences = Sentences(("a hen on grass", "a hen"), torch.tensor([0.5, 0.5]), None)
            >>> WordTable.of([sentences]).frequency("owl").tolist()
            [0.0]
        """
        if word not in self.words:
            return self.frequencies.new_zeros(len(self))
        return self.frequencies[:, self.words.index(word)]

    def _columns(self, words: Sequence[str]) -> list[int]:
        column = {word: index for index, word in enumerate(self.words)}
        found = [column[word] for word in words if word in column]
        if not found:
            raise ValueError(
                f"none of {list(words)[:8]} is a word of these rows, which hold {list(self.words)[:8]}."
            )
        return found

    def _interval(self, columns: Int[Tensor, "k"], seed: int) -> tuple[Tensor, Tensor]:
        values = self.frequencies[:, columns]
        if len(values) == 1:
            half = _Z * self.variances[0, columns].sqrt()
            return (values[0] - half).clamp_min(0), (values[0] + half).clamp_max(1)
        generator = torch.Generator().manual_seed(seed)
        drawn = torch.randint(len(values), (_RESAMPLED, len(values)), generator=generator)
        times = torch.zeros(_RESAMPLED, len(values)).scatter_add(1, drawn, torch.ones(drawn.shape))
        means = times.to(values) @ values / len(values)
        ends = torch.tensor([(1 - _COVERED) / 2, (1 + _COVERED) / 2], dtype=means.dtype)
        low, high = means.quantile(ends, dim=0)
        return low, high

    def _dominant(self) -> Tensor:
        best = self.scores.topk(min(_DOMINANT, len(self.words)), dim=1)
        found = torch.zeros_like(self.scores, dtype=torch.bool)
        return found.scatter(1, best.indices, best.values > 0)


def _count(
    sentences: Sentences, spelled: dict[str, tuple[str, ...]], column: dict[str, int]
) -> tuple[Tensor, Tensor, Tensor]:
    """A row's frequencies, their variances, and the counts."""
    pairs = [
        (text, column[word])
        for text, sentence in enumerate(sentences.texts)
        for word in spelled[sentence]
        if word in column
    ]
    text, word = torch.tensor(pairs, dtype=torch.long).view(-1, 2).T

    def summed(values: Tensor) -> Tensor:
        return torch.zeros(len(column), dtype=values.dtype).index_add(0, word, values)

    weights = sentences.weights.cpu()
    frequency = summed(weights[text])
    if sentences.variances is None:
        variance = (frequency * (1 - frequency)).clamp_min(0) / len(sentences.texts)
    else:
        variance = summed(sentences.variances.cpu()[text])
    return frequency, variance, summed(torch.ones_like(text))


def _check_words(words: Sequence[str], texts: int, split: Split) -> None:
    if not words:
        raise ValueError(
            f"no word is left of {texts} different sentences: they hold no noun. Pass a split=... that "
            f"keeps other "
            "words, or draw more sentences."
        )
    if split is content_words and not is_english(words):
        raise ValueError(
            f"most of the words {list(words)[:8]} are not English. Pass split=..., a function from a "
            f"sentence of "
            "their language to its words."
        )
