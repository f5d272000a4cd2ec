"""Reading and writing frames with their calibration; the noise estimate; tiling and merging."""
