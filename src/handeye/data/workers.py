"""What a worker may take for one episode. The libraries that read damaged files may hang in them or swell; a crew ends
that, and the episode is named."""

from __future__ import annotations

HANG_AFTER = 600.0
"""Seconds. The longest of LIBERO's episodes takes less than one."""

MOST_MEMORY = 4_000_000_000
"""Bytes that a worker may hold after an episode, and half of what it may hold during one. Readers decode up to 2 GB of
pictures."""
