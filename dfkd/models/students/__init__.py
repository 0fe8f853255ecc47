"""Student kinds, one module each: ``Options`` and ``build(options, context)``."""
