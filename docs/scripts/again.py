"""Make a clip again, from its id or from any file it was exported to: python again.py CLIP_ID_OR_FILE"""

import sys
from pathlib import Path

from soundgen.client import connect
from soundgen.errors import PreconditionError
from soundgen.provenance import read_recipe

source = sys.argv[1]
with connect() as client:
    recipe_json = read_recipe(Path(source)) if Path(source).exists() else client.export_recipe(source)
    print(recipe_json)
    try:
        clip = client.rerender(recipe_json).clip()  # the very same sound
    except PreconditionError as error:  # the model has other weights now: another sound, and its findings say so
        print(error)
        clip = client.rerender(recipe_json, allow_other_weights=True).clip()
print(clip.path, *clip.findings)
