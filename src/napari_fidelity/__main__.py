"""``python -m napari_fidelity``: the command line."""

import sys

from napari_fidelity.cli import main

if __name__ == "__main__":
    sys.exit(main())
