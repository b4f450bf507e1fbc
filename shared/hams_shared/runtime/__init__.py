"""Helpers of every HAMS process: options, credentials, logs, lifecycle, child processes, files, back-off."""
