"""Models run over samples: sessions, segments, devices, what is kept alive."""
