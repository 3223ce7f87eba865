"""Lets `python -m t5like` be the command."""

import sys

from t5like.cli import main

sys.exit(main())
