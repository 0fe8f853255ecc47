"""Everything is in setup.cfg; pip's editable installs want this file beside it."""
from setuptools import setup
setup()
