"""The worker: claims jobs and supervises training children. Only `worker.child` loads torch."""
