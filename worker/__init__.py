"""The worker: claims jobs and supervises their training children. Only `worker.child` loads torch."""
