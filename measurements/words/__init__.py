"""TExplain: its trained translator, and words of latents."""
