"""Reports: frames in, tables, figures and pages out.

This storey knows pandas, jinja2 and matplotlib, and `attacks` for statistics. It imports nothing
of `auditor`.
"""
