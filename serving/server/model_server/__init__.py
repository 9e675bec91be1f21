"""A model server that answers like TensorFlow Serving, and needs no TensorFlow for what LiteRT can run."""
