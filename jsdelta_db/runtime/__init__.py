"""The process and the machine beneath: devices, files, leases, seeds, progress, redaction, version."""
