"""Dominant words: the most frequent words of sentences about an image, a class or a split (TExplain)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from torchnle.attr.inputs.pictures import Pictures
from torchnle.attr.layer_reader import Chosen, LayerReader
from torchnle.public_calls import checked
from torchnle.types import Where

if TYPE_CHECKING:
    from torchnle.methods.texplain.words.table import Split, WordTable


class DominantWords(LayerReader[Chosen]):
    """Adds `words` to `LanguageAttribution` (mixin)."""

    @checked
    @torch.no_grad()
    def words(
        self,
        inputs: Pictures,
        additional_forward_args: Any = None,
        attribute_to_layer_input: bool = False,
        *,
        n: int | None = None,
        replacement: bool = False,
        top_p: float = 0.95,
        temperature: float = 1.0,
        max_new_tokens: int | None = None,
        seed: int = 0,
        where: Where = None,
        split: Split | None = None,
        without_image: bool = True,
        internal_batch_size: int | None = None,
    ) -> WordTable | list[WordTable]:
        """Find the most frequent words in descriptions of each image (TExplain, section 2.3).

        Args:
            inputs: (N, C, H, W), or a tuple of tensors; with a backbone's preprocessing also PIL images and
                files.
            additional_forward_args: Passed to the model after the inputs.
            attribute_to_layer_input: Read what enters the layer, not what leaves it.
            n: The number of sentences to draw per image; None = for a map from text into features none, since
                its phrases are counted by their probabilities, which is exact; else 200.
            replacement: Draw sentences independently, as the paper does with n=1000; False = each only once,
                with weights that keep word frequencies unbiased.
            top_p: The probability mass of the nucleus.
            temperature: The divisor of logits.
            max_new_tokens: The largest number of tokens of a sentence; None = the translator's own.
            seed: The seed of the draws.
            where: The locations, as `describe`; each is a row of the table.
            split: Finds the words of a sentence; None = English nouns, as lemmas.
            without_image: Subtract each word's frequency without an image, which the language model causes.
            internal_batch_size: The largest number of rows in the language model at once.

        Returns:
            A `WordTable`, one row per image: ``table.top(10)`` are the words of all images,
            ``table[2:3].top(10)`` those of the third, ``compare(table[a], table[b])`` two groups. A list of
            them for a list of layers.

        Raises:
            TypeError: If the translator can neither write nor give probabilities of phrases.
            ValueError: If `n` is not positive, no word is left, or most are not English.

        Example:
            >>> lang.words(photographs).top(3)  # doctest: +SKIP
        """
        from torchnle.language.english.content_words import content_words
        from torchnle.methods.aligned.translator import MapTranslator
        from torchnle.methods.texplain.words.sentences import Sampling
        from torchnle.methods.texplain.words.word_counts import words_of

        drawn = n is not None or not isinstance(self.translator, MapTranslator)
        sampling = Sampling(
            200 if n is None else n,
            replacement,
            top_p,
            temperature,
            max_new_tokens,
            seed,
            internal_batch_size,
        )
        features = self.read(inputs, additional_forward_args, attribute_to_layer_input)
        found = [
            words_of(
                self.translator,
                rows,
                sampling if drawn else None,
                split=content_words if split is None else split,
                without_image=without_image,
            )
            for rows in self._select(features, where, False)[1]
        ]
        return found if len(found) > 1 else found[0]
