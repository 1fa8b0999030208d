"""The stages of an audit, one a module; `auditor.audit` puts them in order."""
