"""Training codecs: the learned Gaussian DAC (losses, discriminators, trainer) and the whitened mel codec."""
