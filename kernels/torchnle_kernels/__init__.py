"""The operators of torchnle: plain-PyTorch definitions and, where they pay, Triton kernels."""
