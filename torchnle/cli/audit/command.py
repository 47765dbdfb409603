"""``torchnle audit FOLDER``: the shortcuts of a classifier of a folder's classes, with an HTML report."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from torchnle import backbones
from torchnle.attr import LanguageAttribution
from torchnle.backbones.checkpoint import read_class_names
from torchnle.cli.audit.page import write_report
from torchnle.cli.models import MODEL_HELP, add_model_options, load_named
from torchnle.cli.output import say
from torchnle.data.image_folders import LabelledImages, load_class_folders, read_groups, read_masks
from torchnle.evaluation.audited import Audited, FittedLastLayer, TrainedClassifier, labels_of, pooled
from torchnle.evaluation.subject import CLASS_NAMES, attach

if TYPE_CHECKING:
    from torchnle.methods.texplain.audit.run import Audit

_EPILOG = (
    "With --checkpoint the network itself is audited, on a folder per class that has its name. Else a "
    "last layer is trained on frozen features of --model for the folder's classes, and audited."
)


def add(commands: Any) -> None:
    """Add the command."""
    command = commands.add_parser(
        "audit", help="find the shortcuts of a classifier, in words", epilog=_EPILOG
    )
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
    command.add_argument(
        "--reader",
        metavar="MODEL",
        help=f"another model that the words come from ({MODEL_HELP}), for one whose class names are few",
    )
    command.add_argument(
        "--context",
        action="append",
        metavar="TEXT",
        help="surroundings to look for, in place of the shipped list (sky, grass, ...); repeat for more",
    )
    add_model_options(command)
    command.add_argument("--output", type=Path, metavar="FOLDER", help="write audit.html and audit.json here")
    command.add_argument("--json", action="store_true", help="print JSON instead of lines")
    command.set_defaults(run=_audit)


def _audit(options: argparse.Namespace) -> None:
    from torchnle.evaluation import record
    from torchnle.methods.texplain.audit.run import audit_features
    from torchnle.translators.rows import Rows

    listed = load_class_folders(options.folder)
    if options.groups:
        listed = listed.with_contexts(read_groups(options.groups), options.folder)
    names, labels = _classes(options, listed)
    backbone = load_named(options, names if options.checkpoint else None)
    lang, reader = _reader(options, backbone)
    audited = _audited(options, backbone, lang)
    rows = audited.rows(listed.images)
    if isinstance(audited, FittedLastLayer):
        audited.fit(rows, labels, len(names))
    shared = reader is backbone and isinstance(audited, FittedLastLayer)
    words = rows if shared else pooled(lang, reader, listed.images)
    logits = audited.logits(rows)
    found = audit_features(
        lang.translator,
        Rows({lang.taps[0].name: words[:, None]}),
        labels,
        logits.cpu(),
        names,
        contexts=options.context,
    )
    data = {"folder": options.folder.name, "images": len(labels), **_facts(found)}
    if options.checkpoint:
        data["accuracy"] = float((found.predicted == labels).float().mean())
    if options.groups:
        data["groups"] = _by_group(rows, listed, found, trained=bool(options.checkpoint))
    if options.masks:
        data["challenge"] = _challenge(options, audited, listed, labels, logits)
    say(json.dumps(record.plain(data), indent=1) if options.json else _lines(found, data))
    if options.output:
        page = _write(options, reader, listed, found, data)
        say(f"report: {page}", error=options.json)
        record.write(options.output, "audit", data, _lines(found, data))


def _classes(options: argparse.Namespace, listed: LabelledImages) -> tuple[tuple[str, ...], Tensor]:
    """The names of the classes and the images' labels, before a model is loaded or an image is opened."""
    if options.class_names is None:
        return listed.class_names, torch.tensor([each.label for each in listed.images])
    names = read_class_names(options.class_names)
    return names, labels_of(listed, names)


def _reader(
    options: argparse.Namespace, backbone: backbones.Backbone
) -> tuple[LanguageAttribution[Any], backbones.Backbone]:
    """The attribution that the words come from, and its model."""
    reader = backbones.load(options.reader) if options.reader else backbone
    return attach(reader, options.translator, None), reader


def _audited(
    options: argparse.Namespace, backbone: backbones.Backbone, lang: LanguageAttribution[Any]
) -> Audited:
    if options.checkpoint:
        return TrainedClassifier(backbone)
    return FittedLastLayer(attach(backbone, CLASS_NAMES, None) if options.reader else lang, backbone)


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


def _by_group(rows: Tensor, listed: LabelledImages, found: Audit, *, trained: bool) -> dict[str, Any]:
    """Accuracies in the known groups on images left out of the fit: before the repair and after."""
    from torchnle.methods.texplain.repair.groups import large_cells
    from torchnle.methods.texplain.repair.outcome import outcome
    from torchnle.methods.texplain.repair.refit import refit_last_layer

    labels, names = found.labels, found.class_words.class_names
    contexts = torch.tensor([each.context for each in listed.images])
    held = torch.rand(len(labels), generator=torch.Generator().manual_seed(0)) < 0.5
    pseudo = large_cells(labels[~held], found.shortcuts.context_class[~held])
    known = labels * len(listed.context_names) + contexts
    results: dict[str, Any] = {}
    for name, groups in (("before", None), ("after", pseudo)):
        if trained and groups is None:
            predicted = found.predicted[held]
        else:
            layer = refit_last_layer(rows[~held], labels[~held], len(names), groups=groups).layer
            predicted = layer(rows[held]).argmax(dim=1)
        results[name] = vars(outcome(predicted, labels[held], known[held]))
    results["names"] = [f"{c}, {g}" for c in names for g in listed.context_names]
    results["counts"] = torch.bincount(known[held], minlength=len(results["names"])).tolist()
    return results


def _group_lines(groups: dict[str, Any]) -> list[str]:
    lines = [
        f"{name} the repair: worst group {groups[name]['worst']:.1%}, average {groups[name]['average']:.1%} "
        "(held-out half)"
        for name in ("before", "after")
    ]
    before, after = groups["before"]["by_group"], groups["after"]["by_group"]
    for number in before:
        count = groups["counts"][number]
        change = f"{before[number]:.1%} before, {after[number]:.1%} after, {count} images"
        lines.append(f"  {groups['names'][number]}: {change}")
    return lines


def _lines(found: Audit, data: dict[str, Any]) -> str:
    lines = [str(found)]
    if "accuracy" in data:
        lines.append(f"right answers: {data['accuracy']:.1%} of {data['images']} images")
    flagged = data["first word not of the class"]
    lines.append(f"images whose first word is not about their class: {flagged:.0%}")
    if "groups" in data:
        lines += _group_lines(data["groups"])
    if "challenge" in data:
        lines.append(_challenged(data["challenge"]))
    return "\n".join(lines)


def _challenged(known: dict[str, Any]) -> str:
    return (
        f"right answers {known['accuracy']:.1%}, with the objects hidden {known['only_background']:.1%}; "
        f"the same answer {known['same_answer']:.1%}"
    )


def _challenge(
    options: argparse.Namespace, audited: Audited, listed: LabelledImages, labels: Tensor, logits: Tensor
) -> dict[str, Any]:
    """The background challenge: answers to the images, and to them with their objects hidden."""
    from torchnle.methods.texplain.audit.challenge import challenge, hide_objects

    masks = read_masks(options.masks, listed, options.folder)
    hidden = []
    for each, mask in zip(listed.images, masks, strict=True):
        pixels = torch.from_numpy(np.array(each.image)).permute(2, 0, 1)[None]
        covered = hide_objects(pixels.float(), torch.from_numpy(mask)[None])[0]
        hidden.append(Image.fromarray(covered.permute(1, 2, 0).byte().numpy()))
    names = read_class_names(options.class_names) if options.class_names else listed.class_names
    found = challenge(logits, audited.logits(audited.rows(hidden)), labels)
    tops = {"top": found.top, "top with objects hidden": found.top_background}
    return {
        **{name: getattr(found, name) for name in ("accuracy", "only_background", "same_answer")},
        **{
            name: [
                {names[c]: p for c, p in zip(classes, shares, strict=True)}
                for classes, shares in zip(*(each.tolist() for each in top), strict=True)
            ]
            for name, top in tops.items()
        },
    }


def _write(
    options: argparse.Namespace,
    reader: backbones.Backbone,
    listed: LabelledImages,
    found: Audit,
    data: dict[str, Any],
) -> Path:
    trained = f"A last layer was trained on frozen features of {options.model}"
    subject = f"{options.checkpoint} ({options.arch}) is audited" if options.checkpoint else trained
    more = [f"{_challenged(data['challenge']).capitalize()}."] if "challenge" in data else []
    if "accuracy" in data:
        more.append(f"It answers {data['accuracy']:.1%} of the images rightly.")
    title = f"Audit of {options.folder.name}"
    return write_report(options.output, title, subject, reader.name, listed, found, more)
