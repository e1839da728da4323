"""Which endpoints may be picked: ejection of failing endpoints, slow start of new ones."""
