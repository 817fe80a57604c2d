"""Hear eight takes of a prompt at once, refine the best: python variations.py "dog barks" """

import sys

from soundgen.client import connect

with connect() as client:
    takes = client.generate_variations(sys.argv[1], 8, seconds=2).clips()
    for take in takes:
        print(f"{take.path}: seed {take.recipe.seed}, peak {take.peak_dbfs:.1f} dBFS")
    best = max((take for take in takes if not take.findings), key=lambda take: take.peak_dbfs, default=takes[0])
    refined = client.refine(best.id, steps=16).clip()
print(f"refined seed {best.recipe.seed}: {refined.path}")
