"""The operators of torchnle: plain-PyTorch definitions and, where they are faster, Triton kernels."""
