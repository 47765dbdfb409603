"""Audit and repair of a classifier: its shortcuts in words, and a last layer that relies on them less."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from torchnle.attr.language_attribution import LanguageAttribution
from torchnle.heads.classifier_head import find_head
from torchnle.public_calls import checked
from torchnle.translators.rows import Rows
from torchnle.vision.outputs import logits_of
from torchnle.vision.reading import read, read_with_output

if TYPE_CHECKING:
    from torchnle.methods.texplain.audit.run import Audit


@checked
@torch.no_grad()
def audit(
    lang: LanguageAttribution,
    batches: Iterable[tuple[Tensor, Tensor]],
    class_names: Sequence[str],
    *,
    contexts: Sequence[str] | None = None,
    also: Mapping[str, Sequence[str]] | None = None,
    n: int | None = None,
    seed: int = 0,
    logits: Tensor | None = None,
) -> Audit:
    """Find the words that are frequent for a classifier's classes but not about them (TExplain, 4.4).

    Args:
        lang: Reads one layer of the classifier, whose output is a logit per class; or with `logits` one layer
            of any model, for a classifier whose own translator knows few words.
        batches: (images, labels): images as the model of `lang` takes them, (N,) class indices.
        class_names: The classes in plain words ("land bird"), which decide what words are about them.
        contexts: Phrases for the surroundings of objects, compared as they are ("a yellow corner"); with `n`
            by their nouns. None = the shipped list (sky, water, grass, ...).
        also: Further words that are about a class, besides WordNet's, by class name.
        n: The number of sentences to draw for an image; None = a map's phrases by their probabilities.
        seed: The seed of the draws.
        logits: The classifier's logits for all images, in their order, (N, classes), if `lang` reads another
            model.

    Returns:
        An `Audit`, which prints as one verdict per class.

    Raises:
        TypeError: If the translator can neither write nor give probabilities of phrases.
        ValueError: If `lang` reads several layers, there are no images, the model has not a logit per class,
            or a class has fewer than two images.

    Example:
        >>> print(audit(lang, loader, ["land bird", "aquatic bird"]))  # doctest: +SKIP
        land bird: shortcut: forest, tree
        aquatic bird: shortcut: sea, wave
    """
    from torchnle.methods.texplain.audit.run import audit_features
    from torchnle.methods.texplain.words.sentences import Sampling

    if lang.several:
        raise ValueError(f"an audit reads one layer, not {len(lang.taps)}; attach to a single one.")
    if logits is not None:
        _check_names(logits, class_names)
    read_rows, answers, labels = [], [], []
    for x, y in batches:  # the number of names is checked at the first
        features, output = read_with_output(lang.forward_func, lang.taps, x, reading=lang.reading)
        (rows,) = lang._select(features, None, False)[1]
        read_rows.append(rows)
        if logits is None:
            answers.append(logits_of(output, "the model", len(class_names)))
            _check_names(answers[-1], class_names)
        labels.append(y)
    if not read_rows:
        raise ValueError("there are no images to audit; pass batches of (images, labels).")
    return audit_features(
        lang.translator,
        Rows({read_rows[0].layer: torch.cat([x for rows in read_rows for x in rows.tokens.values()])}),
        torch.cat(labels).cpu(),
        (torch.cat(answers) if logits is None else logits).float().cpu(),
        class_names,
        contexts=contexts,
        also=also,
        sampling=None if n is None else Sampling(n, seed=seed),
    )


@checked
@torch.no_grad()
def repair(model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], found: Audit) -> nn.Module:
    """Refit a classifier's last layer so that contexts for and against a class have equal weight.

    Groups are a class and the class that an image's context words indicate (`ShortcutReport.context_class`),
    those of fewer than four images joined (`large_cells`); the penalty of the refit is chosen by the worst of
    them, out of fold.

    Args:
        model: The classifier, which is not changed.
        batches: The (images, labels) that were audited, in the same order.
        found: The audit.

    Returns:
        A copy of the model with another last layer; the same layer if no context indicates another class.

    Raises:
        ValueError: If no linear head is found, it is not a single module, the images are not those of the
            audit, or a class has too few images to choose a penalty with.

    Example:
        >>> better = repair(model, loader, audit(lang, loader, names))  # doctest: +SKIP
    """
    from torchnle.methods.texplain.repair.groups import large_cells
    from torchnle.methods.texplain.repair.refit import refit_last_layer

    rows, labels, head = [], [], None
    for x, y in batches:
        head = find_head(model, x[:2], len(found.class_words.class_names)) if head is None else head
        (features,) = read(model, [head.tap], x, None, head.reading)
        rows.append(head.read(features).rows.float().cpu())
        labels.append(y.cpu())
    if head is None or not torch.equal(torch.cat(labels), found.labels):
        raise ValueError(
            "the images to repair with are not those of the audit; pass the same batches, in their order."
        )
    made = copy.deepcopy(model)
    layer = made.get_submodule(head.head_name) if " + " not in head.head_name else None
    if not isinstance(layer, nn.Linear):
        raise ValueError(f"the head '{head.head_name}' is no single linear layer, so it cannot be refitted.")
    if found.shortcuts.conflicting(found.labels).any():
        groups = large_cells(found.labels, found.shortcuts.context_class)
        refitted = refit_last_layer(torch.cat(rows), found.labels, layer.out_features, groups=groups).layer
        layer.weight.copy_(refitted.weight)
        layer.bias = nn.Parameter(refitted.bias.to(layer.weight))
    return made


def _check_names(logits: Tensor, class_names: Sequence[str]) -> None:
    if logits.ndim != 2 or logits.shape[1] != len(class_names):
        raise ValueError(
            f"{len(class_names)} class names for a model that gives {tuple(logits.shape)} for a batch of "
            f"{len(logits)}; pass one name per logit, in their order."
        )
