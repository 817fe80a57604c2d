"""One module per DAW, all behind the protocol in base.py."""
