"""The experiments of the HAMS paper (SEC 2020), served on emulated devices, and a box that others measured."""
