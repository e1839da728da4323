"""Events, turned into what people read."""
