"""Warning filters, which belong to the whole process."""

from __future__ import annotations

import threading

# Only one thread at a time may change them and put them back.
FILTERS_LOCK = threading.Lock()
