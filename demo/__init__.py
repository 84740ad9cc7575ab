"""The demonstration: real data, real servers, one command."""
