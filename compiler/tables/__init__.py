"""Table codecs and captures: what both halves read and write. Nothing heavy is imported here."""
