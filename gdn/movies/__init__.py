"""Movies: the drift of the specimen between frames, and images of a frame made with its
neighbours."""
