"""Bring a folder of sound files into the library: python bring_in.py recordings field"""

import sys
from pathlib import Path

from soundgen.client import connect
from soundgen.errors import InvalidRequestError

folder, tag = Path(sys.argv[1]), sys.argv[2]
with connect() as client:
    for file in sorted(folder.iterdir()):
        try:
            clip = client.import_clip(file, tags=[tag])
            print(f"{clip.id}  {clip.label}  {clip.seconds:.2f} s")
        except (InvalidRequestError, OSError) as error:  # no sound file, or a folder
            print(f"{file.name}: {error}")
