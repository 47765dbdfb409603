"""What torchnle promises when things go wrong, and what that costs."""
