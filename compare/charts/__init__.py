"""The reports' charts: matplotlib draws each once, for the page and as an SVG and a PNG file of its own."""
