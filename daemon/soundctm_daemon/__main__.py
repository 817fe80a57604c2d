"""`python -m soundctm_daemon`: what a client starts when no daemon runs."""

from soundctm_daemon.cli import app

app(prog_name="python -m soundctm_daemon")
