"""Tag all clips of today whose prompt holds a word, and favour the refined ones: python curate.py rain weather"""

import sys
from datetime import datetime, time

from soundgen.client import connect

word, tag = sys.argv[1], sys.argv[2]
midnight = datetime.combine(datetime.now(), time())
with connect() as client:
    for clip in client.all_clips(text=word, created_after=midnight):
        refined = clip.recipe is not None and clip.recipe.steps > 1
        client.update_clip(clip.id, tags=[*clip.tags, tag], favourite=clip.favourite or refined)
    for clip in client.all_clips(tags=[tag], favourites_only=True):
        print(f"{clip.id}  {clip.title}  {', '.join(clip.tags)}")
