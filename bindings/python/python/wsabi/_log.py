"""What goes to the logger ``wsabi``.

Does not know: why.
"""

from __future__ import annotations

import logging
from typing import Any

#: The core's levels, by number.
_LEVELS = {1: logging.ERROR, 2: logging.WARNING, 3: logging.INFO, 4: logging.DEBUG}

_logger = logging.getLogger("wsabi")


def level(logger: logging.Logger | None) -> tuple[logging.Logger, int]:
    """A loop's logger, and the number of the least important level it wants; 0 for none."""
    if logger is None:
        logger = _logger
    elif not isinstance(logger, (logging.Logger, logging.LoggerAdapter)):
        raise TypeError(f"logger must be a logging.Logger or None, not {type(logger).__name__}")
    wanted = [number for number, level in _LEVELS.items() if logger.isEnabledFor(level)]
    return logger, max(wanted, default=0)


def log_to(logger: logging.Logger, number: int, line: str) -> None:
    """A line of the core's log."""
    logger.log(_LEVELS[number], "%s", line)


def callback_failed(name: str, error: BaseException) -> None:
    """An exception in a callback that no ``on_error`` takes."""
    _logger.error("exception in %s", name, exc_info=error)


def connection_failed(url: Any, error: BaseException) -> None:
    """A client's connection that could not be opened, which no ``on_error`` takes."""
    _logger.warning("cannot connect to %s: %s", url, error)
