"""What every other layer stands on: types, contracts, random streams, configuration."""
