"""The training child: one process that trains one attempt of one job, and tells its supervisor."""
