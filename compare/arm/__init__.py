"""ARM without a device: the edge bundle under an emulator, its answers beside those of this machine."""
