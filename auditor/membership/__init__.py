"""Membership audits: do scores distinguish members from non-members, and is the evidence valid?

`audit_members` compares both sides, `save` writes the result into a folder.
"""

from auditor.membership.membership_audit import MembersReport, audit_members
from auditor.membership.output import save

__all__ = ["MembersReport", "audit_members", "save"]
