"""The stages of an audit, one module each; `auditor.audit.pipeline` runs them in order."""
