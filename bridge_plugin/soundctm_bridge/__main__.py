"""`python -m soundctm_bridge` is `soundctm bridge`."""

from soundctm_bridge.cli import app

app()
