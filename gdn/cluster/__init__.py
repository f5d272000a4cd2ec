"""A lab's cluster: files and structures shared out among the workers of a Dask scheduler (extra
`cluster`)."""
