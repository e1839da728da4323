"""Where Snapshots come from: pure reducers beside the sources that feed them."""
