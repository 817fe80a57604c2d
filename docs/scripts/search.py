"""Find stored clips by what they mean, and what is like the nearest: python search.py "a storm" """

import sys

from soundgen.client import connect

with connect() as client:
    hits = client.search_clips(sys.argv[1], limit=5)
    for hit in hits:
        print(f"{hit.similarity:.2f}  {hit.clip.title}  {hit.clip.path}")
    if hits:
        print(f"like {hits[0].clip.title!r}:")
        for hit in client.search_clips(clip_id=hits[0].clip.id, limit=5):
            print(f"{hit.similarity:.2f}  {hit.clip.title}")
