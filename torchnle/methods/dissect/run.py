"""`dissect`: label a layer's units, from a model and some images."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor
from tqdm import tqdm

from torchnle.language.text_encoder import TextEncoder
from torchnle.methods.aligned.translator import MapTranslator
from torchnle.methods.dissect.candidates.captioners import Captioner, TranslatorCaptioner
from torchnle.methods.dissect.candidates.proposers import CaptionAndSummarise, Proposal, Proposer
from torchnle.methods.dissect.candidates.summarisers import Extractive, Summariser
from torchnle.methods.dissect.colouring import Colouring
from torchnle.methods.dissect.exemplars.exemplar import exemplars
from torchnle.methods.dissect.exemplars.pool import UnitRunner, with_crops
from torchnle.methods.dissect.labellers.labelled import labelled
from torchnle.methods.dissect.labellers.rank_texts import UnitReading
from torchnle.methods.dissect.labels import Dissection, Origin, UnitLabel
from torchnle.methods.dissect.probing.images import ProbingSet, Transform, as_probing_set
from torchnle.methods.dissect.probing.probe import EvidenceLayer, probe
from torchnle.methods.dissect.probing.record import LayerRecord
from torchnle.methods.dissect.probing.settings import ProbeSettings
from torchnle.methods.dissect.probing.store import key_of
from torchnle.methods.dissect.probing.units import Units
from torchnle.methods.dissect.proposals import ProposalLog
from torchnle.methods.dissect.ranking import ranked_candidates
from torchnle.methods.dissect.selection.scoring import Scoring
from torchnle.methods.dissect.selection.select import Selection
from torchnle.methods.dissect.selection.several import SAME, distinct
from torchnle.methods.dissect.selection.sources import ImageSource
from torchnle.methods.dissect.source_of_words import name_of, words_for
from torchnle.public_calls import own_defaults
from torchnle.translators.base import Translator
from torchnle.types import Labeller, Layer
from torchnle.vision import taps
from torchnle.vision.reading import Reading
from torchnle.vision.taps import Tap

#: A label is reliable whose correlation with the activation is so many standard errors above zero.
RELIABLE = 4.0
#: A table of every image's activations and features is kept up to so many images.
_TABLE = 8192
#: Images whose statistics a map that is fitted on the spot takes over.
_SHOWN = 64


@dataclass(frozen=True)
class DissectSettings:
    """The settings of how candidate labels are generated and selected.

    Args:
        candidates: The number of summaries per unit (the paper's N).
        correlated: The number of phrases of the translator's vocabulary that are added to each unit's
            candidates by the correlation of their scores with its activation over the probing set; as many
            are added by their combined fit to correlation and exemplars (`fits`).
        labels: The largest number of labels per unit (A.7).
        same: The cosine above which two labels count as synonyms.
        crops: Add attention crops to the exemplars (A.1.1); takes some dozens of runs of the model per unit.
        colours: Add the colour that exemplars share, and contrast images lack, to the label.
        final: The number of candidates per unit for which the image source gives images.
        scoring: The scoring function of these images (A.1.5).
        labeller: Another labelling method on the same record; None = Describe-and-Dissect. The words and
            weights of "linear" are the unit's `labels`.
        seed: The seed of shuffled captions, sampling and image sources.

    Raises:
        ValueError: If a number is not positive.

    Example:
        >>> DissectSettings(labels=3).labels
        3
    """

    candidates: int = 5
    correlated: int = 3
    labels: int = 1
    same: float = SAME
    crops: bool = False
    colours: bool = False
    final: int = 5
    scoring: Scoring = "top squared"
    labeller: Labeller | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("candidates", "labels", "final"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}; pass a positive number.")
        if self.labeller is not None and self.labeller not in get_args(Labeller):
            raise ValueError(f"labeller={self.labeller!r}; pass one of {list(get_args(Labeller))}, or None.")


@own_defaults
def dissect(
    model: Any,
    layer: Layer | Tap,
    probing_set: ProbingSet | str | os.PathLike[str] | Sequence[Any],
    *,
    transform: Transform | None = None,
    class_names: Iterable[object] | None = None,
    translator: Translator | str | None = None,
    evidence_layer: str | None = None,
    units: Units | None = None,
    only: Sequence[int] | None = None,
    captioner: Captioner | None = None,
    summariser: Summariser | None = None,
    proposer: Proposer | None = None,
    images_of: ImageSource | None = None,
    probing: ProbeSettings | None = None,
    settings: DissectSettings | None = None,
    reading: Reading | None = None,
    cache: str | os.PathLike[str] | None = None,
    progress: bool = False,
) -> Dissection:
    """Label the units of a layer in words, by the images that activate them (Describe-and-Dissect).

    One pass over the probing set finds each unit's exemplars; a captioner describes them where the unit is
    active; a summariser proposes candidate labels from the captions. The label is the candidate of best
    combined fit: the correlation of its score with the unit's activation over all images, and its probability
    on the exemplars (`fits`); or, with an image source, the candidate whose images activate the unit most. By
    default the words are those of the classifier's own class names, and everything runs offline.

    Args:
        model: The vision model, unmodified.
        layer: The layer whose units are labelled.
        probing_set: A folder of images, a data set, or a `ProbingSet`.
        transform: Turns an RGB image into the model's input, such as a backbone's `preprocess`.
        class_names: The classifier's class names, to which a map from text into features is fitted.
        translator: A translator or its reference, instead of class names.
        evidence_layer: The translator's layer whose features are described; None = its last.
        units: The definition of the units; None = channels.
        only: The indices of the units to label; None = all.
        captioner: Describes exemplars; None = the translator, at the active locations.
        summariser: Summarises captions as candidate labels; None = extractive, without a language model.
        proposer: Proposes candidate labels from exemplars, instead of captioner and summariser.
        images_of: Returns images of the last few candidates, on which the model is run (the paper's step 3).
        probing: The settings of probing.
        settings: The settings of generating and selecting candidates.
        reading: How to read a layer whose layout is ambiguous.
        cache: A folder for intermediate results, from which a killed run resumes.
        progress: Whether to show progress bars.

    Returns:
        One label per unit; dead units are marked and have none.

    Raises:
        ValueError: If there are too few images, a unit does not exist, or none of `class_names`,
            `translator`,
            `captioner` and `proposer` is given.

    Example:
        >>> found = dissect(model, "layer", list(images), translator=translator, evidence_layer="layer",
        ...                 probing=ProbeSettings(k=2))
        >>> len(found), found[0].text != ""
        (6, True)
    """
    chosen, images = settings or DissectSettings(), as_probing_set(probing_set, transform)
    shown = [] if translator is not None or class_names is None else _spread(images)
    text_source, evidence = words_for(
        model, translator, class_names, evidence_layer=evidence_layer, reading=reading, images=shown
    )
    if text_source is None and proposer is None and captioner is None:
        raise ValueError(
            "there is no source of labels: pass class_names=, translator=, captioner= or proposer=."
        )
    (tap,) = taps.resolve(model, layer)
    probe_settings = _with_table(probing or ProbeSettings(), images)
    folder = None if cache is None else Path(cache)
    record = probe(
        model,
        tap,
        images,
        units=units,
        settings=probe_settings,
        evidence=evidence,
        reading=reading,
        cache=folder,
        progress=progress,
    ).layers[tap.name]
    runner = None
    if images.transform is not None:
        options: dict[str, Any] = {
            "units": units,
            "settings": probe_settings,
            "evidence": evidence,
            "reading": reading,
        }
        runner = UnitRunner(model, tap, images.transform, **options)
    proposes = proposer or _proposer(captioner, summariser, text_source, evidence)
    name = getattr(model, "__name__", type(model).__name__)
    steps = _Steps(record, images, chosen, text_source, evidence, proposes, runner, images_of, progress, name)
    return steps.run(only, folder)


@dataclass
class _Steps:
    """From a probing record to labels."""

    record: LayerRecord
    images: ProbingSet
    settings: DissectSettings
    translator: Translator | None
    evidence: EvidenceLayer | None
    proposer: Proposer
    runner: UnitRunner | None
    images_of: ImageSource | None
    progress: bool
    model: str = ""
    captions: dict[int, list[str]] = field(default_factory=dict)
    correlations: dict[int, float] = field(default_factory=dict)

    def run(self, only: Sequence[int] | None, folder: Path | None) -> Dissection:
        units = list(range(self.record.units)) if only is None else list(only)
        if wrong := [unit for unit in units if not 0 <= unit < self.record.units]:
            raise ValueError(
                f"layer '{self.record.layer}' has {self.record.units} units; {wrong} are not there."
            )
        dead = self.record.dead
        live = [unit for unit in units if not dead[unit]]
        if self.settings.labeller is not None:
            return self._by_labeller(self.settings.labeller, units, live)
        self._caption_together(live)
        log = self._log(folder)
        bar = tqdm(live, desc="candidates", unit="unit", disable=not self.progress)
        proposals = {unit: log.get(unit, partial(self._propose, unit)) for unit in bar}
        ranked = self._ranked(live, {unit: proposal.labels for unit, proposal in proposals.items()})
        selection = self._selection()
        found = [
            self._label(unit, proposals[unit], ranked[unit], selection) if unit in proposals else _dead(unit)
            for unit in tqdm(
                units, desc="selection", unit="unit", disable=not self.progress or selection is None
            )
        ]
        return self._dissection(found)

    def _by_labeller(self, labeller: Labeller, units: Sequence[int], live: Sequence[int]) -> Dissection:
        if self.translator is None or self.evidence is None:
            raise ValueError(f"labeller={labeller!r} ranks words; pass class_names= or translator=.")
        reading = UnitReading(self.record, self.translator, self.evidence.tap.name, live)
        found = {label.unit: label for label in labelled(labeller, reading, self._reliable)} if live else {}
        return self._dissection([found.get(unit) or _dead(unit) for unit in units])

    def _dissection(self, found: Sequence[UnitLabel]) -> Dissection:
        encoder: TextEncoder | None = getattr(self.translator, "encoder", None)
        return Dissection(self.record.layer, found, self.record, self.images, encoder, self._origin)

    @property
    def _origin(self) -> Origin:
        """Name the model and the translator that the labels come from."""
        chosen = "Describe-and-Dissect" + (", chosen by images of the candidates" if self.images_of else "")
        method = self.settings.labeller or chosen
        return Origin(self.model, name_of(self.translator), method, len(self.images))

    def _caption_together(self, live: Sequence[int]) -> None:
        """Caption all units' evidence features in one batch, where the captioner reads nothing else."""
        rows = getattr(getattr(self.proposer, "captioner", None), "rows", None)
        if rows is None or self.settings.crops or self.record.evidence is None or not live:
            return
        evidence = self.record.evidence[list(live)]
        captions = rows(evidence.flatten(0, 1))
        k = evidence.shape[1]
        counts = self.record.active.sum(dim=1).tolist()
        self.captions = {unit: captions[i * k : i * k + counts[unit]] for i, unit in enumerate(live)}

    def _propose(self, unit: int) -> Proposal:
        count, seed = self.settings.candidates, self.settings.seed
        if unit in self.captions and isinstance(self.proposer, CaptionAndSummarise):
            return self.proposer.summarise(self.captions[unit], count, seed)
        shown = exemplars(self.record, unit, self.images)
        if self.settings.crops:
            if self.runner is None:
                raise ValueError("crops are run through the model; pass transform=.")
            shown = with_crops(shown, unit, self.runner, count=len(shown))
        return self.proposer(shown, count, seed)

    def _ranked(
        self, live: Sequence[int], candidates: Mapping[int, Sequence[str]]
    ) -> dict[int, list[tuple[str, float]]]:
        layer = None if self.evidence is None else self.evidence.tap.name
        more = self.settings.correlated
        found = ranked_candidates(self.translator, layer, self.record, live, candidates, more=more)
        self.correlations = {unit: each.correlation for unit, each in found.items()}
        return {unit: each.texts for unit, each in found.items()}

    def _selection(self) -> Selection | None:
        if self.images_of is None:
            return None
        if self.runner is None:
            raise ValueError("images of candidates are run through the model; pass transform=.")
        given = {"scoring": self.settings.scoring, "final": self.settings.final, "seed": self.settings.seed}
        return Selection(self.images_of, self.runner, **given)  # type: ignore[arg-type]

    def _label(
        self,
        unit: int,
        proposal: Proposal,
        ranked: list[tuple[str, float]],
        selection: Selection | None,
    ) -> UnitLabel:
        images = tuple(self.record.images[unit][self.record.active[unit]].tolist())
        fit = self.correlations.get(unit, 0.0)
        common: dict[str, Any] = {"captions": proposal.captions, "images": images, "note": proposal.note}
        if not ranked:
            return UnitLabel(unit, "", 0.0, reliable=False, **common)
        reliable = self._reliable(fit)
        if selection is not None:
            evidence = None if self.record.evidence is None else self.record.evidence[unit]
            scores = selection.rank(unit, [text for text, _ in ranked], evidence).tolist()
            pairs = zip((text for text, _ in ranked), scores, strict=True)
            ranked = sorted(pairs, key=lambda pair: -pair[1])
        labels = [(self._coloured(unit, text), score) for text, score in self._several(ranked)]
        text, score = labels[0]
        return UnitLabel(unit, text, score, tuple(labels), tuple(ranked), fit, reliable=reliable, **common)

    def _several(self, ranked: list[tuple[str, float]]) -> list[tuple[str, float]]:
        if self.settings.labels == 1 or len(ranked) == 1:
            return ranked[:1]
        encoder = getattr(self.translator, "encoder", None)
        if encoder is None:
            return ranked[: self.settings.labels]
        scores = torch.tensor([score for _, score in ranked])
        vectors = encoder.encode([text for text, _ in ranked])
        return [ranked[i] for i in distinct(scores, vectors, self.settings.labels, same=self.settings.same)]

    def _coloured(self, unit: int, text: str) -> str:
        if not self.settings.colours:
            return text
        if self.runner is None or self.evidence is None or not isinstance(self.translator, MapTranslator):
            raise ValueError("colours need a map from text into features, and transform=.")
        name = self.evidence.tap.name
        return Colouring(self.translator, name, self.record, self.images, self.runner)(unit, text)

    def _reliable(self, score: float) -> bool:
        if self.evidence is None or not isinstance(self.translator, MapTranslator):
            return True
        count = float(self.record.streams.sums.total()["count"])
        return bool(score * count**0.5 >= RELIABLE)

    def _log(self, folder: Path | None) -> ProposalLog:
        """Return the log that keeps candidates, where the proposer says what they depend on."""
        mark = getattr(self.proposer, "fingerprint", None)
        if folder is None or mark is None:
            return ProposalLog(None)
        settings = replace(self.settings, labels=1, same=SAME, final=1, colours=False, correlated=0)
        names = [self.record.layer, self.images.fingerprint, self.record.images.tolist(), self.captions]
        return ProposalLog(folder / f"{key_of([mark, settings, names])[:32]}.candidates.jsonl")


def _proposer(
    captioner: Captioner | None,
    summariser: Summariser | None,
    translator: Translator | None,
    evidence: EvidenceLayer | None,
) -> Proposer:
    if captioner is None and translator is not None and evidence is not None:
        captioner = TranslatorCaptioner(translator, evidence.tap.name)
    if captioner is None:
        raise ValueError("a summariser needs captions; pass captioner=, translator= or class_names=.")
    return CaptionAndSummarise(captioner, Extractive() if summariser is None else summariser)


def _with_table(settings: ProbeSettings, images: ProbingSet) -> ProbeSettings:
    """Keep every image's activations where there are few images."""
    return settings if settings.table or len(images) > _TABLE else replace(settings, table=True)


def _spread(images: ProbingSet) -> list[Tensor]:
    """Some images from all over the probing set; unreadable ones are passed over."""
    step = max(1, len(images) // _SHOWN)
    found = []
    for number in range(0, len(images), step):
        try:
            found.append(images.tensor(number))
        except ValueError:  # noqa: PERF203
            continue
    return found


def _dead(unit: int) -> UnitLabel:
    note = "the unit never became active on the probing set"
    return UnitLabel(unit, "", 0.0, dead=True, reliable=False, note=note)
