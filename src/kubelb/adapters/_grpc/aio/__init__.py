"""gRPC for asyncio: the channel, its calls, and what only that has: interceptors on each channel, late writes."""
