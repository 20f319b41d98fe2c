"""Many seeds of faults and of members that lie, on virtual clocks."""
