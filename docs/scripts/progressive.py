"""Refine a clip until another take hardly changes it: python progressive.py CLIP_ID"""

import sys

import numpy as np
import soundfile

from soundgen.client import connect
from soundgen.types import ClipReady

GOOD_ENOUGH = 0.05  # mean difference between two takes, as a part of the sound's own mean

with connect() as client:
    before, _ = soundfile.read(client.clip(sys.argv[1]).path)
    for event in client.refine_progressively(sys.argv[1]):
        if isinstance(event, ClipReady):
            take, _ = soundfile.read(event.clip.path)
            change = np.abs(take - before).mean() / np.abs(take).mean()
            print(f"{event.clip.recipe.steps} jumps, {100 * change:.0f} % other than before: {event.clip.path}")
            if change < GOOD_ENOUGH:
                break  # ends the call: further takes are not made
            before = take
