"""Calibration: data in, method-free histograms (Stats), ranges read off them (Ranges)."""
