"""Captioned audio from anywhere: folders, shards, the synthesiser; and its latents on the disk."""
