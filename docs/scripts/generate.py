"""Make one clip and fetch it: python generate.py "heavy rain on a tin roof" rain.wav"""

import sys
from pathlib import Path

from soundgen.client import connect

prompt, file = sys.argv[1], Path(sys.argv[2])
with connect() as client:  # starts the daemon if none runs
    clip = client.generate(prompt, seconds=4).clip()
    client.download(clip.id, file)
print(f"{file}: {clip.seconds:.2f} s, seed {clip.recipe.seed}, id {clip.id}")
