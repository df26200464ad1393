"""The shared vocabulary: options, steps, errors, arrays, devices. Imports nothing else of the package."""
