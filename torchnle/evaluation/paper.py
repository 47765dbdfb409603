"""The numbers that the DeViL paper reports (Dani et al. 2023), for comparison."""

from __future__ import annotations

#: Table 2, CLIP-ViT and OPT-125M on CC3M: (dropout, layers) ->
#: BLEU-4, METEOR, ROUGE-L, CIDEr and SPICE, in percent.
TABLE_2 = {
    ("none", "last"): (0.3038, 3.435, 11.76, 4.729, 1.962),
    ("token", "last"): (6.442, 10.34, 25.14, 73.73, 16.86),
    ("token and feature", "last"): (6.623, 10.49, 25.50, 75.88, 17.11),
    ("none", "all"): (7.101, 11.16, 26.62, 82.59, 18.54),
    ("token", "all"): (7.211, 11.09, 26.70, 83.32, 18.48),
    ("token and feature", "all"): (7.506, 11.22, 26.82, 86.29, 18.37),
}
#: Table 4, CC3M: (model, layer) -> adjectives and verbs in percent, different words, CIDEr in percent.
TABLE_4 = {
    ("CLIP-ViT", 9): (6.37, 6.30, 4790, 61.6),
    ("CLIP-ViT", 6): (7.60, 5.78, 4115, 44.1),
    ("CLIP-ViT", 3): (8.04, 5.24, 2554, 20.2),
    ("CLIP-ResNet50", 49): (6.30, 6.66, 5228, 71.2),
    ("CLIP-ResNet50", 39): (6.69, 6.43, 4395, 54.1),
    ("CLIP-ResNet50", 21): (6.89, 5.90, 3374, 34.6),
}
#: Figure 7 has no numbers; this is section 4.3's statement.
FIGURE_7 = (
    "Descriptions of L21 best match 64x64 patches, and this shifts progressively to L49, which fits best to "
    "the full image (CLIP-ResNet50, which is also the judge)."
)
#: Tables 3 and 6, the mean BERTScore over MILANNOTATIONS' 13 experiments (roberta-large, rescaled).
MILANNOTATIONS = {"MILAN": 0.362, "ClipCap": 0.381, "DeViL": 0.382}
