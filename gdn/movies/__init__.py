"""Movies: how the specimen drifted from frame to frame, and what the other frames say of each."""
