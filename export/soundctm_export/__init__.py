"""The export room: a bundle becomes graphs that other runtimes run."""
