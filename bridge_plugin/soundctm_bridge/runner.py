"""The bridge as a process: the OSC door and the service behind it, until SIGINT or SIGTERM."""

import logging
import signal
import threading
from pathlib import Path
from types import FrameType

from soundctm_bridge.adapters.ardour import ArdourAdapter
from soundctm_bridge.osc import OscServer, send
from soundctm_bridge.service import Service

log = logging.getLogger(__name__)


def run_bridge(port: int, spool: Path, prepared_folder: Path) -> None:
    """Serves OSC on 127.0.0.1:`port` for the Ardour whose hook watches `spool`; returns after SIGINT or SIGTERM.

    Raises PortError when the port is taken.
    """
    service = Service(ArdourAdapter(spool), send, prepared_folder)
    with OscServer(port, service.handle) as server:

        def stop(number: int, frame: FrameType | None) -> None:
            # shutdown() waits for the serving loop, which this very thread runs
            threading.Thread(target=server.shutdown, name="stop").start()

        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, stop)
        log.info("listening for OSC on 127.0.0.1:%d; spool folder %s", server.port, spool)
        server.serve_forever(poll_interval=0.1)
    log.info("finishing what is under way")
    service.close()
