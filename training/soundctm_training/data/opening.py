"""The source that a `[data]` table names."""

from __future__ import annotations

from soundctm_training.data.folder import FolderSource
from soundctm_training.data.pools import PoolSource
from soundctm_training.data.procedural import ProceduralSource
from soundctm_training.data.reading import Limits
from soundctm_training.data.settings import DataKind, DataSettings
from soundctm_training.data.sources import Source
from soundctm_training.data.tar_shards import ShardSource


def open_source(settings: DataSettings) -> Source:
    """Raises DataError when the data is not there or is no such data."""
    limits = Limits(settings.shortest_seconds, settings.longest_seconds, 10 ** (settings.silence_db / 20))
    if settings.kind is DataKind.FOLDER:
        return FolderSource.open(settings, limits)
    if settings.kind is DataKind.WEBDATASET:
        return ShardSource.open(settings, limits)
    if settings.kind is DataKind.POOLS:
        return PoolSource.open(settings, limits)
    return ProceduralSource(settings, limits)
