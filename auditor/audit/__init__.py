"""The stages of an audit, one a module; `auditor.audit.pipeline` puts them in order."""
