"""OpenAI's own clients, unchanged."""
