"""Learning from the recording itself: the shipped restorer is tuned on the counts that it will
restore."""
