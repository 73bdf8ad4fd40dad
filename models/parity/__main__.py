"""`python -m models.parity DIR` (harness.py)."""

import sys

from models.parity.harness import main

if __name__ == "__main__":
    sys.exit(main())
