"""SoundCTM: one network that jumps from any noise level t to any s of a guided diffusion trajectory."""

__version__ = "0.1.0"
