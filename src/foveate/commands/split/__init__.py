"""`foveate split`: patient-grouped lists and nested label fractions."""
