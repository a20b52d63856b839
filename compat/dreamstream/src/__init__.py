"""Put the folder above on PYTHONPATH, and DreamStream's own imports work."""
