"""``python -m torchnle``: the same as the command ``torchnle``."""

import sys

from torchnle.cli import main

if __name__ == "__main__":
    sys.exit(main())
