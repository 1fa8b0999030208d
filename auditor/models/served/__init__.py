"""Models behind an HTTP server with an OpenAI-compatible API."""
