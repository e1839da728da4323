"""What gRPC's calls stand on, whether threads make them or an event loop does."""
