"""Captioned pictures: composed scenes with every object and location known, and sources of captions."""

from torchnle.data.backgrounds import (
    Background,
    Gradient,
    Picture,
    gradient_backgrounds,
    load_photo_backgrounds,
    photo_backgrounds,
    plain_backgrounds,
    texture_backgrounds,
)
from torchnle.data.captions import CaptionedImage, CaptionFile, CaptionList, CaptionSource, Mixture
from torchnle.data.cutouts import Cutout, Cutouts, load_cutouts
from torchnle.data.photo_effects import PhotoEffects
from torchnle.data.readers.caption_datasets import CaptionDataset
from torchnle.data.readers.caption_shards import CaptionShards
from torchnle.data.readers.imagenet_x import (
    ExplainedImage,
    FactorAnnotation,
    factor_error_ratios,
    load_imagenet_x,
    load_imagenet_x_factors,
)
from torchnle.data.scenes import Scene, SceneObject, Scenes
from torchnle.data.shapes import shapes
from torchnle.language.english.phrases import corpus, head_noun, noun_phrase, scene_caption, with_article

__all__ = [
    "Background",
    "CaptionDataset",
    "CaptionFile",
    "CaptionList",
    "CaptionShards",
    "CaptionSource",
    "CaptionedImage",
    "Cutout",
    "Cutouts",
    "ExplainedImage",
    "FactorAnnotation",
    "Gradient",
    "Mixture",
    "PhotoEffects",
    "Picture",
    "Scene",
    "SceneObject",
    "Scenes",
    "corpus",
    "factor_error_ratios",
    "gradient_backgrounds",
    "head_noun",
    "load_cutouts",
    "load_imagenet_x",
    "load_imagenet_x_factors",
    "load_photo_backgrounds",
    "noun_phrase",
    "photo_backgrounds",
    "plain_backgrounds",
    "scene_caption",
    "shapes",
    "texture_backgrounds",
    "with_article",
]
