"""The version of the package, which a module may ask for without loading the rest."""

__version__ = "0.1.0"
