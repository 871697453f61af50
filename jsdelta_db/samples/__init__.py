"""One attack's samples as chunk files and rows: written, read back, chosen, exported, drawn."""
