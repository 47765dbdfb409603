"""Side-by-side measurements of torchnle and its peers: ``make bench``."""
