"""Members beside non-members: do scores tell them apart, and does anything follow from it?

`audit_members` reads both sides, `save` writes what it found into a folder.
"""

from auditor.membership.membership_audit import MembersReport, audit_members
from auditor.membership.output import save

__all__ = ["MembersReport", "audit_members", "save"]
