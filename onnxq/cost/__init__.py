"""What running a node costs: counted, by makers' figures, or by the times of a device."""
