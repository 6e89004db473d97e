"""The client library: ``async with ross.connect() as engine: ...``, on Trio and on asyncio.

Names enter once (``engine.images.get(name)``, ``engine.containers.get(name)``); what comes back are references, whose methods take
no id. Answers are the frozen records of ``ross.model``; failures are the exceptions of ``ross.errors``. Cancelling a call cancels it in
the daemon.
"""

from ross.client.connection import Pending
from ross.client.containers import Container, Containers, Process
from ross.client.engine import Engine, connect
from ross.client.images import Completed, Image, Images
from ross.client.snapshots import Snapshots

__all__ = [
    "Completed",
    "Container",
    "Containers",
    "Engine",
    "Image",
    "Images",
    "Pending",
    "Process",
    "Snapshots",
    "connect",
]
