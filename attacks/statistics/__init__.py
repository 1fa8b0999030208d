"""Statistics of extraction, membership and exposure: estimates, intervals and tests."""
