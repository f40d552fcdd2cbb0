"""Random programs of one data type against a stock server and durakv: ``python -m tests.commands.campaign --help``."""
