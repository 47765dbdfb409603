"""The Captum door: attribution classes that speak in words."""
