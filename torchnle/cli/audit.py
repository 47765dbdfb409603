"""``torchnle audit FOLDER``: the shortcuts of a classifier of a folder's classes, with an HTML report."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from torchnle import backbones
from torchnle.attr import LanguageAttribution
from torchnle.cli.output import say
from torchnle.cli.photos import MODEL_HELP
from torchnle.data.image_folders import (
    LabelledImage,
    LabelledImages,
    load_class_folders,
    read_groups,
    read_masks,
)
from torchnle.evaluation.subject import attach
from torchnle.views.audit_page import Section, write_page
from torchnle.views.words import plot_bars, plot_cloud

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from torchnle.methods.texplain.audit.run import Audit

_BATCH = 8
_INTRODUCTION = (
    "A last layer was trained on frozen features of {model} for {count} images of {classes} classes. Words "
    "come from "
    "the features alone. 'Data': the probability that an image of the class says the word more than one of "
    "another "
    "class. 'Model': the probability that the model is more confident in an image whose context indicates "
    "its class than in one whose context contradicts it. A shortcut is a word that the data offer and the "
    "model takes."
)


def add(commands: Any) -> None:
    """Add the command."""
    command = commands.add_parser("audit", help="find the shortcuts of a classifier, in words")
    command.add_argument("folder", type=Path, metavar="FOLDER", help="a folder of images for every class")
    command.add_argument(
        "--groups",
        type=Path,
        metavar="CSV",
        help="known groups, to measure by: columns file (relative) and group",
    )
    command.add_argument(
        "--masks",
        type=Path,
        metavar="FOLDER",
        help="masks of the objects, PNG files named as the images: answers with objects hidden",
    )
    command.add_argument("--model", default="efficientnet-lite0", help=f"{MODEL_HELP} (default: %(default)s)")
    command.add_argument("--translator", default="class-names", metavar="NAME", help="as of describe")
    command.add_argument("--class-names", nargs="+", metavar="NAME", help="in the order of the folders")
    command.add_argument("--output", type=Path, metavar="FOLDER", help="write audit.html and audit.json here")
    command.add_argument("--json", action="store_true", help="print JSON instead of lines")
    command.set_defaults(run=_audit)


def _audit(options: argparse.Namespace) -> None:
    from torchnle.evaluation import record
    from torchnle.methods.texplain.audit.run import audit_features
    from torchnle.methods.texplain.repair.refit import refit_last_layer
    from torchnle.translators.rows import Rows

    listed = load_class_folders(options.folder)
    if options.groups:
        listed = listed.with_contexts(read_groups(options.groups), options.folder)
    names = options.class_names or listed.class_names
    if len(names) != len(listed.class_names):
        raise ValueError(
            f"{len(names)} class names for {len(listed.class_names)} folders; pass one a folder."
        )
    backbone = backbones.load(options.model)
    lang = attach(backbone, options.translator, None)
    rows = torch.cat(list(_rows(lang, backbone, listed.images)))
    labels = torch.tensor([each.label for each in listed.images])
    layer = refit_last_layer(rows, labels, len(names)).layer
    found = audit_features(
        lang.translator, Rows({lang.taps[0].name: rows[:, None]}), labels, layer(rows), names
    )
    data = {"folder": options.folder.name, "images": len(labels), **_facts(found)}
    if options.groups:
        data["groups"] = _by_group(rows, listed, found)
    if options.masks:
        data["challenge"] = _challenge(options, lang, backbone, listed, labels, layer, rows)
    say(json.dumps(record.plain(data), indent=1) if options.json else _lines(found, data))
    if options.output:
        _write(options, listed, found, data)
        record.write(options.output, "audit", data, _lines(found, data))


def _rows(
    lang: LanguageAttribution, backbone: backbones.Backbone, pictures: Sequence[LabelledImage | Image.Image]
) -> Iterator[Tensor]:
    starts = range(0, len(pictures), _BATCH)
    for start in tqdm(starts, unit="batch", disable=not sys.stderr.isatty()):
        part = pictures[start : start + _BATCH]
        opened = [each if isinstance(each, Image.Image) else each.image for each in part]
        x = torch.stack([backbone.preprocess(each) for each in opened])
        with torch.no_grad():
            yield lang.reading.pool(lang.read(x)[-1], None).rows


def _facts(found: Audit) -> dict[str, Any]:
    flagged = sum(kind != "own" for _, kind in found.first_words)
    return {
        "first word not of the class": flagged / len(found.labels),
        "classes": [
            {
                "name": each.class_name,
                "verdict": each.verdict,
                "model": each.model,
                "model_low": each.model_low,
                "conflicting images": each.conflicting,
                "context words": [vars(word) for word in each.words],
                "dominant words": [vars(word) for word in found.of_class(label)],
            }
            for label, each in enumerate(found.shortcuts.classes)
        ],
    }


def _by_group(rows: Tensor, listed: LabelledImages, found: Audit) -> dict[str, Any]:
    """Accuracies in the known groups on images left out of the fit: before the repair and after."""
    from torchnle.methods.texplain.repair.groups import cells
    from torchnle.methods.texplain.repair.outcome import outcome
    from torchnle.methods.texplain.repair.refit import refit_last_layer

    labels = found.labels
    contexts = torch.tensor([each.context for each in listed.images])
    pseudo = cells(labels, found.shortcuts.context_class)
    held = torch.rand(len(labels), generator=torch.Generator().manual_seed(0)) < 0.5
    known = labels * len(listed.context_names) + contexts
    results: dict[str, Any] = {}
    for name, groups in (("before", None), ("after", pseudo[~held])):
        layer = refit_last_layer(rows[~held], labels[~held], len(listed.class_names), groups=groups).layer
        results[name] = vars(outcome(layer(rows[held]).argmax(dim=1), labels[held], known[held]))
    results["names"] = [f"{c}, {g}" for c in listed.class_names for g in listed.context_names]
    return results


def _lines(found: Audit, data: dict[str, Any]) -> str:
    lines = [
        str(found),
        f"first word not of the class: {data['first word not of the class']:.0%} of the images",
    ]
    for name in ("before", "after") if "groups" in data else ():
        by = data["groups"][name]
        lines.append(
            f"{name} the repair: worst group {by['worst']:.1%}, average {by['average']:.1%} (held-out half)"
        )
    if "challenge" in data:
        known = data["challenge"]
        lines.append(
            f"right answers {known['accuracy']:.1%}, with the objects hidden {known['only_background']:.1%}; "
            f"the same answer {known['same_answer']:.1%}"
        )
    return "\n".join(lines)


def _challenge(
    options: argparse.Namespace,
    lang: LanguageAttribution,
    backbone: backbones.Backbone,
    listed: LabelledImages,
    labels: Tensor,
    layer: Callable[[Tensor], Tensor],
    rows: Tensor,
) -> dict[str, Any]:
    """The background challenge: answers to the images, and to them with their objects hidden."""
    from torchnle.methods.texplain.audit.challenge import challenge, hide_objects

    masks = read_masks(options.masks, listed, options.folder)
    hidden = []
    for each, mask in zip(listed.images, masks, strict=True):
        pixels = torch.from_numpy(np.array(each.image)).permute(2, 0, 1)[None]
        covered = hide_objects(pixels.float(), torch.from_numpy(mask)[None])[0]
        hidden.append(Image.fromarray(covered.permute(1, 2, 0).byte().numpy()))
    without = torch.cat(list(_rows(lang, backbone, hidden)))
    found = challenge(layer(rows), layer(without), labels)
    tops = {"top": found.top, "top with objects hidden": found.top_background}
    return {
        **{name: getattr(found, name) for name in ("accuracy", "only_background", "same_answer")},
        **{
            name: [
                {listed.class_names[c]: p for c, p in zip(classes, shares, strict=True)}
                for classes, shares in zip(*(each.tolist() for each in top), strict=True)
            ]
            for name, top in tops.items()
        },
    }


def _write(options: argparse.Namespace, listed: LabelledImages, found: Audit, data: dict[str, Any]) -> None:
    sections = []
    against = found.shortcuts.conflict_scores
    for label, each in enumerate(found.shortcuts.classes):
        top = found.of_class(label)
        own = [word.text for word in top if label in found.class_words.about(word.text)]
        bars = plot_bars(
            [word.text for word in top],
            [word.frequency for word in top],
            [(word.low, word.high) for word in top],
            own=own,
            title=f"dominant words of {each.class_name}",
        )
        order = torch.where(found.labels == label, against, -torch.inf).argsort(descending=True)
        pictures = [
            (listed.images[i].image, f"an image of {each.class_name} whose context contradicts it")
            for i in order[: min(6, each.conflicting)].tolist()
        ]
        rows: list[list[str | float]] = [
            [word.word, word.kind, word.dataset, word.low] for word in each.words
        ]
        verdict = each.verdict
        if each.tested:
            verdict += f" (model {each.model:.2f}, at least {each.model_low:.2f})"
        header = ["context word", "kind", "data", "at least"]
        figures = [(bars, "bars of words"), *_cloud(found, label, own)]
        sections.append(Section(each.class_name, verdict, header, rows, figures, pictures))
    introduction = _INTRODUCTION.format(
        model=options.model, count=len(listed.images), classes=len(listed.class_names)
    )
    if "challenge" in data:
        introduction += " " + _lines(found, data).splitlines()[-1].capitalize() + "."
    page = write_page(
        options.output / "audit.html", f"Audit of {options.folder.name}", introduction, sections
    )
    say(f"report: {page}")


def _cloud(found: Audit, label: int, own: Sequence[str]) -> list[tuple[Figure, str]]:
    """The cloud of a class's words, where wordcloud is installed and a word has a score."""
    scores = {word.text: word.score for word in found.of_class(label, 40) if word.score > 0}
    if find_spec("wordcloud") is None or not scores:
        return []
    title = f"words of {found.class_words.class_names[label]}"
    return [(plot_cloud(scores, own=own, title=title), "cloud of words")]
