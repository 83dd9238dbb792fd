"""What the commands print: progress, tables, numbers."""
