"""The best take that can be had in so many seconds: python deadline.py "thunder" 0.5"""

import sys

from soundgen.client import connect

prompt, seconds = sys.argv[1], float(sys.argv[2])
with connect() as client:
    clip = client.generate(prompt, within_seconds=seconds, steps=16).clip()
print(f"{clip.recipe.steps} jumps in {clip.render_seconds:.2f} s: {clip.path}")
