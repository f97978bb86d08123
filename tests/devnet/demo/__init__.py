"""The main job on real parts: two nodes serve a real model, and everything that they did is shown and compared."""
