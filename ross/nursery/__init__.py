"""Supervision for Trio programs: task handles, a service tree, restarts, bounded cleanup. Knows nothing of containers."""
