"""How bytes reach a provider: one interface, pycurl behind it where it is installed, urllib3 elsewhere."""
