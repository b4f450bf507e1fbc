"""What every process of HAMS needs: options, credentials, logs, lifecycle, child processes."""
