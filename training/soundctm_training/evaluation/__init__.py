"""Judging a model: held-out prompts, an independent classifier, and preview-to-refine retrieval."""
