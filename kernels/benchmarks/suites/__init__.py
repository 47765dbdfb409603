"""The benchmarks, one a file: each yields its jobs, or measures them itself."""
