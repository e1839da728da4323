"""One table of faults, through every client that a load balancer stands under."""
