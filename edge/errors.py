"""What can go wrong on the device, with the HTTP status that says so.

EdgeError                 500
├── ModelFileError        503   a model's file is missing, damaged or cannot be run
├── NotFoundError         404   no such model or version
├── RequestError          400   what was sent does not fit the model
└── SettingError          the command line, a taken port, an empty folder
"""

from __future__ import annotations


class EdgeError(Exception):
    """One sentence: what was wrong, the value seen, the remedy."""

    status = 500


class ModelFileError(EdgeError):
    status = 503


class NotFoundError(EdgeError):
    status = 404


class RequestError(EdgeError):
    status = 400


class SettingError(EdgeError):
    pass
