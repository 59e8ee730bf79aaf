"""The studio: a web page for masks, served from one's own machine.

`sam2.studio.server.run` serves; `sam2.studio.app.create_app` makes the application. Neither imports torch
until the page can be reached.
"""
