"""SoundCTM: one network that jumps from any noise level t to any s of a guided diffusion trajectory."""

import os

__version__ = "0.1.0"

# Official builds of ONNX Runtime report their use to their maker, and keep a device's id in the user's cache, unless
# this is set before they are imported. What is made here is nobody else's business.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
