"""Measurements of a translator: scenes, photographs, class maps, units; faithfulness of concepts."""

from torchnle.evaluation.concept_faithfulness import concept_agreement, control_concepts, decision_lost

__all__ = ["concept_agreement", "control_concepts", "decision_lost"]
