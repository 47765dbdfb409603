"""Inference-time prefix tuning, as Zero-shot NLE publishes it (section 3.2 and appendix I)."""
