"""gdn as a plugin of napari: a reader, and a widget that denoises the selected layer. napari finds
both by `napari.json`; nothing else imports this package, which needs the extra `napari`."""
