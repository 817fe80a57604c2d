"""The system's clock jumps, while clips are made, deleted and brought back."""

from __future__ import annotations

import threading

from faults import crowd, faulty_daemon
from faults.processes import process
from faults.scale import Scale
from faults.told import Told, losses
from running_daemon import RunningDaemon, steered
from soundgen import paths
from soundgen.client import Client


def jumps(scale: Scale) -> list[str]:
    """See faults.points.clock_jumps. A deleted clip stays in the trash, a clip with a deadline comes in time."""
    told = Told()
    with process("faults.faulty_daemon", faulty_daemon.CLOCK, "0", scale.engine), Client() as client:
        deleted = crowd.follow(client.generate("rain", seconds=crowd.SECONDS), told)
        assert deleted is not None
        told.ready[deleted.id] = client.delete_clip(deleted.id)
        work = threading.Thread(target=crowd.run, args=(scale.clips, told))
        work.start()
        crowd.follow(client.generate("rain", seconds=crowd.SECONDS, within_seconds=1.0), told)
        work.join()
        brought_back = client.undelete_clip(deleted.id)
        told.ready[deleted.id] = client.delete_clip(brought_back.id)
        order = [clip.id for clip in client.all_clips()]
    with RunningDaemon(steered()), Client() as client:
        if [clip.id for clip in client.all_clips()] != order:
            told.unexpected.append("the clips are listed in another order")
        return losses(told, client, paths.clips_dir())
