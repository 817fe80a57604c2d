"""Ask for a clip and leave; come back for it with its id: python watch.py --ask "thunder", python watch.py CLIP_ID"""

import sys

from soundgen.client import connect
from soundgen.types import JumpDone

with connect() as client:
    if sys.argv[1] == "--ask":
        events = client.generate(sys.argv[2], steps=16, keep=True)
        print(next(events).clip_id)  # the first event says that it is queued; with `keep` it goes on without us
    else:
        for event in client.watch(sys.argv[1]):  # a connection that breaks meanwhile is taken up again
            if isinstance(event, JumpDone):
                print(f"jump {event.done} of {event.total}")
        print(client.clip(sys.argv[1]).path)
