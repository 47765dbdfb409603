"""Model references: one string names a model, `resolve` turns it into files, none of which is ever run."""

from torchnle.hub.references import EFFICIENTNET_LITE0, EFFICIENTNET_LITE2, MINILM, SMOLLM2, resolve
from torchnle.hub.state_dict import load_state_dict

__all__ = ["EFFICIENTNET_LITE0", "EFFICIENTNET_LITE2", "MINILM", "SMOLLM2", "load_state_dict", "resolve"]
