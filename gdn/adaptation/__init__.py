"""Learning from the recording itself: the shipped restorer tuned on the very counts it will
restore."""
