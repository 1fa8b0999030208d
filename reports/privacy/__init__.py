"""Personal data in generated text: found by rules, counted by kind, and masked.

`finding` finds it, `redaction` masks it in texts and frames, and `items` defines the kinds.
"""

from reports.privacy.finding import find_personal
from reports.privacy.items import KINDS, Item
from reports.privacy.redaction import Masked, mask

__all__ = ["KINDS", "Item", "Masked", "find_personal", "mask"]
