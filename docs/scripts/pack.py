"""Make a pack from a CSV file with the columns file, prompt, seconds: python pack.py sounds.csv folder"""

import csv
import sys
import time
from pathlib import Path

from soundgen.client import connect
from soundgen.errors import ExhaustedError, GenerationFailedError, InvalidRequestError
from soundgen.formats import export

table, folder = Path(sys.argv[1]), Path(sys.argv[2])
folder.mkdir(parents=True, exist_ok=True)
with connect() as client, table.open(newline="", encoding="utf-8") as rows:
    for row in csv.DictReader(rows):
        file = folder / row["file"]  # .wav, .flac, .aiff, .ogg or .mp3
        while not file.exists():  # a pack that was stopped goes on where it was
            try:
                # batch: whoever waits at a screen goes first
                clip = client.generate(row["prompt"], seconds=float(row["seconds"]), steps=8, batch=True).clip()
                print(export(client, clip.id, file))
            except ExhaustedError as error:  # the queue is full: the daemon says when to come back
                time.sleep(error.retry_after_seconds or 1.0)
            except (GenerationFailedError, InvalidRequestError) as error:
                print(f"{file}: {error}")
                break
