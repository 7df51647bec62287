"""The command line: words become a recipe's arguments."""
