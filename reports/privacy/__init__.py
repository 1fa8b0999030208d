"""Personal data in what a model said: found by rules, counted by kind, and masked.

`finding` looks for it, `redaction` masks it in texts and frames; the kinds are those of `items`.
"""

from reports.privacy.finding import find_personal
from reports.privacy.items import KINDS, Item
from reports.privacy.redaction import Masked, mask

__all__ = ["KINDS", "Item", "Masked", "find_personal", "mask"]
