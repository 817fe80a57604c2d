"""What can go wrong in an export, by name."""

from __future__ import annotations

from soundctm.errors import SoundCTMError


class ExportError(SoundCTMError):
    """Nothing was written."""

    reason = "EXPORT_FAILED"


class OutputFolderError(ExportError):
    """The folder exists, or cannot be written."""

    reason = "EXPORT_FOLDER"


class OutputSpaceError(ExportError):
    """The disk has no room."""

    reason = "DISK_FULL"


class OpsetError(ExportError):
    """ONNX Runtime or the exporter does not know the opset asked for."""

    reason = "EXPORT_OPSET"


class PrecisionError(ExportError):
    """ONNX Runtime, as installed, cannot multiply in the precision asked for."""

    reason = "EXPORT_PRECISION"


class BakedShapeError(ExportError):
    """A graph holds as a constant what must vary."""

    reason = "EXPORT_BAKED_SHAPE"


class ParityError(ExportError):
    """A graph does not compute what PyTorch computes."""

    reason = "EXPORT_PARITY"


class MissingPackageError(ExportError):
    """A package that only exports need is not installed."""

    reason = "EXPORT_PACKAGE_MISSING"
