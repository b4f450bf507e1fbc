"""The paired performance check: this tree against another commit, in turns."""
