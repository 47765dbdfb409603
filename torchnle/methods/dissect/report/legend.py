"""The legend of a dissection's report: where labels come from, and what its columns and pictures show."""

from __future__ import annotations

from html import escape

from torchnle.methods.dissect.labels import Dissection, Origin

_FIT = (
    "the correlation of the label's score with the unit's activation over all probing images, times the "
    "square root of the label's probability where the exemplars are active (of units without locations the "
    "correlation alone)"
)
#: What the score is, by the method of labelling.
SCORES = {
    "Describe-and-Dissect": _FIT,
    "Describe-and-Dissect, chosen by images of the candidates": (
        "how strongly the unit responds to images of the label, on which the model was run"
    ),
    "soft WPMI": "the pointwise mutual information of label and exemplars, weighted by activation",
    "WPMI": "the pointwise mutual information of label and exemplars",
    "nearest text": "the cosine of the label and the unit's mean exemplar, in the space of the features",
    "re-ranking": "log p(label | unit) less 0.2 log p(label)",
    "expected activation": "the activation that a regression expects where the label is said",
    "correlation": "the correlation of the label's score with the unit's activation over all probing images",
    "linear": "the weight of the first word in a sum of words that predicts the activation",
    "masked exemplars": "the score by which the translator describes the mean masked exemplar",
}


def legend(dissection: Dissection) -> str:
    """Write the legend of a dissection as HTML.

    Example:
        >>> print(legend(Dissection("layer", []))[:52])
        <details open><summary>How to read this page</summar
    """
    origin = dissection.origin or Origin()
    rows = [
        (
            "score",
            f"{SCORES[origin.method]}. It orders the candidates of one unit; do not compare units by it",
        ),
        (
            "correlation",
            "of the label's score with the unit's activation over all probing images; by it units may be "
            "compared. 'unreliable': it is within four standard errors of zero, and may be chance",
        ),
        (
            "exemplars",
            "the images that excite the unit most; dark where it is inactive (below Otsu's threshold of its "
            "map). Point at one for its name and activation, click it for all units that it excites",
        ),
        ("candidates", "the texts that the label was chosen from, each with its score"),
        ("dead", "the unit was active in no probing image"),
    ]
    listed = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}.</dd>" for name, text in rows)
    return (
        f"<details open><summary>How to read this page</summary>{_origin(origin)}<dl>{listed}</dl></details>"
    )


def _origin(origin: Origin) -> str:
    facts = {
        "Model": origin.model,
        "words by": origin.translator,
        "labels by": origin.method,
        "probing images": str(origin.images) if origin.images else "",
    }
    told = ", ".join(f"{name}: <b>{escape(value)}</b>" for name, value in facts.items() if value)
    return f"<p>{told}.</p>"
