"""``python -m flowgraph`` is the command ``flowgraph``."""

import sys

from .cli import main

sys.exit(main())
