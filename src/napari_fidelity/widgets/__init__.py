"""The napari face: docks over image layers, all heavy work in worker threads.

Modules here import neither torch nor the declarations of methods and operators until a dock needs them.
"""
