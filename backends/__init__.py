"""One model, implemented in five frameworks. Start with a framework's `scratch` module."""
