"""gRPC for threads: the channel, its calls that block, its futures, its streams."""
