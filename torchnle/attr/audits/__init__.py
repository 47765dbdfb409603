"""Audits of a classifier: shortcuts found in words, their repair, and answers with objects hidden."""

from torchnle.attr.audits.challenge import background_challenge
from torchnle.attr.audits.shortcuts import audit, repair

__all__ = ["audit", "background_challenge", "repair"]
