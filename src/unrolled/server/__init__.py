"""HTTP server: OpenAI's completions, scores, runs in progress, and the page."""
