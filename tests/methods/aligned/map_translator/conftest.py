"""Maps fitted to two layers by captions, and to the last one by class names alone."""

import pytest
from captioned_world import IMAGES, MODEL, NAMES, VOCABULARY, batches
from letter_encoder import LetterEncoder

from torchnle import LanguageAttribution


@pytest.fixture(scope="module")
def lang():
    return LanguageAttribution.from_captions(
        MODEL, ["stem", "norm"], batches(), encoder=LetterEncoder(), vocabulary=VOCABULARY
    )


@pytest.fixture(scope="module")
def by_names():
    return LanguageAttribution.from_classifier(
        MODEL, NAMES, example=IMAGES[:2], images=[IMAGES], encoder=LetterEncoder(), vocabulary=VOCABULARY
    )
