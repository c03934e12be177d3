"""The API server: OpenAI's files and fine-tuning API. Never loads torch."""
