"""Maintenance of a workspace: doctor, check, repair, delete, stats, settings; one file a command."""
