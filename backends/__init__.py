"""The same network in each framework, a folder each: `scratch` is what is taught."""
