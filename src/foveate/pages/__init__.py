"""Self-contained HTML pages: one file, no network; what is put in is escaped."""
