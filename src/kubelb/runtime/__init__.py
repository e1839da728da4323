"""What has threads: the background worker, the feed, the three drivers, fork handling."""
