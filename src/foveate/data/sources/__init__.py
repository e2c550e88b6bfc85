"""One file per dataset layout; each yields records."""
